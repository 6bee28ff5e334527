"""Numbers of a training: losses, instability events, and ratios to the best fixed learning rate."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from experiments.studies.chaotic_series.streams import StreamName
from experiments.studies.chaotic_series.training import Course, Key

Part = Literal["all", "half"]
MEMORY, JUMP = 500, 10.0
"""An event is a loss above `JUMP` times the median of the `MEMORY` losses before it."""


def median_loss(losses: np.ndarray, part: Part) -> float:
    """Returns the median over the networks of the mean loss; inf for networks that diverged.

    Args:
      losses: f32[steps, seeds].
      part: "all" steps, or the second "half" of them.
    """
    chosen = losses[len(losses) // 2 :] if part == "half" else losses
    means = chosen.mean(0, dtype=np.float64)
    return float(np.median(np.where(np.isfinite(means), means, np.inf)))


def instabilities(losses: np.ndarray) -> int:
    """Counts the steps, over all networks, with a loss that is not finite or jumps.

    Example:
      >>> instabilities(np.array([[1.0], [2.0], [16.0], [np.nan], [1.0]]))  # medians 1, 1.5, 2, 9
      2
    """
    losses = np.where(np.isfinite(losses), losses, np.inf)
    events = np.isinf(losses)
    for step in range(1, len(losses)):
        before = np.median(losses[max(0, step - MEMORY) : step], axis=0)
        events[step] |= losses[step] > JUMP * before
    return int(events.sum())


class Best(NamedTuple):
    """The best training with a fixed learning rate, and its loss."""

    key: Key
    loss: float


def best_fixed(courses: Mapping[Key, Course], stream: StreamName, part: Part = "half") -> Best:
    """Returns the fixed learning rate of SGD with the least loss on a stream."""
    found = [
        Best(key, median_loss(course.losses, part))
        for key, course in courses.items()
        if key.stream == stream and key.method == "sgd"
    ]
    return min(found, key=lambda best: best.loss)
