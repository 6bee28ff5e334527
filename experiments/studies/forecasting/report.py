"""The tables, the verdict and the notes of the study of forecasting."""

from collections.abc import Sequence

import numpy as np

from experiments import methods, runner
from experiments.runner.page import Table
from experiments.studies.forecasting.calibration import CENTRAL, Calibration
from experiments.studies.forecasting.control import best_skill
from experiments.studies.forecasting.evaluation import SeriesFold
from experiments.studies.forecasting.losses import LOSSES
from experiments.studies.forecasting.recipes import is_joint
from experiments.studies.forecasting.scores import Score
from experiments.studies.forecasting.settings import COMPARED, HORIZONS, WINDOW, Settings
from experiments.studies.forecasting.skill import RESAMPLES, block_length

CONTROL = "control"


def make_results(
    settings: Settings,
    folds: Sequence[Sequence[SeriesFold]],
    scores: Sequence[Score],
    calibrations: Sequence[Calibration],
    compared: Sequence[methods.Contest],
) -> runner.Results:
    """Returns the tables, the verdict and the notes.

    Args:
      settings: the settings.
      folds: the folds of each series.
      scores: the scores of all methods.
      calibrations: the calibration of the methods that forecast distributions.
      compared: the results of all ways to train, on the last fold of each series.
    """
    columns = (
        "series, loss, days ahead",
        "method",
        "loss",
        "better than the naive forecast by",
        "than exponential smoothing by",
        "interval",
        "folds won",
    )
    by_fold = Table(
        (
            "series, loss, days ahead",
            "method",
            *(f"fold {number + 1}" for number in range(len(folds[0]))),
        ),
        [
            (
                _subject(each),
                each.method,
                *("" if fold is None else str(fold) for fold in each.by_fold),
            )
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
    calibration = Table(
        (
            "series, loss, days ahead",
            "method",
            *(f"{high - low:.0%}" for low, high in CENTRAL),
            "mean width of the widest, %",
        ),
        [
            (
                f"{each.series}, {each.loss}, {each.horizon}",
                each.method,
                *map(str, each.coverage),
                f"{100 * each.width:.2f}",
            )
            for each in calibrations
        ],
        "Targets that central intervals cover, in % (single 95% intervals)",
    )
    values = {
        "calibrations": [each._replace(pit=np.zeros(0))._asdict() for each in calibrations],
        "methods": {each.recipe.title: methods.values_of(each) for each in compared},
        "scores": [each._asdict() for each in scores],
        "leak comparisons": sum(each.comparisons for of_series in folds for each in of_series),
    }
    return runner.Results(
        "Forecasting daily returns, walk-forward",
        columns,
        [_row(each) for each in scores],
        [*_notes(settings, folds), *methods.notes_on(compared)],
        values,
        f"{verdict(scores)} {methods.verdict(compared)}",
        [*map(methods.table, compared), by_fold, calibration, parts],
    )


def verdict(scores: Sequence[Score]) -> str:
    """Returns first if anything beats the naive forecast of market prices, then the rest.

    Networks count that tune themselves.
    """
    scores, sentences = [each for each in scores if is_joint(each.method)], []
    for loss in LOSSES:
        of_market = [
            each
            for each in scores
            if each.loss == loss and each.naive is not None and each.series != CONTROL
        ]
        if of_market:
            sentences.append(_winners(loss, of_market))
    controls = [
        each
        for each in scores
        if each.series == CONTROL and each.loss == "squared error" and each.naive is not None
    ]
    return " ".join([*sentences, *([_control(controls)] if controls else [])])


def _winners(loss: str, compared: Sequence[Score]) -> str:
    """Compares the methods with the naive forecast and with exponential smoothing."""
    best = _best(compared)
    count = sum(each.naive is not None and each.naive.low > 0 for each in compared)
    if count:
        said = (
            f"By {_named(loss)}, {count} of {len(compared)} comparisons beat the naive forecast, "
            "with their joint 95% interval above 0"
        )
    else:
        said = (
            f"Nothing beats the naive forecast by {_named(loss)}: in none of {len(compared)} "
            "comparisons is the joint 95% interval above 0"
        )
    others = [each.smoothing for each in compared if each.smoothing is not None]
    above = sum(each.low > 0 for each in others)
    return (
        f"{said}; the best is {best.method} on {best.series}, {_days(best.horizon)}: {best.naive}. "
        f"Of {len(others)} comparisons with {LOSSES[loss].smoothing}, {above} are above 0."
    )


def _control(controls: Sequence[Score]) -> str:
    found = []
    for horizon in HORIZONS:
        best = _best([each for each in controls if each.horizon == horizon])
        found.append(
            f"{best.naive} with {best.method}, of {best_skill(horizon):.4f} possible, "
            f"{_days(horizon)}"
        )
    return f"On the control, which can be forecast, the best skill is {' and '.join(found)}."


def _best(compared: Sequence[Score]) -> Score:
    """Returns the method with the highest score against the naive forecast."""
    values = [np.nan if each.naive is None else each.naive.value for each in compared]
    return compared[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]


def _named(loss: str) -> str:
    return {"Gaussian": "Gaussian likelihood", "quantiles": "quantile loss"}.get(loss, loss)


def _days(horizon: int) -> str:
    return f"{horizon} day{'s' * (horizon > 1)} ahead"


def _subject(score: Score) -> str:
    return f"{score.series}, {score.loss}, {score.horizon}"


def _row(score: Score) -> tuple[str, ...]:
    loss = LOSSES[score.loss]
    trained = [each for each in score.by_fold if each is not None]
    wins = sum(each.value > 0 for each in trained)
    interval = "joint" if is_joint(score.method) else "single"
    return (
        _subject(score),
        score.method,
        f"{loss.show(score.mean):.4f}",
        "" if score.naive is None else str(score.naive),
        "" if score.smoothing is None else str(score.smoothing),
        "" if score.naive is None else interval,
        "" if score.naive is None else f"{wins} of {len(trained)}",
    )


def _notes(settings: Settings, folds: Sequence[Sequence[SeriesFold]]) -> list[str]:
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
        f"origins in a block: {blocks}). In the first table joint intervals hold jointly at 95% "
        "for each loss: Bonferroni over the comparisons of the verdict, which are the references "
        "and the self-tuning network on all horizons and series. The intervals of the other "
        "networks are single ones; by chance, one in forty is above 0 without any skill.",
        _note_on_training(settings),
        f"No leak from the future: {checks:,} comparisons of examples and forecasts of references "
        "with their values after later rows, or rows of the part before, were changed; all were "
        "equal to the bit.",
    ]


def _note_on_training(settings: Settings) -> str:
    everywhere = settings.size.everywhere
    if everywhere is None:
        return "Every method trains a network on every fold and by every loss."
    chosen = [methods.METHODS[name].title for name in everywhere if name in settings.methods]
    named = ", ".join(chosen) or "no method"
    return (
        f"All methods train a network on the last fold of a series by the {COMPARED}. On the other "
        f"folds and by the other losses networks are trained by {named}, because each training "
        "compiles anew. Losses and scores are over the folds in which a method trains; the table "
        "by fold compares all on the last one."
    )
