"""Scores of each method against the naive forecast and against exponential smoothing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies.forecasting.evaluation import Losses
from experiments.studies.forecasting.losses import LOSSES
from experiments.studies.forecasting.settings import HORIZONS
from experiments.studies.forecasting.skill import Interval


class Score(NamedTuple):
    """Comparison of a method with the naive forecast and with exponential smoothing.

    Attributes:
      series: the name of the series.
      loss: a key of `LOSSES`.
      method: the name of the method.
      horizon: the days between an origin and its target.
      mean: the mean loss over all folds.
      naive: the score against the naive forecast over all folds, with an interval that holds
        jointly with the intervals of all other methods, horizons and series; `None` for the naive
        forecast.
      smoothing: the score against exponential smoothing, likewise.
      by_fold: the scores of each fold against the naive forecast, with single intervals.
    """

    series: str
    loss: str
    method: str
    horizon: int
    mean: float
    naive: Interval | None
    smoothing: Interval | None
    by_fold: Sequence[Interval]


def scores_of(found: Sequence[Losses]) -> list[Score]:
    """Returns the scores of all methods on all series, by series, loss and horizon."""
    by_name = {(each.series, each.loss, each.method): each.folds for each in found}
    groups = dict.fromkeys((each.series, each.loss) for each in found)
    return [
        _score(each, column, by_name, comparisons(found, each.loss))
        for group in groups
        for column in range(len(HORIZONS))
        for each in found
        if (each.series, each.loss) == group
    ]


def comparisons(found: Sequence[Losses], loss: str) -> int:
    """Returns the number of comparisons with a naive forecast by a loss, over all series."""
    others = [each for each in found if each.loss == loss and each.method != LOSSES[loss].naive]
    return len(others) * len(HORIZONS)


def _score(
    losses: Losses,
    column: int,
    by_name: Mapping[tuple[str, str, str], Sequence[np.ndarray]],
    comparisons: int,
) -> Score:
    loss, horizon = LOSSES[losses.loss], HORIZONS[column]
    own = [each[:, column] for each in losses.folds]

    def against(method: str) -> Interval | None:
        if method == losses.method:
            return None
        others = by_name[losses.series, losses.loss, method]
        return loss.score(
            own, [each[:, column] for each in others], horizon, comparisons=comparisons
        )

    naive = by_name[losses.series, losses.loss, loss.naive]
    return Score(
        losses.series,
        losses.loss,
        losses.method,
        horizon,
        float(np.concatenate(own).mean()),
        against(loss.naive),
        against(loss.smoothing),
        [loss.score([a], [b[:, column]], horizon) for a, b in zip(own, naive, strict=True)],
    )
