"""Forecasts of a distribution without a model: the training part's, and a moving volatility.

    constant            the quantiles, or the root mean square, of the training returns over h days
    moving volatility   the same of z = y / sqrt(h v_t), times sqrt(h v_t)
                        v_t = d v_{t-1} + (1 - d) r_t^2

The volatility of daily prices can be forecast where their direction cannot: calm and wild days come
in clusters. The exponentially weighted moving average v_t is the standard forecast of it, with the
decay d that has the highest Gaussian likelihood of the next return on the training rows. The
quantiles of z on the training part give the shape ("filtered historical simulation").

Sources: J.P. Morgan, "RiskMetrics technical document", 1996; G. Barone-Adesi, K. Giannopoulos, L.
Vosper, "VaR without correlations for portfolios of derivative securities", 1999.
"""

from collections.abc import Sequence

import numpy as np

DECAYS = np.linspace(0.8, 0.995, 40)
START = 20
"""Returns whose mean square begins the recursion; earlier rows have no volatility."""

CONSTANT, MOVING = "constant", "moving volatility"


def moving_variance(returns: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Returns v_t from row `START` on, f64[returns - START + 1, ...].

    Args:
      returns: f64[n], daily returns; more than `START`.
      decay: f64[...], the decay d, in (0, 1).

    Example:
      >>> moving_variance(np.append(np.ones(20), 3.0), np.array(0.75)).tolist()
      [1.0, 3.0]
    """
    variances = [np.broadcast_to((returns[:START] ** 2).mean(), np.shape(decay))]
    for value in returns[START:]:
        variances.append(decay * variances[-1] + (1 - decay) * value**2)
    return np.array(variances)


def fit_decay(returns: np.ndarray) -> float:
    """Returns the decay, one of `DECAYS`, with the highest likelihood of the next return."""
    variances = moving_variance(returns, DECAYS)[:-1]
    losses = np.log(variances) + returns[START:, None] ** 2 / variances
    return float(DECAYS[int(losses.mean(0).argmin())])


def spread_forecasts(
    prices: np.ndarray,
    train_origins: np.ndarray,
    origins: np.ndarray,
    horizons: Sequence[int],
    levels: Sequence[float],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns quantiles f64[n, horizons, levels], and means with standard deviations.

    The second array is f64[n, horizons, 2]; its means are 0, as in the forecast of the last value.

    Args:
      prices: f64[rows], logarithms of prices.
      train_origins: i64[m], origins of the training examples, `START` or more.
      origins: i64[n], the rows from which is forecast, `START` or more.
      horizons: the rows between an origin and its targets.
      levels: levels of the quantiles, in (0, 1).
    """
    ahead = np.array(horizons)
    returns = np.diff(prices)
    train_rows = int(train_origins[-1]) + ahead.max() + 1
    targets = prices[train_origins[:, None] + ahead] - prices[train_origins, None]
    decay = fit_decay(returns[: train_rows - 1])
    variance = moving_variance(returns, np.array(decay))  # of row START on
    found = {}
    for name in (CONSTANT, MOVING):
        scales = [np.ones((len(rows), len(ahead))) for rows in (train_origins, origins)]
        if name == MOVING:
            scales = [
                np.sqrt(ahead * variance[rows - START, None]) for rows in (train_origins, origins)
            ]
        shapes = targets / scales[0]
        quantiles = scales[1][..., None] * np.quantile(shapes, levels, axis=0).T
        deviations = scales[1] * np.sqrt((shapes**2).mean(0))
        found[name] = quantiles, np.stack([np.zeros_like(deviations), deviations], axis=-1)
    return found
