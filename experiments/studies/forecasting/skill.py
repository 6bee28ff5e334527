"""Skill scores with intervals that allow for dependent losses.

    skill = 1 - sum_t loss_t / sum_t loss0_t        loss0 of the naive forecast, on the same targets

A skill of 1 is a perfect forecast, 0 is as good as the naive one, and a negative skill is worse.

Losses of neighboring days are dependent: volatility clusters, and targets of several days overlap.
The interval is from a circular block bootstrap: blocks of consecutive origins are drawn with
replacement, each pair of losses together, until a resample has as many as the test part. Blocks are
drawn within folds, which have gaps between them. A block has `block_length` origins: the cube root
of the number of origins, which is the optimal order, and at least twice the horizon.

Several forecasts are compared with the naive one. For intervals that hold jointly with probability
`level`, each has the level 1 - (1 - level) / comparisons (Bonferroni).

Sources: A. H. Murphy, Monthly Weather Review 116 (1988), for skill scores; D. N. Politis, J. P.
Romano, "A circular block-resampling procedure for stationary data", 1992; P. Hall, J. L. Horowitz,
B.-Y. Jing, "On blocking rules for the bootstrap with dependent data", Biometrika 82 (1995).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A value with its interval.

    Attributes:
      value: the value.
      low, high: the ends of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def block_length(count: int, horizon: int) -> int:
    """Returns the number of consecutive origins in a block.

    Args:
      count: the number of origins.
      horizon: the rows between an origin and its target.

    Example:
      >>> block_length(1_000, 1), block_length(1_000, 5), block_length(1_000, 8)
      (10, 10, 16)
    """
    return min(count, max(math.ceil(round(count ** (1 / 3), 9)), 2 * horizon))


def skill(
    losses: Sequence[np.ndarray],
    naive: Sequence[np.ndarray],
    horizon: int,
    *,
    level: float = 0.95,
    comparisons: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns the skill score of a forecast over all folds.

    Args:
      losses: f64[n] of each fold, in the order of the origins.
      naive: f64[n] of each fold, the losses of the naive forecast.
      horizon: the rows between an origin and its target.
      level: the probability that the intervals hold, in (0, 1).
      comparisons: the number of intervals that should hold jointly.
      resamples: resamples of the bootstrap.
      seed: seed of the bootstrap.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> naive = rng.chisquare(1, 400)
      >>> found = skill([0.8 * naive], [naive], 1)
      >>> round(found.value, 3), round(found.low, 3)
      (0.2, 0.2)
    """
    pairs = _pairs(losses, naive)
    sums = _resampled_sums(pairs, horizon, resamples, seed)
    return _interval(1 - sums[0] / sums[1], level, comparisons)


def gain(
    losses: Sequence[np.ndarray],
    naive: Sequence[np.ndarray],
    horizon: int,
    *,
    level: float = 0.95,
    comparisons: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns the mean of naive loss minus loss, for losses that have no zero, such as likelihoods.

    The arguments are as for `skill`.

    Example:
      >>> found = gain([np.arange(5.0)], [np.arange(5.0) + 0.25], 1)
      >>> found.value, found.low
      (0.25, 0.25)
    """
    pairs = _pairs(losses, naive)
    count = sum(each.shape[1] for each in pairs)
    sums = _resampled_sums(pairs, horizon, resamples, seed)
    return _interval((sums[1] - sums[0]) / count, level, comparisons)


def _pairs(losses: Sequence[np.ndarray], naive: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns f64[2, n] of each fold: the losses and the naive losses."""
    return [np.stack(each).astype(np.float64) for each in zip(losses, naive, strict=True)]


def _resampled_sums(
    pairs: Sequence[np.ndarray], horizon: int, resamples: int, seed: int
) -> np.ndarray:
    """Returns the sums of both losses over all origins, f64[2, 1 + resamples].

    The first is of the origins themselves, the others are of resamples.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((2, 1 + resamples))
    for each in pairs:
        count = each.shape[1]
        length = block_length(count, horizon)
        circle = np.concatenate([each, each[:, : length - 1]], axis=1)
        running = np.concatenate([np.zeros((2, 1)), circle.cumsum(1)], axis=1)
        block_sums = running[:, length:] - running[:, :count]
        blocks = -(-count // length)
        drawn = rng.integers(count, size=(resamples, blocks))
        total[:, 0] += each.sum(1)
        total[:, 1:] += count / (blocks * length) * block_sums[:, drawn].sum(-1)
    return total


def _interval(values: np.ndarray, level: float, comparisons: int) -> Interval:
    """Returns the first value with the interval of the others."""
    tail = 50 * (1 - level) / comparisons
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return Interval(float(values[0]), float(low), float(high))
