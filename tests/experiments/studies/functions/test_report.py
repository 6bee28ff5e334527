"""Settings are chosen on tuning seeds, and the table and notes state the right rates."""

import numpy as np

from experiments.studies.functions import comparison, report
from experiments.studies.functions.methods import Kind, Method, SearchResult
from experiments.studies.functions.settings import ALL_FUNCTIONS, HARD_FUNCTIONS, SETUPS


def search_result(*excess):
    return SearchResult(np.array(excess), np.ones(len(excess)), np.ones(len(excess)))


def test_settings_are_chosen_on_tuning_runs_and_oracles_on_reported_ones():
    a, b = (Method(Kind.ADAM, 100, 1, rate) for rate in (0.1, 0.2))
    table = {a: {"f": search_result(0, 0, 1)}, b: {"f": search_result(1, 1, 0)}}
    assert comparison.best_on_tuning_seeds(table, [a, b], ["f"], 2) == b
    assert comparison.oracle(table, [a, b], "f", 2) == a


def test_the_report_shows_chosen_methods_in_many_dimensions_and_compares_budgets():
    setup = SETUPS["small"]
    failure = {name: search_result(*[1.0] * 60) for name in ALL_FUNCTIONS}
    success = {name: search_result(*[0.0] * 60) for name in ALL_FUNCTIONS}
    table = {candidate.method: failure for candidate in comparison.candidates(setup)}
    table |= {
        Method(Kind.MAGD, 20_000, 768): success,
        Method(Kind.UNPRUNED, 20_000, 64): success,
    }
    chosen = comparison.choose(table, setup)
    methods = [candidate.method for candidate in comparison.high_dimensional(chosen, setup)]
    assert methods == [
        Method(Kind.MAGD, 200_000, 768),
        Method(Kind.UNPRUNED, 200_000, 64),
        Method(Kind.MULTISTART, 200_000, 64, 1e-3),
        Method(Kind.ADAM, 200_000, 1, 1e-3),
    ]
    high_failure = {name: search_result(*[1.0] * 10) for name in HARD_FUNCTIONS}
    high = {method: high_failure for method in methods}  # noqa: C420  (results are not changed)
    results = report.make_results(report.StudyResult(setup, table, chosen, high, {}))
    assert results.columns[:5] == (
        "function",
        "MAGD",
        "64 agents unpruned",
        "16 agents unpruned, 4 x gradients",
        "multistart 0.001",
    )
    rows = {row[0]: row[1:] for row in results.rows}
    assert rows["the hard eight, 2-D"][:3] == ["100 [99, 100]", "100 [99, 100]", "0 [0, 1]"]
    assert rows["schwefel, 20-D"][:5] == ["0 [0, 28]", "0 [0, 28]", "-", "0 [0, 28]", "-"]
    assert "All of them need more than 4 times MAGD's gradients" in "\n".join(results.notes)
