"""Decisions at a threshold: their counts, rates with intervals, and the choice of the threshold.

An example is predicted to be positive if its score is at least the threshold. A threshold is chosen
on validation examples and applied to test examples: chosen on the test examples themselves, its
rates would be too good.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.medical.checks import checked_labels, checked_scores
from experiments.studies.medical.roc import Roc, normal_quantile, roc_curve


class Proportion(NamedTuple):
    """A number of successes among independent trials.

    Example:
      >>> print(Proportion(9, 10))
      0.900 [0.596, 0.982]
    """

    successes: int
    trials: int

    @property
    def value(self) -> float:
        """The share of successes."""
        return self.successes / self.trials

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Returns Wilson's score interval (E. B. Wilson, JASA 22, 1927).

        Its width is positive also at 0 and at `trials` successes, unlike the normal interval's.
        """
        z, n = normal_quantile(confidence), self.trials
        center = (self.successes + z**2 / 2) / (n + z**2)
        margin = z * math.sqrt(self.value * (1 - self.value) * n + z**2 / 4) / (n + z**2)
        return max(center - margin, 0.0), min(center + margin, 1.0)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


class Confusion(NamedTuple):
    """Numbers of examples by their class and their prediction."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int

    @property
    def accuracy(self) -> Proportion:
        """The share of correct predictions."""
        return Proportion(self.true_positives + self.true_negatives, sum(self))

    @property
    def sensitivity(self) -> Proportion:
        """The share of positive examples that are predicted to be positive."""
        return Proportion(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Proportion:
        """The share of negative examples that are predicted to be negative."""
        return Proportion(self.true_negatives, self.true_negatives + self.false_positives)


def confusion(labels: Any, scores: Any, threshold: float) -> Confusion:
    """Returns the counts at a threshold.

    Args:
      labels: [n], 0 or 1.
      scores: f64[n], higher for the positive class.
      threshold: an example is predicted to be positive if its score is at least this.

    Raises:
      ValueError: a class has no example, a score is not finite, or the threshold is NaN.

    Example:
      >>> confusion([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.4], 0.5)
      Confusion(true_positives=1, false_negatives=1, false_positives=1, true_negatives=1)
    """
    positive = checked_labels(labels)
    if math.isnan(threshold):
        raise ValueError(f"threshold must be a number, got {threshold}")
    predicted = checked_scores(scores, positive) >= threshold
    pairs = ((True, True), (True, False), (False, True), (False, False))
    return Confusion(*(int(np.sum((positive == x) & (predicted == y))) for x, y in pairs))


def youden_threshold(labels: Any, scores: Any) -> float:
    """Returns the threshold with the largest sensitivity + specificity - 1.

    Of several, it is the one with the highest sensitivity. It lies in the middle between the two
    neighboring scores. Source: W. J. Youden, Cancer 3, 1950.

    Args:
      labels: [n], 0 or 1, of validation examples.
      scores: f64[n], higher for the positive class.

    Raises:
      ValueError: a class has no example, or a score is not finite.

    Example:
      >>> youden_threshold([0, 0, 1, 1], [1.0, 2.0, 4.0, 5.0])
      3.0
    """
    curve = roc_curve(labels, scores)
    index = curve.true_positive_rate - curve.false_positive_rate
    # The rates are quotients: equal indices may differ by rounding.
    last = np.flatnonzero(index >= index.max() - 1e-12)[-1]
    return _below(curve, last)


def sensitive_threshold(labels: Any, scores: Any, sensitivity: float = 0.95) -> float:
    """Returns the highest threshold with at least this sensitivity.

    It has the highest specificity of all such thresholds, and lies in the middle between the two
    neighboring scores.

    Args:
      labels: [n], 0 or 1, of validation examples.
      scores: f64[n], higher for the positive class.
      sensitivity: the sensitivity that the examples shall have, in (0, 1].

    Raises:
      ValueError: a class has no example, a score is not finite, or the sensitivity is out of range.

    Example:
      >>> sensitive_threshold([0, 1, 0, 1], [1.0, 2.0, 4.0, 6.0], 0.5)
      5.0
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"sensitivity must be in (0, 1], got {sensitivity}")
    curve = roc_curve(labels, scores)
    return _below(curve, np.flatnonzero(curve.true_positive_rate >= sensitivity - 1e-12)[0])


def _below(curve: Roc, point: int) -> float:
    """Returns a threshold with the decisions of a point, halfway to the next lower score."""
    if point == 0:  # no example is positive
        return math.inf
    threshold = curve.thresholds[point]
    if point + 1 == len(curve.thresholds):
        return float(threshold)
    lower = curve.thresholds[point + 1]
    middle = lower + (threshold - lower) / 2
    return float(middle if middle > lower else threshold)
