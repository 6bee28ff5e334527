"""Calibration: do events with probability p happen in a share p of all cases?

    Brier score                  mean (p_i - y_i)^2
    expected calibration error   sum_b (n_b / n) |mean_b y - mean_b p|   over bins b of equal width

Sources: G. W. Brier, Monthly Weather Review 78, 1950; M. P. Naeini, G. Cooper, M. Hauskrecht, AAAI
2015. The estimate of the calibration error is biased upward: even labels that are drawn with the
probabilities p do not have exactly the mean of p in each bin. `calibration_error` returns the bias
beside the estimate: its expectation for such labels, from the exact distribution of their sum.
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.studies.medical.checks import checked_labels, checked_probabilities
from experiments.studies.medical.decisions import Proportion

BINS = 10


class Reliability(NamedTuple):
    """Means in bins of equal width that have examples.

    Attributes:
      predicted: f64[bins], the mean probability.
      observed: f64[bins], the share of positive examples.
      counts: i64[bins], the number of examples.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    @property
    def intervals(self) -> np.ndarray:
        """f64[bins, 2], the 95% intervals of the observed shares, by Wilson."""
        found = np.round(self.observed * self.counts).astype(int)
        pairs = zip(found.tolist(), self.counts.tolist(), strict=True)
        return np.array([Proportion(*pair).interval() for pair in pairs])


class CalibrationError(NamedTuple):
    """The expected calibration error.

    Attributes:
      value: the estimate, which is biased upward.
      if_calibrated: its expectation if the labels were drawn with the probabilities.
    """

    value: float
    if_calibrated: float


def brier_score(labels: Any, probabilities: Any) -> float:
    """Returns the mean squared difference of the probabilities and the labels.

    Args:
      labels: [n], 0 or 1.
      probabilities: f64[n] of the positive class.

    Raises:
      ValueError: a class has no example, or a probability is not in [0, 1].

    Example:
      >>> brier_score([0, 1], [0.5, 1.0])
      0.125
    """
    positive = checked_labels(labels)
    return float(np.mean((checked_probabilities(probabilities, positive) - positive) ** 2))


def log_loss(labels: Any, log_odds: Any) -> float:
    """Returns the mean cross entropy in nats, from log(p / (1 - p)).

    Example:
      >>> round(log_loss([0, 1], [0.0, 0.0]), 4)  # log(2)
      0.6931
    """
    positive = checked_labels(labels)
    return float(np.mean(np.logaddexp(0, np.where(positive, -1, 1) * np.asarray(log_odds))))


def reliability(labels: Any, probabilities: Any, bins: int = BINS) -> Reliability:
    """Returns the means in bins of equal width; a bin includes its upper edge.

    Args:
      labels: [n], 0 or 1.
      probabilities: f64[n] of the positive class.
      bins: the number of bins, in [1, inf).

    Raises:
      ValueError: a class has no example, or an argument is out of range.

    Example:
      >>> reliability([0, 1, 0, 1], [0.1, 0.3, 0.9, 0.7], bins=2).predicted
      array([0.2, 0.8])
    """
    positive = checked_labels(labels)
    values = checked_probabilities(probabilities, positive)
    number = _bin(values, bins)
    counts = np.bincount(number, minlength=bins)
    used = counts > 0
    predicted, observed = (
        np.bincount(number, each, bins)[used] / counts[used] for each in (values, positive)
    )
    return Reliability(predicted, observed, counts[used])


def calibration_error(labels: Any, probabilities: Any, bins: int = BINS) -> CalibrationError:
    """Returns the expected calibration error, and its expectation for calibrated probabilities.

    Args:
      labels: [n], 0 or 1.
      probabilities: f64[n] of the positive class.
      bins: the number of bins of equal width, in [1, inf).

    Raises:
      ValueError: a class has no example, or an argument is out of range.

    Example:
      >>> error = calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
      >>> error.value, error.if_calibrated  # of 4 labels, 0, 1, 2, 3 or 4 may be positive
      (0.0, 0.1875)
    """
    found = reliability(labels, probabilities, bins)
    shares = found.counts / found.counts.sum()
    value = float(shares @ np.abs(found.observed - found.predicted))
    values = np.asarray(probabilities, np.float64)
    number = _bin(values, bins)
    deviations = [_mean_absolute_deviation(values[number == each]) for each in range(bins)]
    return CalibrationError(value, float(np.sum(deviations) / len(values)))


def _bin(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Returns the number of each probability's bin."""
    if bins < 1:
        raise ValueError(f"bins must be in [1, inf), got {bins}")
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)


def _mean_absolute_deviation(probabilities: np.ndarray) -> float:
    """Returns E |sum_i (y_i - p_i)| of independent y_i that are 1 with probability p_i."""
    distribution = np.ones(1)  # of the sum of the labels up to now
    for p in probabilities:
        distribution = np.append(distribution * (1 - p), 0) + np.append(0, distribution * p)
    return float(distribution @ np.abs(np.arange(len(distribution)) - probabilities.sum()))
