"""The study of shallow networks runs from end to end, and its measures are exact."""

import json

import numpy as np
import pytest

from experiments import shallow
from experiments.__main__ import main
from experiments.studies import shallow_nets
from experiments.studies.shallow_nets import Outcome

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
    assert outcome.regret == (3 - 2) / 8
    assert outcome.floor == (4 - 2) / 8
    assert outcome.lost == 0.5 / 2


def test_the_verdict_counts_tasks_and_names_the_worst():
    means = {
        name: {"starts": {"compute": 0.2, "regret": regret, "floor": 0.02, "lost": 0.0}}
        for name, regret in (("a", 0.005), ("b", 0.3), ("c", 0.1))
    }
    said = shallow_nets._verdict("starts", means)
    assert "at most 1% on 1 of 3 tasks (the floor: 0; validation loss lost to pruning: 3)" in said
    assert "median 10.0%, worst 30.0% (b), at 20.0% of the compute (allowed: 25%)" in said


def test_the_study_prunes_and_says_so(folder):
    description = json.loads((folder / "run.json").read_text())
    assert description["status"] == "finished"
    # Survivors of 64 at eta 1.3: 50, 39, 30, 24, 19.
    compute = (64 + 50 + 39 + 30 + 24 + 19) / (6 * 64)
    for task in description["results"].values():
        for kind in task.values():
            assert kind["compute"] == pytest.approx(compute)
            assert 0 <= kind["floor"] <= 1
    notes = "\n".join(description["notes"])
    assert "the losses of the full run to the bit in 4 of 4 runs" in notes
    rows = [row[0] for row in description["table"]["rows"]]
    assert rows == ["iris", "diabetes", "median", "worst"]
    for name in ("regret", "winners", "curves"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
