"""The verdict says first if anything beats the naive forecast."""

from experiments.studies.forecasting.report import verdict
from experiments.studies.forecasting.scores import Score
from experiments.studies.forecasting.skill import Interval


def score(method, low, series="goog", loss="squared error", horizon=1):
    """Returns a score against the naive forecast with this lower end."""
    interval = None if method == "last value" else Interval(low + 0.01, low, low + 0.02)
    return Score(series, loss, method, horizon, 1.0, interval, interval, [])


def test_the_verdict_begins_with_nothing_where_no_interval_is_above_0():
    found = verdict([score("last value", 0.0), score("a", -0.005), score("b", -0.2)])
    assert found.startswith(
        "Nothing beats the naive forecast by squared error: in none of 2 comparisons is the joint "
        "95% interval above 0; the best is a on goog, 1 day ahead: +0.0050 [-0.0050, +0.0150]."
    )


def test_the_verdict_counts_what_beats_the_naive_forecast():
    scores = [
        score("a", 0.1),
        score("b", -0.2),
        score("c", 0.2, horizon=5),
        score("d", float("nan")),
    ]
    found = verdict(scores)
    assert found.startswith("By squared error, 2 of 4 comparisons beat the naive forecast")
    assert "the best is c on goog, 5 days ahead: +0.2100" in found


def test_networks_that_others_train_do_not_count():
    found = verdict([score("a", -0.1), score("network, Adam, cosine", 0.3)])
    assert found.startswith("Nothing beats the naive forecast by squared error: in none of 1 comp")


def test_the_control_does_not_count_as_a_market():
    controls = [score("a", 0.2, "control"), score("a", 0.05, "control", horizon=5)]
    found = verdict([score("a", -0.1), *controls])
    assert found.startswith("Nothing beats the naive forecast")
    assert found.endswith(
        "On the control, which can be forecast, the best skill is "
        "+0.2100 [+0.2000, +0.2200] with a, of 0.2500 possible, 1 day ahead and "
        "+0.0600 [+0.0500, +0.0700] with a, of 0.0844 possible, 5 days ahead."
    )
