"""The receiver operating characteristic (ROC), the area under it, and the area's interval.

    AUC = mean over positive i and negative j of k(x_i, y_j),   k = 1 if x > y, 1/2 if x = y, else 0

It is the probability that a positive example has a higher score than a negative one. Its variance
is estimated from the two families of placements (E. DeLong, D. DeLong, D. Clarke-Pearson,
Biometrics 44, 1988), which midranks give in n log n operations (X. Sun, W. Xu, IEEE Signal
Processing Letters 21, 2014):

    v_i = mean_j k(x_i, y_j),   w_j = mean_i k(x_i, y_j)
    variance = var(v) / positives + var(w) / negatives

The interval is symmetric in log(AUC / (1 - AUC)), so that it stays in [0, 1].
"""

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.medical.checks import checked_labels, checked_scores, checked_varied


class Roc(NamedTuple):
    """The points of the curve; the first is (0, 0) and the last (1, 1).

    Attributes:
      false_positive_rate: f64[points], 1 - specificity.
      true_positive_rate: f64[points], the sensitivity.
      thresholds: f64[points], decreasing from infinity; an example is predicted to be positive if
        its score is at least the threshold.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class Auc(NamedTuple):
    """The area under the ROC curve.

    Attributes:
      value: the area, in [0, 1]; 1/2 for scores without information.
      low, high: its confidence interval.
      standard_error: DeLong's; 0 if the scores separate the classes.
    """

    value: float
    low: float
    high: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def roc_curve(labels: Any, scores: Any) -> Roc:
    """Returns the ROC curve, with one point for each different score.

    Args:
      labels: [n], 0 or 1.
      scores: f64[n], higher for the positive class.

    Raises:
      ValueError: a class has no example, or a score is not finite.

    Example:
      >>> roc_curve([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8]).true_positive_rate
      array([0. , 0.5, 1. , 1. ])
    """
    positive = checked_labels(labels)
    values = checked_scores(scores, positive)
    unique, place = np.unique(values, return_inverse=True)
    found = np.bincount(place, positive, len(unique))[::-1].cumsum()
    wrong = np.bincount(place, ~positive, len(unique))[::-1].cumsum()
    return Roc(
        np.append(0.0, wrong / wrong[-1]),
        np.append(0.0, found / found[-1]),
        np.append(np.inf, unique[::-1]),
    )


def auc(labels: Any, scores: Any, *, confidence: float = 0.95) -> Auc:
    """Returns the area under the ROC curve with its confidence interval.

    If the scores separate the classes, DeLong's variance is 0. The end of the interval is then the
    area from which the observed one is a normal quantile away, with the variance of
    R. G. Newcombe, Statistics in Medicine 25 (2006), method 5.

    Args:
      labels: [n], 0 or 1, at least two of each.
      scores: f64[n], higher for the positive class.
      confidence: the probability that the interval covers the area, in (0, 1).

    Raises:
      ValueError: a class has less than two examples, a score is not finite, or all are equal.

    Example:
      >>> print(auc([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.2, 0.6, 0.7, 0.9]))
      0.833 [0.249, 0.987]
    """
    positive = checked_labels(labels, least=2)
    values = checked_varied(checked_scores(scores, positive))
    z = normal_quantile(confidence)
    placements = _placements(positive, values)
    area = float(placements[0].mean())
    error = math.sqrt(sum(each.var(ddof=1) / len(each) for each in placements))
    if error == 0:
        end = _end_if_separated(len(placements[0]), len(placements[1]), z)
        return Auc(area, *((end, 1.0) if area == 1 else (0.0, 1 - end)), 0.0)
    center, margin = math.log(area / (1 - area)), z * error / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-end)) for end in (center - margin, center + margin))
    return Auc(area, low, high, error)


def normal_quantile(confidence: float) -> float:
    """Returns z such that a standard normal variable is in [-z, z] with this probability.

    Raises:
      ValueError: the probability is not in (0, 1).

    Example:
      >>> round(normal_quantile(0.95), 3)
      1.96
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns v, f64[positives], and w, f64[negatives]."""
    ranks = midranks(scores)
    above = ranks[positive] - midranks(scores[positive])  # negatives below, and half of the ties
    below = ranks[~positive] - midranks(scores[~positive])
    return above / np.sum(~positive), 1 - below / np.sum(positive)


def midranks(values: np.ndarray) -> np.ndarray:
    """Returns the ranks from 1, f64[n]; equal values have the mean of their ranks.

    Example:
      >>> midranks(np.array([3.0, 1.0, 3.0]))
      array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def _end_if_separated(positives: int, negatives: int, z: float) -> float:
    """Returns the lower end of the interval of an area of 1, by bisection."""
    half = (positives + negatives) / 2 - 1

    def is_below(area: float) -> bool:
        spread = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
        return 1 - area > z**2 * area * spread / (positives * negatives)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low
