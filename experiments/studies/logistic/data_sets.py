"""Data sets that a hyperplane through the origin separates, with certified margins.

    margin = max_w min_i <x_i, w> / |w| = min_a |sum_i a_i x_i|    a_i >= 0, sum_i a_i = 1

The x_i are the examples times their labels, with a largest norm of 1. The second problem, the
shortest vector of a polytope, is a non-negative least-squares problem. Its solution is also a
direction w: the margin of w is a lower bound, and the length of the vector is an upper bound.
Together they certify the margin.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import data


class SeparableData(NamedTuple):
    """A separable data set.

    Attributes:
      name: the name in tables.
      examples: f64[n, features], examples times their labels, with a largest norm of 1.
      margin: a lower bound on the margin, which a known direction attains.
      upper_bound: an upper bound on the margin.
    """

    name: str
    examples: np.ndarray
    margin: float
    upper_bound: float


def margin_bounds(examples: np.ndarray) -> tuple[float, float]:
    """Computes a lower and an upper bound on the margin.

    Args:
      examples: f64[n, features], examples times their labels.

    Returns:
      Both bounds. The lower one is at most 0 if the examples are not separable.

    Example:
      >>> low, high = margin_bounds(np.array([[0.6, 0.8], [0.6, -0.8], [0.9, 0.0]]))
      >>> round(low, 9), round(high, 9)
      (0.6, 0.6)
    """
    from scipy.optimize import nnls

    matrix = np.vstack([examples.T, np.ones(len(examples))])
    weights, _ = nnls(matrix, np.eye(len(matrix))[-1], maxiter=100 * len(examples))
    shortest = weights @ examples / weights.sum()
    length = float(np.linalg.norm(shortest))
    return float(np.min(examples @ shortest)) / max(length, 1e-300), length


def draw_examples(n: int, features: int, margin: float, rng: np.random.Generator) -> np.ndarray:
    """Draws examples in the unit ball on one side of a random hyperplane, f64[n, features].

    Their distance from the hyperplane is at least `margin` before the largest norm is scaled to
    1, which changes the smallest distance little.
    """
    normal, *_ = np.linalg.qr(rng.normal(size=(features, features)))
    parallel = rng.normal(size=(n, features - 1))
    distance = margin + np.abs(rng.normal(scale=margin, size=n))
    rows = np.column_stack([distance, parallel / np.linalg.norm(parallel, axis=1).max()])
    return (rows / np.linalg.norm(rows, axis=1).max()) @ normal


def load_pair(name: str, first: int, second: int) -> np.ndarray:
    """Loads two classes of a bundled data set, f64[n, features].

    Features are standardized, and a constant feature is added.
    """
    loaded: Any = data.load(name)
    inputs = np.concatenate([part.inputs for part in (loaded.train, loaded.validation)])
    labels = np.concatenate([part.targets for part in (loaded.train, loaded.validation)])
    inputs = (inputs - loaded.mean) / loaded.std
    signs = np.where(labels == first, 1.0, -1.0)[:, None]
    rows = np.column_stack([inputs, np.ones(len(inputs))]) * signs
    rows = rows[(labels == first) | (labels == second)].astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1).max()


DRAWN = [  # examples, features, margin
    (40, 2, 0.2),
    (50, 5, 0.05),
    (100, 10, 0.1),
    (100, 20, 0.02),
    (200, 3, 0.03),
    (200, 10, 0.05),
    (200, 30, 0.05),
    (300, 5, 0.15),
    (300, 50, 0.03),
    (400, 20, 0.05),
]
PAIRS = [
    *(("digits", *digits) for digits in ((0, 1), (3, 8), (1, 7), (4, 9), (2, 6), (5, 9), (8, 9))),
    *(("wine", *classes) for classes in ((0, 1), (0, 2), (1, 2))),
]


def load_data_sets(count: int, seed: int) -> Sequence[SeparableData]:
    """Returns separable data sets, alternating between generated and real ones.

    Args:
      count: the number of data sets, in [1, 20].
      seed: the seed of the generated data.
    """
    rng = np.random.default_rng(seed)
    found = []
    for (n, features, margin), (name, first, second) in zip(DRAWN, PAIRS, strict=True):
        found.append((f"drawn {n} x {features}", draw_examples(n, features, margin, rng)))
        found.append((f"{name} {first} {second}", load_pair(name, first, second)))
    return [SeparableData(name, x, *margin_bounds(x)) for name, x in found[:count]]
