"""Calibration of forecast distributions: coverage, reliability and probability integral transforms.

A forecast distribution is calibrated if the targets fall below its q-quantile with frequency q.
Then its central intervals cover the targets as often as they say, and the probability integral
transform (PIT), the forecast's distribution function at the target, is uniform. Intervals for
frequencies are exact binomial ones (C. J. Clopper, E. S. Pearson 1934) of every h-th origin, whose
targets do not overlap. They are for independent misses; in markets misses cluster.

Source: T. Gneiting, F. Balabdaoui, A. E. Raftery, "Probabilistic forecasts, calibration and
sharpness", Journal of the Royal Statistical Society B 69 (2007).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.studies.forecasting.evaluation import Forecasts, SeriesFold
from experiments.studies.forecasting.losses import LEVELS
from experiments.studies.forecasting.settings import HORIZONS

CENTRAL = ((0.25, 0.75), (0.1, 0.9), (0.05, 0.95))
"""Levels at the ends of the central intervals of 50%, 80% and 90%."""


class Frequency(NamedTuple):
    """A frequency with its 95% interval.

    Attributes:
      value: the share of successes.
      low, high: the ends of the interval.
      count: the number of trials.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def frequency(successes: np.ndarray) -> Frequency:
    """Returns the frequency of True in bool[n], with its exact binomial interval.

    Example:
      >>> print(frequency(np.arange(20) < 10))
      50.0 [27.2, 72.8]
    """
    found = stats.binomtest(int(successes.sum()), len(successes)).proportion_ci(0.95, "exact")
    return Frequency(float(successes.mean()), float(found.low), float(found.high), len(successes))


def gaussian_quantiles(moments: np.ndarray) -> np.ndarray:
    """Returns the quantiles f64[..., levels] of means and deviations f64[..., 2].

    Example:
      >>> gaussian_quantiles(np.array([1.0, 2.0])).round(2).tolist()
      [-2.29, -1.56, -0.35, 1.0, 2.35, 3.56, 4.29]
    """
    return moments[..., :1] + moments[..., 1:] * stats.norm.ppf(LEVELS)


def separate(folds: Sequence[np.ndarray], horizon: int) -> np.ndarray:
    """Returns every h-th entry of each fold, whose targets do not overlap, in one array.

    Example:
      >>> separate([np.arange(6), np.arange(10, 14)], 3).tolist()
      [0, 3, 10, 13]
    """
    return np.concatenate([each[::horizon] for each in folds])


def coverage(targets: np.ndarray, quantiles: np.ndarray) -> list[Frequency]:
    """Returns how often each interval of `CENTRAL` covers the target.

    Args:
      targets: f64[n].
      quantiles: f64[n, levels].
    """
    found = []
    for low, high in CENTRAL:
        ends = quantiles[:, LEVELS.index(low)], quantiles[:, LEVELS.index(high)]
        found.append(frequency((ends[0] <= targets) & (targets <= ends[1])))
    return found


def reliability(targets: np.ndarray, quantiles: np.ndarray) -> list[Frequency]:
    """Returns how often the target is below each quantile.

    Args:
      targets: f64[n].
      quantiles: f64[n, levels].
    """
    return [frequency(targets <= each) for each in quantiles.T]


def pit(targets: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Returns the probability integral transforms f64[n] of Gaussian forecasts.

    Args:
      targets: f64[n].
      moments: f64[n, 2], means and standard deviations.

    Example:
      >>> pit(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 3.0]])).tolist()
      [0.5, 0.5]
    """
    return stats.norm.cdf(targets, moments[:, 0], moments[:, 1])


class Calibration(NamedTuple):
    """Calibration of a method.

    Attributes:
      series: the name of the series.
      loss: "quantiles" or "Gaussian".
      method: the name of the method.
      horizon: the days between an origin and its target.
      coverage: how often each interval of `CENTRAL` covers the target.
      reliability: how often the target is below each quantile of `LEVELS`.
      width: the mean width of the widest interval.
      pit: f64[n], the probability integral transforms of a Gaussian forecast; empty for quantiles.
    """

    series: str
    loss: str
    method: str
    horizon: int
    coverage: Sequence[Frequency]
    reliability: Sequence[Frequency]
    width: float
    pit: np.ndarray


def calibrations_of(
    folds: Sequence[SeriesFold], forecasts: Sequence[Forecasts]
) -> list[Calibration]:
    """Returns the calibration of each method that forecasts distributions, over all folds."""
    found = []
    for loss in ("quantiles", "Gaussian"):
        for column, horizon in enumerate(HORIZONS):
            targets = separate([each.targets[:, column] for each in folds], horizon)
            for method in forecasts[0][loss]:
                values = separate([each[loss][method][:, column] for each in forecasts], horizon)
                is_gaussian = loss == "Gaussian"
                quantiles = gaussian_quantiles(values) if is_gaussian else values
                found.append(
                    Calibration(
                        folds[0].series.name,
                        loss,
                        method,
                        horizon,
                        coverage(targets, quantiles),
                        reliability(targets, quantiles),
                        float((quantiles[:, -1] - quantiles[:, 0]).mean()),
                        pit(targets, values) if is_gaussian else np.zeros(0),
                    )
                )
    return found
