"""Examples of a fold: windows of daily features, and the log returns that follow them.

    r_i     = p_i - p_{i-1}                  p the logarithm of the closing price
    inputs  = features of the rows t - window + 1 to t
    targets = p_{t+h} - p_t                  for each horizon h

The target is the log return from the origin t to t + h, rather than a price. A price is not
stationary: its level in the test part is outside of the training part's range, and any forecast
close to the last price has a coefficient of determination near 1, so errors of levels hide that
nothing was forecast. The error of this target equals the error of the forecast of p_{t+h}, since
p_t is known at the origin. The naive forecast "the last value" is a return of 0. Log returns of
several days are sums of daily ones, and their scale does not depend on the price.

The features are the daily log return and, if the series has the columns, log(High / Low), which
measures the volatility within a day (M. Parkinson, Journal of Business 53, 1980).

All rows that an example uses are in one part: windows do not cross borders, and the last target of
a part ends at its last row, before the first window of the next part begins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from experiments.data import DataError, Dataset, Series, Split
from experiments.data.dataset import moments
from experiments.studies.forecasting.folds import Fold

PARTS = ("train", "validation", "test")


class Examples(NamedTuple):
    """The examples of a fold.

    Attributes:
      dataset: inputs f32[n, window, features] and targets f32[n, horizons] of each part, with the
        moments of the training part's rows.
      origins: i64[n] of each part, the last row that an example's inputs use.
      horizons: the rows between an origin and its targets.
    """

    dataset: Dataset
    origins: tuple[np.ndarray, np.ndarray, np.ndarray]
    horizons: tuple[int, ...]

    @property
    def parts(self) -> tuple[Split, Split, Split]:
        """The training, validation and test part."""
        return self.dataset.train, self.dataset.validation, self.dataset.test


def log_prices(series: Series) -> np.ndarray:
    """Returns the logarithm of the closing prices, f64[rows].

    Raises:
      DataError: a price is not above 0.
    """
    return np.log(_positive(series, "Close"))


def features(series: Series) -> np.ndarray:
    """Returns the features of the rows 1, 2, ..., f64[rows - 1, features].

    A row's features use its prices and the closing price of the row before.

    Raises:
      DataError: a price is not above 0.
    """
    columns = [np.diff(log_prices(series))]
    if {"High", "Low"} <= {*series.columns}:
        ranges = np.log(_positive(series, "High") / _positive(series, "Low"))
        columns.append(ranges[1:])
    return np.stack(columns, axis=1)


def make_examples(
    series: Series, fold: Fold, *, window: int = 20, horizons: Sequence[int] = (1, 5)
) -> Examples:
    """Returns the examples of a fold.

    Args:
      series: a series of prices with the column Close.
      fold: the rows of each part.
      window: the rows of an input, 1 or more.
      horizons: the rows between an origin and its targets, 1 or more each, in increasing order.

    Raises:
      DataError: a price is not above 0, or a part is too short.
      ValueError: an argument is out of range.

    Example:
      >>> from experiments.data import prices
      >>> from experiments.studies.forecasting.folds import walk_forward
      >>> series = prices.goog()
      >>> last = walk_forward(len(series.values), 3)[-1]
      >>> examples = make_examples(series, last)
      >>> examples.dataset.test.inputs.shape, examples.dataset.test.targets.shape
      ((79, 20, 2), (79, 2))
      >>> str(series.times[examples.origins[2][0]])
      '2008-06-17'
    """
    if window < 1:
        raise ValueError(f"window must be in [1, inf), got {window}")
    horizons = tuple(horizons)
    if not horizons or horizons[0] < 1 or list(horizons) != sorted(set(horizons)):
        raise ValueError(
            "horizons must be in [1, inf), in increasing order, got "
            f"{', '.join(map(str, horizons)) or 'nothing'}"
        )
    prices, daily = log_prices(series), features(series)
    parts, origins = [], []
    for title, rows in zip(PARTS, fold, strict=True):
        # The first row of a part has no return within the part.
        part_origins = np.arange(rows.start + window, rows.stop - horizons[-1])
        if not len(part_origins):
            raise DataError(
                f"{series.name}: its {title} part of {rows.stop - rows.start} rows is too short, "
                f"expected at least {window + horizons[-1] + 1} for a window of {window} and a "
                f"horizon of {horizons[-1]}; choose fewer folds or a shorter window"
            )
        # Row i of `daily` has the features of row i + 1 of the series.
        windows = sliding_window_view(daily, window, axis=0).swapaxes(1, 2)
        inputs = windows[part_origins - window]
        ends = part_origins[:, None] + np.array(horizons)
        targets = prices[ends] - prices[part_origins, None]
        parts.append(Split(inputs.astype(np.float32), targets.astype(np.float32)))
        origins.append(part_origins)
    train = fold.train
    dataset = Dataset(
        series.name,
        parts[0],
        parts[1],
        parts[2],
        0,
        *moments(daily[train.start : train.stop - 1]),
        *moments(parts[0].targets),
        series.source,
    )
    return Examples(dataset, (origins[0], origins[1], origins[2]), horizons)


def _positive(series: Series, column: str) -> np.ndarray:
    values = series.values[:, series.columns.index(column)].astype(np.float64)
    if not (values > 0).all():
        row = int(np.argmin(values > 0))
        raise DataError(
            f"{series.name}: {column} must be in (0, inf), got {values[row]:g} on "
            f"{series.times[row]}; remove the row"
        )
    return values
