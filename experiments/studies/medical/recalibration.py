"""Recalibration of probabilities by one or two parameters, fitted on validation examples.

    log-odds <- slope * log-odds + intercept

`temperature_scaling` fits the slope 1 / temperature (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, ICML
2017, arXiv:1706.04599), and `platt_scaling` both (J. Platt, Advances in Large Margin Classifiers,
1999). Both minimize the cross entropy by Newton's method. A loss with class weights shifts the
log-odds by the logarithm of the ratio of the weights; only the intercept can undo this.

With few examples the scores may separate the classes, and no finite slope is best. Platt's targets
avoid this: (P + 1) / (P + 2) in place of 1 and 1 / (N + 2) in place of 0, with P positive and N
negative examples.
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.studies.medical.checks import checked_labels, checked_scores, checked_varied


class Recalibration(NamedTuple):
    """An increasing map of the log-odds if the slope is positive; the ROC curve stays the same.

    Example:
      >>> float(Recalibration(2.0, 1.0).log_odds(np.array(3.0)))
      7.0
    """

    slope: float
    intercept: float

    def log_odds(self, log_odds: np.ndarray) -> np.ndarray:
        """Returns the recalibrated log-odds, f64[n]."""
        return self.slope * np.asarray(log_odds, np.float64) + self.intercept

    @property
    def temperature(self) -> float:
        """The number that divides the log-odds."""
        return 1 / self.slope


UNCHANGED = Recalibration(1.0, 0.0)


def positive_log_odds(probabilities: Any, positive: int) -> np.ndarray:
    """Returns log(p / (1 - p)) of the positive class, f64[n], from both probabilities.

    Both are needed: a probability near 1 is rounded to 1, but its complement keeps its digits. A
    probability of 0 counts as the smallest normal float32.

    Args:
      probabilities: f32[n, 2] of the classes.
      positive: the number of the positive class, 0 or 1.

    Raises:
      ValueError: the probabilities are not of this shape, or are not probabilities.

    Example:
      >>> positive_log_odds(np.array([[0.2, 0.8], [0.5, 0.5]]), 1).round(6)
      array([1.386294, 0.      ])
    """
    array = np.asarray(probabilities, np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"probabilities must be of shape (n, 2), got {array.shape}")
    sums = array.sum(1)
    wrong = np.flatnonzero(~((array.min(1) >= 0) & (np.abs(sums - 1) < 1e-3)))
    if wrong.size:
        raise ValueError(
            "probabilities must be in [0, 1] with the sum 1, "
            f"got {array[wrong[0]].tolist()} at position {wrong[0]}"
        )
    logs = np.log(np.maximum(array, np.finfo(np.float32).tiny))
    return logs[:, positive] - logs[:, 1 - positive]


def temperature_scaling(labels: Any, log_odds: Any, *, smooth: bool = True) -> Recalibration:
    """Returns the slope that minimizes the cross entropy; the intercept is 0.

    Args:
      labels: [n], 0 or 1, of validation examples.
      log_odds: f64[n].
      smooth: use Platt's targets.

    Raises:
      ValueError: a class has no example, the log-odds are not finite, or no finite slope is best.

    Example:
      >>> fit = temperature_scaling([0, 1, 1, 1], [-2.0, -2.0, 2.0, 2.0], smooth=False)
      >>> round(fit.slope, 4)  # of the four examples, three are on the right side: log(3) / 2
      0.5493
    """
    positive = checked_labels(labels)
    scores = checked_scores(log_odds, positive, name="log_odds")
    margins = np.where(positive, scores, -scores)
    if not np.any(scores):
        raise ValueError("log_odds must be different from 0 for an example; train longer")
    if not smooth and (np.all(margins >= 0) or np.all(margins <= 0)):
        raise _no_overlap()
    spread = np.sqrt(np.mean(scores**2))
    (scaled,) = _minimize(scores[:, None] / spread, _targets(positive, smooth))
    return Recalibration(float(scaled / spread), 0.0)


def platt_scaling(labels: Any, log_odds: Any, *, smooth: bool = True) -> Recalibration:
    """Returns the slope and the intercept that minimize the cross entropy.

    Args:
      labels: [n], 0 or 1, of validation examples.
      log_odds: f64[n].
      smooth: use Platt's targets.

    Raises:
      ValueError: a class has no example, the log-odds are not finite or all equal, or no finite
        slope is best.

    Example:
      >>> fit = platt_scaling([0, 1, 1, 0, 1, 0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], smooth=False)
      >>> round(fit.slope, 4), round(fit.intercept, 4)  # log(1 / 2) - log(2) and log(2)
      (-1.3863, 0.6931)
    """
    positive = checked_labels(labels)
    scores = checked_varied(checked_scores(log_odds, positive, name="log_odds"), name="log_odds")
    high, low = scores[positive], scores[~positive]
    if not smooth and (high.min() >= low.max() or high.max() <= low.min()):
        raise _no_overlap()
    spread = scores.std()
    columns = np.column_stack([(scores - scores.mean()) / spread, np.ones(len(scores))])
    scaled, constant = _minimize(columns, _targets(positive, smooth))
    slope = scaled / spread
    return Recalibration(float(slope), float(constant - slope * scores.mean()))


def _targets(positive: np.ndarray, smooth: bool) -> np.ndarray:
    """Returns Platt's targets, or the labels, f64[n]."""
    if not smooth:
        return positive.astype(np.float64)
    count = int(positive.sum())
    return np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))


def _no_overlap() -> ValueError:
    return ValueError(
        "log_odds must overlap between the classes, got log_odds that separate them, for which no "
        "finite slope is best; set smooth=True"
    )


def _minimize(columns: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the weights f64[k] of the columns f64[n, k] with the least cross entropy."""
    weights = np.zeros(columns.shape[1])

    def loss(weights: np.ndarray) -> float:
        log_odds = columns @ weights
        return float(np.mean(np.logaddexp(0, log_odds) - targets * log_odds))

    for _ in range(100):
        p = sigmoid(columns @ weights)
        gradient = columns.T @ (p - targets) / len(p)
        hessian = (columns.T * (p * (1 - p))) @ columns / len(p)
        # The ridge counts only where the curvature underflows, far from the minimum.
        step = np.linalg.solve(hessian + 1e-14 * np.eye(len(hessian)), gradient)
        size, before = 1.0, loss(weights)
        while loss(weights - size * step) > before and size > 1e-12:
            size /= 2
        weights = weights - size * step
        if np.max(np.abs(size * step)) <= 1e-10 * (1 + np.max(np.abs(weights))):
            break
    return weights


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Returns the probabilities of log-odds.

    Example:
      >>> sigmoid(np.array([0.0, -1000.0]))
      array([0.5, 0. ])
    """
    return np.exp(-np.logaddexp(0, -np.asarray(log_odds, np.float64)))
