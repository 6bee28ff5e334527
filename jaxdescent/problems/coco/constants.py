"""Constants of BBOB instances: minimizer, minimum and matrices.

With rotations Q and R and the diagonal matrix L(c) of c^(i / (n - 1)), i = 0 to n - 1, the
functions of `functions.py` use

    rotation   R; in 9 and 19, a multiple of Q
    linear     R L(c) Q; in 7, 17 and 18, L(c) Q

Source: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829. If the report and COCO's code
differ, as in the signs of the minimizer of 4, this follows the code.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxdescent.problems.coco import generator

SCHWEFEL = 4.2096874637  # twice the absolute value of the minimizer's coordinates in 20
LUNACEK = 2.5  # the same in 24
_SECOND_SEED = 1_000_000  # added to the seed of Q for the seed of R
_PENALTIES = {4: 100.0, 7: 1.0, 17: 10.0, 18: 10.0, 21: 1.0, 22: 1.0, 23: 1.0, 24: 1e4}


class Constants(NamedTuple):
    """Constants of an instance, `f64` on the host and of the problem's dtype in a problem.

    Attributes:
      x_opt: `[n]`, the minimizer.
      f_opt: `[]`, the minimum.
      penalty: `[]`, the weight of the squared distance from the box.
      rotation, linear: `[n, n]`, or None if the function does not use the matrix.
      peaks: `[m, n]`, positions of the peaks of Gallagher's functions, relative to the highest
        peak and rotated.
      widths: `[m, n]`, scales of the peaks along the rotated axes.
      heights: `[m]`, heights of the peaks below the highest.
    """

    x_opt: Any
    f_opt: Any
    penalty: Any
    rotation: Any = None
    linear: Any = None
    peaks: Any = None
    widths: Any = None
    heights: Any = None


def powers(base: float, dimension: int) -> np.ndarray:
    """Returns the diagonal of L: from 1 to `base`, in equal ratios."""
    return base ** (np.arange(dimension) / (dimension - 1))


def zoom(dimension: int) -> float:
    """Returns the scale of Rosenbrock's functions."""
    return max(1.0, np.sqrt(dimension) / 8)


@functools.lru_cache(maxsize=1024)
def constants(number: int, dimension: int, instance: int) -> Constants:
    """Computes the constants of function `number` in `dimension` dimensions."""
    seed = {4: 3, 18: 17}.get(number, number) + 10_000 * instance
    f_opt = generator.offset(seed)
    penalty = 10 / dimension if number == 16 else _PENALTIES.get(number, 0.0)
    if number in _PEAKS:
        return _gallagher(dimension, seed, f_opt, penalty, *_PEAKS[number])
    rotation, linear = _matrices(number, dimension, seed)
    x_opt = _minimizer(number, dimension, seed, rotation)
    return Constants(x_opt, f_opt, penalty, rotation, linear)


def _minimizer(number: int, n: int, seed: int, rotation: np.ndarray | None) -> np.ndarray:
    match number:
        case 9 | 19 if rotation is not None:
            return rotation.sum(0) / (2 * zoom(n) ** 2)
        case 12:
            return generator.minimizer(n, seed + _SECOND_SEED)
        case 20:
            return SCHWEFEL / 2 * np.where(generator.uniform(n, seed) < 0.5, -1, 1)
        case 24:
            return LUNACEK / 2 * np.where(generator.normal(n, seed) < 0, -1, 1)
    x_opt = generator.minimizer(n, seed)
    match number:
        case 4:
            return np.where(np.arange(n) % 2 == 0, np.abs(x_opt), x_opt)
        case 5:
            return 5.0 * np.where(x_opt < 0, -1, 1)
        case 8:
            return 0.75 * x_opt
    return x_opt


_CONDITIONS_RLQ = {6: 10, 13: 10, 15: 10, 16: 0.01, 23: 100, 24: 100}  # linear = R L Q
_CONDITIONS_LQ = {7: 10, 17: 10, 18: 1000}  # linear = L Q


def _matrices(number: int, n: int, seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns the fields `rotation` and `linear`."""
    if number in (9, 19):
        return zoom(n) * generator.rotation(n, seed), None
    if number in (1, 2, 3, 4, 5, 8, 20):
        return None, None
    first = generator.rotation(n, seed + _SECOND_SEED)
    if number in (10, 11, 12, 14):
        return first, None
    second = generator.rotation(n, seed)
    if number in _CONDITIONS_LQ:
        return first, powers(np.sqrt(_CONDITIONS_LQ[number]), n)[:, None] * second
    return first, (first * powers(np.sqrt(_CONDITIONS_RLQ[number]), n)) @ second


_PEAKS = {21: (101, 10.0, 1000.0**0.5), 22: (21, 9.8, 1000.0)}


def _gallagher(
    n: int, seed: int, f_opt: float, penalty: float, count: int, spread: float, condition: float
) -> Constants:
    """Returns constants with random peaks; the highest is shifted toward the center."""
    rotation = generator.rotation(n, seed)
    ranks = np.argsort(generator.uniform(count - 1, seed))
    conditions = np.concatenate([[condition], 1000.0 ** (ranks / (count - 2))])
    orders = [np.argsort(generator.uniform(n, seed + 1000 * i)) for i in range(count)]
    widths = conditions[:, None] ** (np.stack(orders) / (n - 1) - 0.5)
    peaks = spread * generator.uniform(n * count, seed).reshape(count, n) - spread / 2
    peaks[0] *= 0.8
    heights = np.concatenate([[0.0], 10 - np.linspace(1.1, 9.1, count - 1)])
    relative = (peaks - peaks[0]) @ rotation.T
    return Constants(peaks[0], f_opt, penalty, rotation, None, relative, widths, heights)
