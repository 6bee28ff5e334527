"""The study of long step sizes runs end to end, and its notes state the right numbers."""

import json
import math

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import step_sizes
from experiments.studies.step_sizes import report
from experiments.studies.step_sizes.methods import SILVER_MEASURED, MethodRun, solvers
from experiments.studies.step_sizes.worst_cases import WorstCases


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["step_sizes", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "step_sizes").iterdir()
    return folder


def test_every_method_is_in_the_table(folder):
    description = json.loads((folder / "run.json").read_text())
    columns, (row, medians) = description["table"]["columns"], description["table"]["rows"]
    assert columns[0] == "problem"
    assert columns[2:-3] == [*solvers()]
    assert row[0] == "Huber, diabetes"
    assert medians[0] == "times fewer than 1/L, median"
    results = description["results"]["Huber, diabetes"]
    measured, silver = results[SILVER_MEASURED], results["silver"]
    assert measured["gradients"] <= silver["gradients"] < 3000
    assert measured["products"] > 0
    assert row[-1] == f"{3000 / measured['gradients']:.1f}"


def test_notes_have_worst_cases_and_missed_targets(folder):
    notes = "\n".join(json.loads((folder / "run.json").read_text())["notes"])
    assert "which is 0.21142 L D^2 / n^log2(1 + sqrt(2))" in notes
    assert "worse than with constant steps: silver 4; anytime never; OBS-F never." in notes
    assert "missed the target within 3,000 gradients" in notes
    assert "count as 3,000: 1/L on Huber, diabetes." in notes


def test_the_figures_are_png_files(folder):
    for name in ("step_sizes", "worst_cases"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_reads_its_results(folder, monkeypatch):
    path = folder / "run.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    for name in ("reference_values", "compute_worst_cases"):
        monkeypatch.setattr(step_sizes, name, lambda *_: pytest.fail("computed again"))
    monkeypatch.setattr(
        step_sizes,
        "solvers",
        lambda: dict.fromkeys(solvers(), lambda *_: pytest.fail("computed again")),
    )
    main(["step_sizes", "--resume", str(folder)])
    after = json.loads(path.read_text())
    assert (after["table"], after["notes"]) == (before["table"], before["notes"])


def problem_result(name, *, constant, constant_measured, silver_measured):
    gradients = {
        "1/L": constant,
        "1/L, measured": constant_measured,
        "silver, measured": silver_measured,
        **dict.fromkeys(report.RIVALS, 50.0),
    }
    runs = {name: MethodRun(count, 3, 1, np.ones(2)) for name, count in gradients.items()}
    return report.ProblemResult(name, 2, runs, budget=1000)


def test_problems_below_the_target_ratio_are_named():
    results = [
        problem_result("easy", constant=100.0, constant_measured=120.0, silver_measured=40.0),
        problem_result("hard", constant=math.inf, constant_measured=600.0, silver_measured=100.0),
        problem_result("medium", constant=600.0, constant_measured=300.0, silver_measured=100.0),
    ]
    ratio, same_l, nesterov, *_, missed = report.comparison_notes(results)
    assert "need 6.0 times fewer gradients" in ratio
    assert ratio.endswith("The ratio is 5 or more on 2 problems and less on: easy (2.5).")
    assert (
        "need 3.0 times as many gradients as guarded silver steps (median; minimum 3.0)" in same_l
    )
    assert "than Nesterov on 1 of 3 problems (easy). Nesterov needs 0.5 times as many" in nesterov
    assert missed.endswith("within 1,000 gradients and count as 1,000: 1/L on hard.")


def test_a_miss_of_guarded_silver_steps_counts_as_the_budget():
    lost = problem_result("lost", constant=100.0, constant_measured=100.0, silver_measured=math.inf)
    assert lost.ratio() == 0.1
    assert "less on: lost (0.1)" in report.comparison_notes([lost])[0]


def test_horizons_worse_than_constant_steps_are_named():
    n = np.arange(1, 5)
    worst = WorstCases(
        exact=True,
        silver=np.array([0.13, 0.09, 0.047, 0.086]),
        anytime=1 / (4 * n + 2) - 1e-3,
        obs_f=1 / (4 * n + 2) - 1e-2,
        silver_sums=n * 1.0,
        obs_f_sums=n * 1.0,
        obs_f_long=1e-4,
        strongly_convex=np.nan,
    )
    theory, horizons, *_ = report.worst_case_notes(worst)
    assert "OBS-F steps differ from it by at most 1.0e-02 L D^2" in theory
    assert horizons.endswith("silver 4; anytime never; OBS-F never.")


@pytest.mark.parametrize(
    ("margin", "words"),
    [("0.9", "in [1, 10], got 0.9"), ("11", "in [1, 10], got 11"), ("nan", "a number, got nan")],
)
def test_a_margin_out_of_range_is_rejected(margin, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["step_sizes", "--margin", margin, "--runs", str(tmp_path)])
    assert f"--margin must be {words}" in " ".join(capsys.readouterr().err.split())
