"""Scores of each method against the naive forecast and against exponential smoothing."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.forecasting.evaluation import Losses
from experiments.studies.forecasting.losses import LOSSES
from experiments.studies.forecasting.recipes import is_joint
from experiments.studies.forecasting.settings import HORIZONS
from experiments.studies.forecasting.skill import Interval


class Score(NamedTuple):
    """Comparison of a method with the naive forecast and with exponential smoothing.

    Attributes:
      series: the name of the series.
      loss: a key of `LOSSES`.
      method: the name of the method.
      horizon: the days between an origin and its target.
      mean: the mean loss over the folds in which the method is trained.
      naive: the score against the naive forecast over these folds; `None` for the naive forecast.
        If `is_joint(method)`, the interval holds jointly with the intervals of all such methods,
        horizons and series, otherwise by itself.
      smoothing: the score against exponential smoothing, likewise.
      by_fold: the scores of each fold against the naive forecast, with single intervals; `None` for
        a fold in which the method is not trained.
    """

    series: str
    loss: str
    method: str
    horizon: int
    mean: float
    naive: Interval | None
    smoothing: Interval | None
    by_fold: Sequence[Interval | None]


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
    """Returns the number of comparisons of the verdict by a loss, over all series.

    They are of the references and the self-tuning network with a naive forecast.
    """
    naive = LOSSES[loss].naive
    others = [e for e in found if e.loss == loss and e.method != naive and is_joint(e.method)]
    return len(others) * len(HORIZONS)


def _score(
    losses: Losses,
    column: int,
    by_name: Mapping[tuple[str, str, str], Sequence[np.ndarray | None]],
    comparisons: int,
) -> Score:
    loss, horizon = LOSSES[losses.loss], HORIZONS[column]
    trained = [number for number, each in enumerate(losses.folds) if each is not None]

    def of_trained(folds: Sequence[Any]) -> dict[int, np.ndarray]:
        return {number: folds[number][:, column] for number in trained}

    own = of_trained(losses.folds)

    def against(method: str) -> Interval | None:
        if method == losses.method:
            return None
        others = of_trained(by_name[losses.series, losses.loss, method])
        count = comparisons if is_joint(losses.method) else 1
        return loss.score([*own.values()], [*others.values()], horizon, comparisons=count)

    naive = of_trained(by_name[losses.series, losses.loss, loss.naive])
    return Score(
        losses.series,
        losses.loss,
        losses.method,
        horizon,
        float(np.concatenate([*own.values()]).mean()),
        against(loss.naive),
        against(loss.smoothing),
        [
            loss.score([own[number]], [naive[number]], horizon) if number in own else None
            for number in range(len(losses.folds))
        ],
    )
