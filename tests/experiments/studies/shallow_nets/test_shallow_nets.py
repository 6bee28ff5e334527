"""The study of shallow networks runs from end to end, and its measures are exact."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import shallow_nets
from experiments.studies.shallow_nets import Outcome
from experiments.studies.shallow_nets import tasks as shallow

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, quick_to_compile):
    runs = tmp_path_factory.mktemp("runs")
    main(["shallow_nets", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "shallow_nets").iterdir()
    return folder


def test_twenty_tasks_have_the_parts_they_say():
    assert len(shallow.NAMES) == 20
    for name in ("wine", "moons", "Linnerud", "Friedman 2"):
        task = shallow.task(name)
        rows = np.concatenate([part["x"] for part in (task.train, task.validation, task.test)])
        assert len(np.unique(rows.round(5), axis=0)) >= len(rows) - 1  # a row may be there twice
        np.testing.assert_allclose(task.train["x"].mean(0), 0, atol=1e-5)
        if task.classes:
            assert {*task.train["y"].tolist()} == {*range(task.classes)}
        else:
            np.testing.assert_allclose(task.train["y"].std(0), 1, rtol=1e-5)


def an_outcome(**changes):
    fields = {
        "validation": np.array([3.0, 1.0, 2.0, np.inf]),
        "test": np.array([2.0, 4.0, 10.0, np.inf]),
        "won_validation": np.array(1.5),
        "won_test": np.array(3.0),
        "compute": np.array(0.25),
        "curves": np.zeros((2, 4)),
        "alive": np.zeros((2, 4), bool),
        "same": np.array(True),
    }
    return Outcome(**{**fields, **changes})


def test_regrets_are_shares_of_the_spread_of_those_that_are_finite():
    outcome = an_outcome()
    assert outcome.regret == 0.5 / 2
    assert outcome.test_regret == (3 - 2) / 8
    assert outcome.floor == (4 - 2) / 8


def test_early_is_what_had_its_best_before_anybody_was_pruned():
    alive = np.array([[1, 1], [1, 0], [1, 0]], bool)
    for curve, early in (([3, 1, 2], True), ([1, 3, 2], True), ([3, 2, 1], False)):
        curves = np.stack([np.full(3, 5.0), np.array(curve, float)], 1)
        assert an_outcome(curves=curves, alive=alive).early is early


def test_the_verdict_counts_tasks_and_names_the_worst():
    fixed = {"compute": 0.2, "test_regret": 0.02, "floor": 0.0}
    means = {
        name: {"starts": {"regret": regret, **fixed}}
        for name, regret in (("a", 0.005), ("b", 0.3), ("c", 0.1))
    }
    said = shallow_nets._verdict("starts", means)
    assert "at 20.0% of the compute (allowed: 25%)" in said
    assert "held-out examples (target: 1%): median 10.0%, worst 30.0% (b), at most 1% on 1" in said
    assert "test examples: median 2.0%, worst 2.0% (a), at most 1% on 0 of 3 tasks" in said
    assert "the floor: median 0.0%, worst 0.0% (a), at most 1% on 3 of 3 tasks" in said


def test_the_running_mean_is_exponential_once_it_is_longer_than_its_memory():
    path = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    state = shallow.Averaged.of(np.zeros((3,), np.float32), 0.75)
    for x in path:
        state = state.after(x)
    expected = path[:4].mean(0)  # the first four weigh the same
    for x in path[4:]:
        expected = 0.75 * expected + 0.25 * x
    np.testing.assert_allclose(state.mean, expected, rtol=1e-5)
    without = shallow.Averaged.of(np.zeros(3, np.float32), 0.0)
    np.testing.assert_array_equal(without.after(path[0]).after(path[1]).mean, path[1])


def test_the_rate_falls_as_a_cosine_or_stays():
    steps = np.array([0, 25, 50, 100, 120])
    for falls, expected in ((1.0, (1 + np.cos(np.pi * np.minimum(steps, 100) / 100)) / 2),
                            (0.0, np.ones(5))):  # fmt: skip
        rates = [shallow.falling(0.1, 100, falls)(step) for step in steps]
        np.testing.assert_allclose(rates, 0.1 * expected, atol=1e-8)


def test_the_study_prunes_and_says_so(folder):
    description = json.loads((folder / "run.json").read_text())
    assert description["status"] == "finished"
    compute = (6 * 64 + 47 + 35) / (8 * 64)  # each rung after five keeps 1 / 1.37, rounded up
    for task in description["results"].values():
        for kind in task.values():
            assert kind["compute"] == pytest.approx(compute)
            assert 0 <= kind["regret"] <= 1
            assert 0 <= kind["floor"] <= 1
    notes = "\n".join(description["notes"])
    assert "the losses of the full run to the bit in 6 of 6 runs" in notes
    rows = [row[0] for row in description["table"]["rows"]]
    assert rows == ["iris", "diabetes", "median", "worst"]
    for name in ("regret", "winners", "curves"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
