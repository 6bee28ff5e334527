"""The tables, the verdict and the notes of the study of forecasting."""

from collections.abc import Sequence

import numpy as np

from experiments import runner
from experiments.runner.page import Table
from experiments.studies.forecasting.control import best_skill
from experiments.studies.forecasting.evaluation import SeriesFold
from experiments.studies.forecasting.losses import LOSSES
from experiments.studies.forecasting.scores import Score
from experiments.studies.forecasting.settings import HORIZONS, WINDOW
from experiments.studies.forecasting.skill import RESAMPLES, Interval, block_length

CONTROL = "control"


def make_results(folds: Sequence[Sequence[SeriesFold]], scores: Sequence[Score]) -> runner.Results:
    """Returns the tables, the verdict and the notes.

    Args:
      folds: the folds of each series.
      scores: the scores of all methods.
    """
    columns = (
        "series, loss, days ahead",
        "method",
        "loss",
        "better than the naive forecast by",
        "than exponential smoothing by",
        "folds won",
    )
    by_fold = Table(
        (
            "series, loss, days ahead",
            "method",
            *(f"fold {number + 1}" for number in range(len(folds[0]))),
        ),
        [
            (_subject(each), each.method, *map(str, each.by_fold))
            for each in scores
            if each.naive is not None
        ],
        "Better than the naive forecast by, in each fold (single 95% intervals)",
    )
    parts = Table(
        ("series", "fold", "training", "validation", "test", "forecasts"),
        [
            (
                each.series.name,
                str(number + 1),
                *(each.dates(part) for part in range(3)),
                f"{len(each.targets):,}",
            )
            for of_series in folds
            for number, each in enumerate(of_series)
        ],
        "Folds",
    )
    values = {
        "scores": [each._asdict() for each in scores],
        "leak comparisons": sum(each.comparisons for of_series in folds for each in of_series),
    }
    return runner.Results(
        "Forecasting daily returns, walk-forward",
        columns,
        [_row(each) for each in scores],
        _notes(folds),
        values,
        verdict(scores),
        [by_fold, parts],
    )


def verdict(scores: Sequence[Score]) -> str:
    """Returns first if anything beats the naive forecast of market prices, then the rest."""
    sentences = []
    for loss in LOSSES:
        compared = [
            each
            for each in scores
            if each.loss == loss and each.naive is not None and each.series != CONTROL
        ]
        if compared:
            sentences.append(_winners(loss, compared))
    controls = [
        each
        for each in scores
        if each.series == CONTROL and each.loss == "squared error" and each.naive is not None
    ]
    return " ".join([*sentences, *([_control(controls)] if controls else [])])


def _winners(loss: str, compared: Sequence[Score]) -> str:
    winners = [each for each in compared if each.naive and each.naive.low > 0]
    best = max(compared, key=lambda each: np.nan_to_num(_value(each.naive), nan=-np.inf))
    where = f"{best.method} on {best.series}, {_days(best.horizon)}: {best.naive}"
    if not winners:
        return (
            f"Nothing beats the naive forecast by {_named(loss)}: in none of {len(compared)} "
            f"comparisons is the joint 95% interval above 0; the best is {where}."
        )
    names = "; ".join(f"{each.method} on {each.series}, {_days(each.horizon)}" for each in winners)
    return (
        f"By {_named(loss)}, {len(winners)} of {len(compared)} comparisons beat the naive forecast "
        f"with their joint 95% interval above 0 ({names}); the best is {where}."
    )


def _control(controls: Sequence[Score]) -> str:
    found = []
    for horizon in HORIZONS:
        at = [each for each in controls if each.horizon == horizon]
        best = max(at, key=lambda each: np.nan_to_num(_value(each.naive), nan=-np.inf))
        found.append(
            f"{best.method} {best.naive} of {best_skill(horizon):.4f} possible {_days(horizon)}"
        )
    return f"On the control, which can be forecast, the best skill is of {' and of '.join(found)}."


def _named(loss: str) -> str:
    return {"Gaussian": "Gaussian likelihood", "quantiles": "quantile loss"}.get(loss, loss)


def _value(interval: Interval | None) -> float:
    return np.nan if interval is None else interval.value


def _days(horizon: int) -> str:
    return f"{horizon} day{'s' * (horizon > 1)} ahead"


def _subject(score: Score) -> str:
    return f"{score.series}, {score.loss}, {score.horizon}"


def _row(score: Score) -> tuple[str, ...]:
    loss = LOSSES[score.loss]
    wins = sum(each.value > 0 for each in score.by_fold)
    return (
        _subject(score),
        score.method,
        f"{loss.show(score.mean):.4f}",
        "" if score.naive is None else str(score.naive),
        "" if score.smoothing is None else str(score.smoothing),
        "" if score.naive is None else f"{wins} of {len(score.by_fold)}",
    )


def _notes(folds: Sequence[Sequence[SeriesFold]]) -> list[str]:
    checks = sum(each.comparisons for of_series in folds for each in of_series)
    units = "; ".join(f"{name}: {loss.unit}" for name, loss in LOSSES.items())
    days = " and ".join(map(str, HORIZONS))
    lengths = sorted(
        {
            (horizon, block_length(len(each.targets), horizon))
            for of_series in folds
            for each in of_series
            for horizon in HORIZONS
        }
    )
    blocks = "; ".join(f"{length} for {_days(horizon)}" for horizon, length in lengths)
    return [
        f"Forecast is the log return from the close of a day over {days} days, from the last "
        f"{WINDOW} days. The error equals the error of the logarithm of the price. The naive "
        "forecast is the last price, which is a return of 0; for a distribution it is the "
        "distribution of the training part. Exponential smoothing of a distribution is the "
        "exponentially weighted moving volatility. Smoothing constants are fitted to the training "
        "part.",
        f"Losses are on the test parts of all folds ({units}). Scores are 1 - loss / naive loss; "
        "for the Gaussian likelihood, naive loss - loss in nats.",
        f"Intervals are of a circular block bootstrap within folds ({RESAMPLES:,} resamples; "
        f"origins in a block: {blocks}). In the first table the intervals of a loss hold jointly "
        "at 95% (Bonferroni over methods, horizons and series).",
        f"No leak from the future: {checks:,} comparisons of examples and forecasts of references "
        "with their values after later rows, or rows of the part before, were changed; all were "
        "equal to the bit.",
    ]
