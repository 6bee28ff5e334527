"""The edge of stability study runs, and its numbers and verdicts are exact."""

import json
import types

import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies.edge_of_stability import training
from experiments.studies.edge_of_stability.report import notes_on_scaling, verdicts
from experiments.studies.edge_of_stability.settings import Case
from experiments.studies.edge_of_stability.summary import CaseResult, summarize
from experiments.studies.edge_of_stability.training import ProbeHistory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs, empty = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("empty")
    flags = ["--scale", "smoke", "--seeds", "2", "--data-dir", str(empty), "--runs", str(runs)]
    main(["edge_of_stability", *flags])
    (folder,) = (runs / "edge_of_stability").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_case_has_the_records_of_each_seed(folder):
    found = description(folder)["results"]["32 digits images, GD, rate 0.2"]
    first, second = found["seeds"]
    assert first["step"] == [0, 20, 40]
    assert first["threshold"] == [10.0] * 3
    assert first["sharpness"] != second["sharpness"]


def test_stable_cases_are_not_flagged_and_cifar_is_skipped(folder):
    rows = {(row[1], row[2]): row for row in description(folder)["table"]["rows"]}
    assert rows["GD, rate 0.01", "far below"][-3] == "0 of 2"
    assert rows["GD, scaled to 0.9", "scaled"][-3] == "0 of 2"
    assert "CIFAR-10 is skipped: " in "\n".join(description(folder)["notes"])


def test_the_verdict_on_quadratics_names_wrong_flags():
    states = {
        ratio: types.SimpleNamespace(outcome=outcome)
        for ratio, outcome in ((0.9, 1), (1.1, 3), (3.0, 4))
    }
    (verdict,) = verdicts([], [], states)[-1:]
    assert verdict == "A quadratic is flagged if and only if its ratio exceeds 1."
    states[0.99] = states[1.1]
    states[1.01] = states[0.9]
    assert verdicts([], [], states)[-1].endswith("; not at 0.99, 1.01.")


def test_there_is_a_figure(folder):
    (picture,) = folder.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_reads_saved_results(folder, monkeypatch):
    before = description(folder)
    path = folder / "run.json"
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    monkeypatch.setattr(
        training.ProbedTraining, "_compute", lambda *_: pytest.fail("computed again")
    )
    main(["edge_of_stability", "--resume", str(folder)])
    assert description(folder)["results"] == before["results"]


def history(ratio, reached, outcome=jd.StabilityOutcome.EDGE, last_loss=0.1):
    """Returns the records of 10 probes, 20 steps apart, with a threshold of 5."""
    ratio = np.broadcast_to(ratio, 10)
    return ProbeHistory(
        step=20 * np.arange(10),
        loss=np.linspace(1.0, last_loss, 10),
        learning_rate=np.full(10, 0.4),
        sharpness=5 * ratio,
        residual=np.full(10, 0.05),
        threshold=np.full(10, 5.0),
        converged=np.array([False] + [True] * 9),
        rises=np.linspace(0, 0.9, 10),
        reached=np.int32(reached),
        left=np.int32(-1),
        not_finite=np.int32(-1),
        outcome=np.int32(outcome),
        unconverged=np.int32(1),
    )


def case_result(role, *histories, rate=0.4, fraction=None):
    case = Case("GD", role, None if fraction else rate, fraction)
    return CaseResult("a task", case, histories)


def test_the_ratio_is_the_median_after_the_edge_is_reached():
    risen = np.array([0.1, 0.2, 0.3, 0.4, 1.0, 1.1, 1.0, 1.0, 1.0, 1.2])
    found = summarize(case_result("edge", history(risen, 80), history(1.06, 0)))
    assert found.ratio == pytest.approx(1.06)  # of six below or at 1.1 and ten of 1.06
    assert (found.least, found.greatest) == (pytest.approx(1.0), pytest.approx(1.06))
    assert found.last == pytest.approx(1.06)
    assert found.reached == 40
    assert found.rises == pytest.approx(100 * (sum(range(10)) + sum(range(4, 10))) / 160)
    assert found.loss == pytest.approx(0.1)
    assert found.unconverged == pytest.approx(10.0)
    assert found.residual == pytest.approx(0.05 / (5 * 0.2))
    assert found.as_expected


@pytest.mark.parametrize(
    ("result", "as_expected"),
    [
        (case_result("edge", history(0.949, 0)), False),
        (case_result("edge", history(0.951, 0)), True),
        (case_result("edge", history(1.101, 0)), False),
        (case_result("edge", history(1.0, 0), history(1.0, -1)), False),
        (case_result("edge", history(1.0, 0, jd.StabilityOutcome.DIVERGING)), False),
        (case_result("far below", history(0.5, -1)), True),
        (case_result("far below", history([9.0] + [0.5] * 9, -1)), True),
        (case_result("far below", history([0.5] * 9 + [0.96], -1)), False),
        (case_result("far below", history(0.5, -1, jd.StabilityOutcome.NOT_FINITE)), False),
        (case_result("too large", history(2, 0, 3, 1.1), history(np.nan, 0, 4, np.nan)), True),
        (case_result("too large", history(2, 0, 3, 1.1), history(2, 0)), True),
        (case_result("too large", history(2, 0, 2, 1.1)), False),
        (case_result("too large", history(2, 0, 3, 0.9)), False),
        (case_result("scaled", history(0.9, -1), fraction=0.9), True),
        (case_result("scaled", history(1.0, -1), fraction=0.9), False),
    ],
)
def test_a_case_is_as_expected_or_not(result, as_expected):
    assert summarize(result).as_expected is as_expected
    (verdict,) = [
        text
        for text in verdicts([result], [summarize(result)], {})
        if text.startswith(f"Role {result.case.role}")
    ]
    assert f"in {int(as_expected)} of 1 cases" in verdict
    assert ("not in a task, GD" in verdict) is not as_expected


def test_a_scaled_case_is_compared_with_the_best_fixed_rate():
    found = [
        case_result("edge", history(1.0, 0, last_loss=0.3), rate=0.1),
        case_result("edge", history(1.0, 0, last_loss=0.2), rate=0.2),
        case_result("scaled", history(0.9, -1, last_loss=0.25), fraction=0.9),
    ]
    (note,) = notes_on_scaling(found, [summarize(result) for result in found])
    assert "scaled to 0.9 of the threshold: the last loss is 0.2500" in note
    assert "GD, rate 0.2, it is 0.2000" in note


def test_a_batch_has_the_given_number_of_images():
    batch = training.load_batch("digits", 50)
    assert batch.inputs.shape == (50, 64)
    assert batch.targets.sum() == 50
    assert batch.title == "50 digits images"
    np.testing.assert_array_equal(batch.inputs[:20], training.load_batch("digits", 20).inputs)


@pytest.mark.parametrize(
    ("flags", "words"), [(["--seeds", "0"], "--seeds must be in [1, inf), got 0")]
)
def test_invalid_settings_are_rejected(flags, words, capsys):
    with pytest.raises(SystemExit):
        main(["edge_of_stability", *flags])
    assert words in capsys.readouterr().err
