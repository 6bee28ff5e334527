"""Forecasting data: windows of a series, and the values that follow each window.

The series is divided in time *before* windows are taken, so that no window crosses the border of a
part. The normalization uses the training rows only. Windows are views into the series, which need
no memory until they are indexed.
"""

from numbers import Integral

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from experiments.data.dataset import Dataset, Split, moments, parts_in_order
from experiments.data.files import File
from experiments.data.series import Series


def windows(
    series: Series,
    window: int,
    horizon: int = 1,
    *,
    target: str = "Close",
    validation: float = 0.15,
    test: float = 0.15,
) -> Dataset:
    """Creates a data set of all windows of a series, with the values that follow them.

    Input i of a part is its rows i to i + window - 1, all columns. The target is the target
    column at the next `horizon` rows. The parts are in chronological order.

    Args:
      series: the series to forecast.
      window: rows per input, 1 or more.
      horizon: rows per target, 1 or more.
      target: the column to forecast.
      validation: the share of the validation rows, in [0, 1).
      test: the share of the test rows, in [0, 1).

    Returns:
      Inputs f32[n, window, columns] and targets f32[n, horizon], as read-only views in the units of
      the series. `n` is the part's rows - window - horizon + 1, or 0 for a share of 0.

    Raises:
      DataError: a part is too short for one window and its horizon.
      ValueError: an argument is out of range.

    Example:
      >>> from experiments.data import prices
      >>> data = windows(prices.goog(), window=20, horizon=5)
      >>> data.train.inputs.shape, data.train.targets.shape
      ((708, 20, 5), (708, 5))
    """
    for name, value in (("window", window), ("horizon", horizon)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer in [1, inf), got {value!r}")
    if target not in series.columns:
        raise ValueError(f"target must be one of {', '.join(series.columns)}, got {target!r}")
    column = series.columns.index(target)
    slices = parts_in_order(len(series.values), validation, test)
    titles = ("training", "validation", "test")
    shares = (1.0, validation, test)

    def windowed(part: int) -> Split:
        rows = series.values[slices[part]]
        if shares[part] and len(rows) < window + horizon:
            raise File(series.file, series.source).error(
                f"its {titles[part]} part of {len(rows)} rows is too short, expected at least "
                f"{window + horizon} for a window of {window} and a horizon of {horizon}"
            )
        return _windowed(rows, window, horizon, column)

    train_rows = series.values[slices[0]]
    return Dataset(
        series.name,
        windowed(0),
        windowed(1),
        windowed(2),
        0,
        *moments(train_rows),
        *moments(train_rows[:, [column]]),
        series.source,
    )


def _windowed(rows: np.ndarray, window: int, horizon: int, column: int) -> Split:
    if len(rows) < window + horizon:
        empty = np.zeros((0, window, rows.shape[1]), np.float32)
        return Split(empty, np.zeros((0, horizon), np.float32))
    pasts = sliding_window_view(rows[:-horizon], window, axis=0).swapaxes(1, 2)
    futures = sliding_window_view(rows[window:, column], horizon)
    return Split(pasts, futures)
