"""The tables state success, counts and ratios to jd.hybrid."""

import numpy as np

from experiments.studies.hybrid import report
from experiments.studies.hybrid.cells import Cell
from experiments.studies.hybrid.settings import Group


def cell(to_target, budget=1_000, cost=3):
    to_target = np.array(to_target)
    solved = to_target > 0
    spent = np.where(solved, to_target, budget)
    excess = np.where(solved, 0, 1.0)
    seconds = np.linspace(9.0, 1.0, len(to_target))
    counts = spent, cost * spent, to_target, cost * to_target
    return Cell(excess, *counts, seconds, np.array(1e-4), coco_error=np.full(len(spent), np.nan))


def study_result():
    group = Group("hard", "2-D", ("ackley", "levy"), 2, 1_000, 3, 3)
    cells = {
        "hybrid": {"ackley": cell([100, 200, 300]), "levy": cell([50, 50, 50])},
        "bipop_cma": {
            "ackley": cell([400, 400, 500], cost=1),
            "levy": cell([0, 0, 70], cost=1),
        },
    }
    return report.GroupResult(group, cells)


def test_rows_have_rates_medians_and_ratios_in_both_countings():
    results = report.make_results([study_result()], ["A note."])
    hybrid, cma = (dict(zip(results.columns, row, strict=True)) for row in results.rows)
    assert hybrid["success, %"].startswith("100 [")
    assert cma["success, %"].startswith("67 [")
    # 3 * 300 and 3 * 50 evaluations are within the budget of 1,000.
    assert hybrid["gradient = 3   "].startswith("100 [")
    assert hybrid["worst function"] == "all 100"
    assert cma["worst function"] == "levy 33"
    assert (hybrid["evaluations to success"], hybrid["gradient = 3"]) == ("75", "225")
    assert (cma["evaluations to success"], cma["gradient = 3"]) == ("400", "400")
    assert hybrid["evaluations per success"] == "125"  # 750 / 6
    assert cma["evaluations per success"] == "842"  # (400 + 400 + 500 + 1000 + 1000 + 70) / 4
    # Only Ackley counts, which both solve in half of the runs: 400 / 200, and 400 / 600.
    assert cma["relative to jd.hybrid"] == "2 (1)"
    assert cma["gradient = 3  "] == "0.67 (1)"
    assert hybrid["seconds"] == "3"  # the median without the first run, 9
    assert results.notes[0] == "A note."


def test_a_table_shows_success_by_function_and_the_verdict_compares_averages():
    results = report.make_results([study_result()], [])
    (by_function,) = results.tables
    assert by_function.rows == [("ackley", "100", "100"), ("levy", "100", "33")]
    assert "jd.hybrid succeeds in 100.0% of the runs" in results.verdict
    assert "the best other method, BIPOP-CMA-ES, in 66.7%" in results.verdict


def test_the_verdict_names_the_variant_with_the_fewest_successes():
    group, cells = study_result()
    variants = {"without_sweeps": [100, 0, 0], "without_points": [100, 100, 0]}
    cells |= {
        name: {"ackley": cell(counts), "levy": cell(counts)} for name, counts in variants.items()
    }
    results = report.make_results([report.GroupResult(group, cells)], [])
    assert "the best other method, BIPOP-CMA-ES, in 66.7%" in results.verdict
    assert "without coordinate searches, the worst variant, in 33.3%" in results.verdict
    assert "Runs per function: hard 2-D: 3 for jd.hybrid and 3 for the others" in results.notes[0]


def test_a_method_that_never_succeeds_has_dashes():
    group = Group("report", "2-D", ("bird",), None, 1_000, 2, 2)
    result = report.GroupResult(group, {"adam": {"bird": cell([0, 0])}})
    (row,) = report.make_results([result], []).rows
    assert row[2].startswith("0 [")
    assert row[5:11] == ("-",) * 6


def test_bbob_has_running_times_and_the_error_relative_to_coco():
    group = Group("bbob_report", "5-D", ("f1",), 5, 1_000, 3, 3, precision=1e-8)
    found = cell([100, 400, 0])._replace(coco_error=np.array([1e-12, np.nan, 2e-12]))
    results = report.make_results([report.GroupResult(group, {"hybrid": {"f1": found}})], [])
    (row,) = results.rows
    assert row[2].startswith("67 [")
    assert row[3].startswith("33 [")  # 3 * 400 exceeds the budget
    times = results.tables[-1]
    assert times.rows == [["f1", "750", "2,250"]]  # (100 + 400 + 1,000) / 2
    assert any("2 runs on BBOB within 2e-12" in note for note in results.notes)
    assert "less than 1e-08 above" in results.notes[0]
    assert "3 for jd.hybrid." in results.notes[0]
