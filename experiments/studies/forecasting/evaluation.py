"""The folds of a series: examples, the check for leaks, forecasts of the references and losses.

All methods forecast the same targets of the test part.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from experiments import data
from experiments.data import Series
from experiments.studies.forecasting.control import control
from experiments.studies.forecasting.examples import Examples, log_prices, make_examples
from experiments.studies.forecasting.folds import Fold, walk_forward
from experiments.studies.forecasting.leaks import Claim, check_no_leak, claims_of
from experiments.studies.forecasting.losses import LEVELS, LOSSES
from experiments.studies.forecasting.references import reference_forecasts
from experiments.studies.forecasting.settings import HORIZONS, WINDOW, Settings
from experiments.studies.forecasting.spreads import spread_forecasts

Forecasts = dict[str, dict[str, np.ndarray]]
"""Forecasts of the test targets by loss and method, in the units of the series."""


class SeriesFold(NamedTuple):
    """A fold of a series.

    Attributes:
      series: the series.
      fold: the rows of each part.
      examples: the examples of each part.
      comparisons: comparisons of the check for leaks, all of which were equal.
    """

    series: Series
    fold: Fold
    examples: Examples
    comparisons: int

    @property
    def targets(self) -> np.ndarray:
        """f64[n, horizons], the returns of the test part."""
        return self.examples.dataset.test.targets.astype(np.float64)

    def dates(self, part: int) -> str:
        """Returns the first and last day of a part, 0 to 2."""
        rows = self.fold[part]
        return f"{self.series.times[rows.start]} to {self.series.times[rows.stop - 1]}"


def load(settings: Settings, name: str) -> Series:
    """Loads a series.

    Raises:
      DataError: the data is missing or invalid.
    """
    if name == "control":
        return control(seed=settings.seed)
    return cast(Series, data.load(name, settings.data_dir))


def make_folds(series: Series, folds: int) -> list[SeriesFold]:
    """Returns the folds of a series, after the check for leaks.

    Raises:
      DataError: the series is too short.
      LeakError: an example or a forecast depends on rows that it may not use.
    """
    found = []
    for fold in walk_forward(len(series.values), folds):
        examples = make_examples(series, fold, window=WINDOW, horizons=HORIZONS)
        found.append(SeriesFold(series, fold, examples, check(series, fold)))
    return found


def check(series: Series, fold: Fold) -> int:
    """Checks the examples and the references of a fold for leaks.

    Returns:
      The number of comparisons, all of which were equal.

    Raises:
      LeakError: an example or a forecast depends on rows that it may not use.
    """

    def examples_of(series: Series) -> dict[str, Claim]:
        examples = make_examples(series, fold, window=WINDOW, horizons=HORIZONS)
        return claims_of(examples, fold)

    def references_of(series: Series) -> dict[str, Claim]:
        # A forecast uses rows up to its origin. Its constants are of the training part, earlier.
        examples = make_examples(series, fold, window=WINDOW, horizons=HORIZONS)
        return {
            f"{method} ({loss})": Claim(values, examples.origins[2], uses_last=False)
            for loss, forecasts in all_references(series, fold, examples).items()
            for method, values in forecasts.items()
        }

    middle = [(rows.start + rows.stop) // 2 for rows in fold]
    borders = [fold.train.stop - 1, fold.validation.stop - 1]
    return check_no_leak(examples_of, series, sorted([*borders, *middle])) + check_no_leak(
        references_of, series, [middle[2]]
    )


def all_references(series: Series, fold: Fold, examples: Examples) -> Forecasts:
    """Returns the forecasts of the references."""
    prices = log_prices(series)
    train_origins, _, origins = examples.origins
    spreads = spread_forecasts(prices, train_origins, origins, HORIZONS, LEVELS)
    return {
        "squared error": reference_forecasts(prices, fold.train.stop, origins, HORIZONS),
        "quantiles": {name: quantiles for name, (quantiles, _) in spreads.items()},
        "Gaussian": {name: moments for name, (_, moments) in spreads.items()},
    }


def joined(one: Forecasts, other: Forecasts) -> Forecasts:
    """Returns the forecasts of both, the first ones first."""
    return {loss: {**one[loss], **other.get(loss, {})} for loss in one}


class Losses(NamedTuple):
    """Losses of a method.

    Attributes:
      series: the name of the series.
      loss: a key of `LOSSES`.
      method: the name of the method.
      folds: f64[n, horizons] of each fold; `None` for a fold in which a network is not trained.
    """

    series: str
    loss: str
    method: str
    folds: Sequence[np.ndarray | None]


def losses_of(folds: Sequence[SeriesFold], forecasts: Sequence[Forecasts]) -> list[Losses]:
    """Returns the losses of each method of the last fold, from its forecasts in each fold."""

    def of_fold(fold: SeriesFold, forecasts: Forecasts, loss: str, method: str) -> Any:
        if method not in forecasts[loss]:
            return None
        return LOSSES[loss].evaluate(fold.targets, forecasts[loss][method])

    return [
        Losses(
            folds[0].series.name,
            loss,
            method,
            [
                of_fold(fold, each, loss, method)
                for fold, each in zip(folds, forecasts, strict=True)
            ],
        )
        for loss, methods in forecasts[-1].items()
        for method in methods
    ]
