"""Data that a hyperplane through the origin separates, and by how much.

    margin = max_w min_i <x_i, w> / |w| = min_a |sum_i a_i x_i|    a_i >= 0, sum_i a_i = 1

with x_i the examples times their labels, the longest of length 1. The second problem, the
shortest vector of a polytope, is one of least squares with coefficients that are not negative.
Its solution is a direction w as well: what w attains is a lower bound on the margin, the
vector's length an upper one, and together they are a certificate.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import data


class Separable(NamedTuple):
    """A separable data set.

    Attributes:
      name: what is printed.
      examples: f64[n, features], times their labels, the longest of length 1.
      margin: a lower bound on the margin, attained.
      above: an upper bound on it.
    """

    name: str
    examples: np.ndarray
    margin: float
    above: float


def margin_of(examples: np.ndarray) -> tuple[float, float]:
    """A lower and an upper bound on the margin; the lower is 0 or less if nothing separates.

    Args:
      examples: f64[n, features], times their labels.

    Example:
      >>> low, high = margin_of(np.array([[0.6, 0.8], [0.6, -0.8], [0.9, 0.0]]))
      >>> round(low, 9), round(high, 9)
      (0.6, 0.6)
    """
    from scipy.optimize import nnls

    matrix = np.vstack([examples.T, np.ones(len(examples))])
    weights, _ = nnls(matrix, np.eye(len(matrix))[-1], maxiter=100 * len(examples))
    shortest = weights @ examples / weights.sum()
    length = float(np.linalg.norm(shortest))
    return float(np.min(examples @ shortest)) / max(length, 1e-300), length


def drawn(n: int, features: int, planted: float, rng: np.random.Generator) -> np.ndarray:
    """Examples in the unit ball on one side of a random hyperplane, f64[n, features].

    They are at least `planted` from it before the longest is scaled to length 1, which leaves
    the nearest at about that.
    """
    normal, *_ = np.linalg.qr(rng.normal(size=(features, features)))
    across = rng.normal(size=(n, features - 1))
    away = planted + np.abs(rng.normal(scale=planted, size=n))
    rows = np.column_stack([away, across / np.linalg.norm(across, axis=1).max()])
    return (rows / np.linalg.norm(rows, axis=1).max()) @ normal


def pair(name: str, first: int, second: int) -> np.ndarray:
    """Two classes of a bundled data set, standardized, with a constant feature; f64[n, d]."""
    loaded: Any = data.load(name)
    inputs = np.concatenate([part.inputs for part in (loaded.train, loaded.validation)])
    labels = np.concatenate([part.targets for part in (loaded.train, loaded.validation)])
    inputs = (inputs - loaded.mean) / loaded.std
    signs = np.where(labels == first, 1.0, -1.0)[:, None]
    rows = np.column_stack([inputs, np.ones(len(inputs))]) * signs
    rows = rows[(labels == first) | (labels == second)].astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1).max()


PLANTED = [
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
    *(("wine", *growers) for growers in ((0, 1), (0, 2), (1, 2))),
]


def data_sets(count: int, seed: int) -> Sequence[Separable]:
    """So many separable data sets, generated and real ones in turn.

    Args:
      count: how many, in [1, 20].
      seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    found = []
    for (n, features, planted), (name, first, second) in zip(PLANTED, PAIRS, strict=True):
        found.append((f"drawn {n} x {features}", drawn(n, features, planted, rng)))
        found.append((f"{name} {first} {second}", pair(name, first, second)))
    return [Separable(name, x, *margin_of(x)) for name, x in found[:count]]
