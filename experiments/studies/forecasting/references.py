"""Forecasts without a model: the last value, drift, exponential smoothing and Holt's linear trend.

With p_t the logarithm of the price at the origin t, all forecast the return p_{t+h} - p_t:

    last value              0                     a random walk
    drift                   h (p_t - p_0) / t     a line through the first and last value
    exponential smoothing   l_t - p_t             l_t = a p_t + (1 - a) l_{t-1}
    Holt                    l_t + h b_t - p_t     l_t = a p_t + (1 - a) (l_{t-1} + b_{t-1})
                                                  b_t = b (l_t - l_{t-1}) + (1 - b) b_{t-1}

Both recursions begin with l_0 = p_0 and b_0 = 0, and use all rows up to the origin. The constants
a and b minimize the squared one-step error on the training rows, over a grid. With b = 0 Holt is
exponential smoothing, and with a = 1 that is the last value. A seasonal naive forecast is left out:
daily prices on an exchange have no season that traders leave in them.

Source: R. J. Hyndman, G. Athanasopoulos, "Forecasting: principles and practice", 2021, chapters 5
and 8.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LEVELS = np.linspace(0.02, 1.0, 50)
TRENDS = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 31)])
"""The smoothing constants of level and trend among which the fit chooses."""

NAIVE, SMOOTHING = "last value", "exponential smoothing"


def holt_states(prices: np.ndarray, level: float, trend: float) -> np.ndarray:
    """Returns the levels and trends of Holt's method after each row, f64[2, rows].

    Args:
      prices: f64[rows], logarithms of prices.
      level: the smoothing constant a, in (0, 1].
      trend: the smoothing constant b, in [0, 1].

    Example:
      >>> levels, trends = holt_states(np.array([0.0, 1.0, 2.0]), 0.5, 0.5)
      >>> levels.tolist(), trends.tolist()
      ([0.0, 0.5, 1.375], [0.0, 0.25, 0.5625])
    """
    return np.array([*_states(prices, np.array(level), np.array(trend))]).T


def _states(
    prices: np.ndarray, level: np.ndarray, trend: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the level and the trend after each row."""
    now, slope = np.full_like(level, prices[0]), np.zeros_like(level)
    yield now, slope
    for price in prices[1:]:
        before, now = now, level * price + (1 - level) * (now + slope)
        slope = trend * (now - before) + (1 - trend) * slope
        yield now, slope


def fit_smoothing(prices: np.ndarray, *, trend: bool) -> tuple[float, float]:
    """Returns the smoothing constants with the least squared one-step error.

    Args:
      prices: f64[rows], logarithms of prices of the training part.
      trend: True for Holt's method, False for a trend of 0.

    Returns:
      The constant of the level, one of `LEVELS`, and of the trend, one of `TRENDS` or 0.
    """
    levels, trends = map(np.ravel, np.meshgrid(LEVELS, TRENDS if trend else [0.0]))
    errors = np.zeros(len(levels))
    for (level, slope), price in zip(_states(prices[:-1], levels, trends), prices[1:], strict=True):
        errors += (price - level - slope) ** 2
    best = int(errors.argmin())
    return float(levels[best]), float(trends[best])


def reference_forecasts(
    prices: np.ndarray, train_rows: int, origins: np.ndarray, horizons: Sequence[int]
) -> dict[str, np.ndarray]:
    """Returns the forecasts of the returns by each reference, f64[n, horizons].

    Args:
      prices: f64[rows], logarithms of prices.
      train_rows: the rows from the first on that the smoothing constants are fitted to.
      origins: i64[n], the rows from which is forecast, 1 or more.
      horizons: the rows between an origin and its targets.

    Example:
      >>> line = 0.01 * np.arange(100)
      >>> forecasts = reference_forecasts(line, 50, np.array([80]), (1, 5))
      >>> forecasts["last value"].tolist(), forecasts["drift"].round(4).tolist()
      ([[0.0, 0.0]], [[0.01, 0.05]])
    """
    ahead = np.array(horizons)[None]
    last = prices[origins][:, None]
    found = {
        NAIVE: np.zeros((len(origins), len(horizons))),
        "drift": ahead * (last - prices[0]) / origins[:, None],
    }
    for name, has_trend in ((SMOOTHING, False), ("Holt", True)):
        constants = fit_smoothing(prices[:train_rows], trend=has_trend)
        levels, trends = holt_states(prices, *constants)[:, origins, None]
        found[name] = levels + ahead * trends - last
    return found
