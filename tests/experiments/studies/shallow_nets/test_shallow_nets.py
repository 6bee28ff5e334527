"""The study of shallow networks runs end to end, and its measures are exact."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.shallow_nets import report
from experiments.studies.shallow_nets.training import PruningComparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["shallow_nets", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "shallow_nets").iterdir()
    return folder


def comparison(**changes):
    fields = {
        "validation": np.array([3.0, 1.0, 2.0, np.inf]),
        "test": np.array([2.0, 4.0, 10.0, np.inf]),
        "pruned_validation": np.array(1.5),
        "pruned_test": np.array(3.0),
        "compute": np.array(0.25),
        "curves": np.zeros((2, 4)),
        "alive": np.zeros((2, 4), bool),
        "bitwise_equal": np.array(True),
    }
    return PruningComparison(**{**fields, **changes})


def test_regret_is_relative_to_the_range_of_finite_losses():
    each = comparison()
    assert each.validation_regret == 0.5 / 2
    assert each.test_regret == (3 - 2) / 8
    assert each.unpruned_test_regret == (4 - 2) / 8


@pytest.mark.parametrize(
    ("curve", "early"), [([3, 1, 2], True), ([1, 3, 2], True), ([3, 2, 1], False)]
)
def test_a_run_is_decided_early_if_its_best_loss_precedes_the_first_pruning(curve, early):
    alive = np.array([[1, 1], [1, 0], [1, 0]], bool)
    curves = np.stack([np.full(3, 5.0), np.array(curve, float)], 1)
    assert comparison(curves=curves, alive=alive).decided_early is early


def test_the_regime_note_counts_tasks_and_names_the_worst():
    means = {
        name: {"starts": report.Means(regret, 0.02, 0.0, 0.2)}
        for name, regret in (("a", 0.005), ("b", 0.3), ("c", 0.1))
    }
    note = report.regime_note("starts", means)
    assert "with 20.0% of the compute (allowed: 25%)" in note
    assert "Validation regret (target: 1%): median 10.0%, worst 30.0% (b), at most 1% on 1" in note
    assert "Test regret: median 2.0%, worst 2.0% (a), at most 1% on 0 of 3 tasks" in note
    assert "without pruning: median 0.0%, worst 0.0% (a), at most 1% on 3 of 3 tasks" in note


def test_the_study_reports_regret_and_compute(folder):
    description = json.loads((folder / "run.json").read_text())
    assert description["status"] == "finished"
    compute = (6 * 64 + 47 + 35) / (8 * 64)  # each rung after five keeps 1 / 1.37, rounded up
    for task in description["results"].values():
        for regime in task.values():
            assert regime["compute"] == pytest.approx(compute)
            assert 0 <= regime["validation_regret"] <= 1
            assert 0 <= regime["unpruned_test_regret"] <= 1
    notes = "\n".join(description["notes"])
    assert "until they are pruned, in 6 of 6 runs" in notes
    rows = [row[0] for row in description["table"]["rows"]]
    assert rows == ["iris", "diabetes", "median", "worst"]
    for name in ("regret", "paths", "curves"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
