"""Checks of labels and scores, with the wording of `jaxdescent.validation`."""

from typing import Any

import numpy as np


def checked_labels(labels: Any, *, least: int = 1) -> np.ndarray:
    """Returns labels as bool[n]; True is the positive class, the disease.

    Args:
      labels: [n], False or 0 and True or 1.
      least: the smallest number of examples of each class.

    Raises:
      ValueError: the labels are not of this kind, or a class has too few examples.

    Example:
      >>> checked_labels([1, 1])
      Traceback (most recent call last):
      ValueError: labels must have at least 1 example of each class, got 0 negative and 2 positive
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"labels must be of shape (n,), got {array.shape}")
    wrong = np.flatnonzero((array != 0) & (array != 1))
    if wrong.size:
        raise ValueError(f"labels must be 0 or 1, got {array[wrong[0]]} at position {wrong[0]}")
    positive = array.astype(bool)
    counts = int(np.sum(~positive)), int(np.sum(positive))
    if min(counts) < least:
        raise ValueError(
            f"labels must have at least {least} example{'s' * (least > 1)} of each class, "
            f"got {counts[0]} negative and {counts[1]} positive"
        )
    return positive


def checked_scores(scores: Any, labels: np.ndarray, *, name: str = "scores") -> np.ndarray:
    """Returns finite scores as f64[n], of the same length as the labels.

    Raises:
      ValueError: a score is not finite, or the shapes differ.

    Example:
      >>> checked_scores([0.5, np.nan], np.array([True, False]))
      Traceback (most recent call last):
      ValueError: scores must be finite, got nan at position 1
    """
    array = np.asarray(scores, np.float64)
    if array.shape != labels.shape:
        raise ValueError(f"{name} must be of shape {labels.shape} as labels, got {array.shape}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ValueError(f"{name} must be finite, got {array[wrong[0]]} at position {wrong[0]}")
    return array


def checked_varied(scores: np.ndarray, *, name: str = "scores") -> np.ndarray:
    """Returns the scores if they have at least two values.

    Raises:
      ValueError: all scores are equal.

    Example:
      >>> checked_varied(np.array([0.5, 0.5]))
      Traceback (most recent call last):
      ValueError: scores must have at least 2 values, got 0.5 for all 2 examples; train longer
    """
    if np.all(scores == scores[0]):
        raise ValueError(
            f"{name} must have at least 2 values, got {scores[0]} for all {len(scores)} examples; "
            "train longer"
        )
    return scores


def checked_probabilities(probabilities: Any, labels: np.ndarray) -> np.ndarray:
    """Returns probabilities of the positive class in [0, 1] as f64[n].

    Raises:
      ValueError: a probability is not in [0, 1], or the shapes differ.

    Example:
      >>> checked_probabilities([0.5, 1.2], np.array([True, False]))
      Traceback (most recent call last):
      ValueError: probabilities must be in [0, 1], got 1.2 at position 1
    """
    array = checked_scores(probabilities, labels, name="probabilities")
    wrong = np.flatnonzero((array < 0) | (array > 1))
    if wrong.size:
        raise ValueError(
            f"probabilities must be in [0, 1], got {array[wrong[0]]} at position {wrong[0]}"
        )
    return array
