"""The losses by which forecasts are compared, in the units of the series and in float64.

    squared error   (y - f)^2
    quantiles       mean over the levels q of max(q e, (q - 1) e), e = y - f_q
    Gaussian        log s + (y - m)^2 / (2 s^2) + log(2 pi) / 2, in nats

Each has its naive forecast, which needs no model, and its form of exponential smoothing. Scores are
skills, except for the likelihood: it has no zero, so that its ratio means nothing, and the gain
over the naive forecast is in nats per forecast.

Source: T. Gneiting, A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation",
Journal of the American Statistical Association 102 (2007).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.forecasting.references import NAIVE, SMOOTHING
from experiments.studies.forecasting.skill import Interval, gain, skill
from experiments.studies.forecasting.spreads import CONSTANT, MOVING

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Levels of the quantiles; the outer ones are the ends of central 90%, 80% and 50% intervals."""


def squared_error(targets: np.ndarray, forecasts: np.ndarray) -> np.ndarray:
    """Returns the losses f64[n, horizons] of forecasts f64[n, horizons]."""
    return (targets - forecasts) ** 2


def quantile_loss(targets: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Returns the losses f64[n, horizons] of quantiles f64[n, horizons, levels].

    Example:
      >>> zeros = np.zeros((1, 1, 7))
      >>> quantile_loss(np.array([[2.0]]), zeros).round(6).tolist()  # the mean level is 1/2
      [[1.0]]
    """
    errors = targets[..., None] - quantiles
    levels = np.array(LEVELS)
    return np.maximum(levels * errors, (levels - 1) * errors).mean(-1)


def gaussian_nll(targets: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Returns the losses f64[n, horizons] of means and deviations f64[n, horizons, 2].

    Example:
      >>> gaussian_nll(np.array([[1.0]]), np.array([[[0.0, 1.0]]])).round(4).tolist()
      [[1.4189]]
    """
    means, deviations = moments[..., 0], moments[..., 1]
    scaled = (targets - means) / deviations
    return np.log(deviations) + scaled**2 / 2 + np.log(2 * np.pi) / 2


class Loss(NamedTuple):
    """A loss of forecasts.

    Attributes:
      evaluate: called with targets f64[n, horizons] and forecasts; returns f64[n, horizons].
      score: compares losses with the losses of another forecast.
      naive: the name of the naive forecast.
      smoothing: the name of exponential smoothing.
      unit: the unit of the loss in tables.
      show: called with a mean loss; returns the number in tables.
    """

    evaluate: Callable[[np.ndarray, np.ndarray], np.ndarray]
    score: Callable[..., Interval]
    naive: str
    smoothing: str
    unit: str
    show: Callable[[Any], Any]


LOSSES = {
    "squared error": Loss(
        squared_error, skill, NAIVE, SMOOTHING, "root mean square, %", lambda x: 100 * np.sqrt(x)
    ),
    "quantiles": Loss(quantile_loss, skill, CONSTANT, MOVING, "%", lambda x: 100 * x),
    "Gaussian": Loss(gaussian_nll, gain, CONSTANT, MOVING, "nats", lambda x: x),
}
