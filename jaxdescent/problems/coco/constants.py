"""What an instance of a BBOB function is: its minimizer, its minimum and its matrices.

With Q and R two rotations and L(c) the diagonal matrix of c^(i / (n - 1)), i = 0 to n - 1, the
functions of `functions.py` use

    rotation   R, and Q in 9 and 19, where it is also scaled
    linear     R L(c) Q, or L(c) Q in 7, 17 and 18

Source: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829. Where the report and COCO's
code differ, such as in the signs of the minimizer of 4, it is the code that is followed.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxdescent.problems.coco import generator

SCHWEFEL = 4.2096874637  # twice the size of the minimizer's coordinates in 20
LUNACEK = 2.5  # likewise in 24
_ANOTHER = 1_000_000  # from the seed of Q to that of R
_PENALTIES = {4: 100.0, 7: 1.0, 17: 10.0, 18: 10.0, 21: 1.0, 22: 1.0, 23: 1.0, 24: 1e4}


class Constants(NamedTuple):
    """An instance's numbers: `f64` on the host, of the problem's dtype inside it.

    Attributes:
      x_opt: `[n]`, the minimizer.
      f_opt: `[]`, the minimum.
      penalty: `[]`, what the squared distance from the box counts for.
      rotation, linear: `[n, n]`, or None where the function has none.
      peaks: `[m, n]`, of Gallagher's functions: the peaks, relative to the highest, rotated.
      widths: `[m, n]`, their scales along the rotated axes.
      heights: `[m]`, how much lower than the highest they are.
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
    """The diagonal of L: from 1 to `base`, in equal ratios."""
    return base ** (np.arange(dimension) / (dimension - 1))


def zoom(dimension: int) -> float:
    """By how much Rosenbrock's functions are scaled."""
    return max(1.0, np.sqrt(dimension) / 8)


@functools.lru_cache(maxsize=1024)
def constants(number: int, dimension: int, instance: int) -> Constants:
    """The numbers of function `number` in `dimension` dimensions."""
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
            return generator.place(n, seed + _ANOTHER)
        case 20:
            return SCHWEFEL / 2 * np.where(generator.uniform(n, seed) < 0.5, -1, 1)
        case 24:
            return LUNACEK / 2 * np.where(generator.normal(n, seed) < 0, -1, 1)
    x_opt = generator.place(n, seed)
    match number:
        case 4:
            return np.where(np.arange(n) % 2 == 0, np.abs(x_opt), x_opt)
        case 5:
            return 5.0 * np.where(x_opt < 0, -1, 1)
        case 8:
            return 0.75 * x_opt
    return x_opt


_BETWEEN = {6: 10, 13: 10, 15: 10, 16: 0.01, 23: 100, 24: 100}  # R L Q
_OUTSIDE = {7: 10, 17: 10, 18: 1000}  # L Q


def _matrices(number: int, n: int, seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The rotation and the other matrix, where the function has them."""
    if number in (9, 19):
        return zoom(n) * generator.rotation(n, seed), None
    if number in (1, 2, 3, 4, 5, 8, 20):
        return None, None
    first = generator.rotation(n, seed + _ANOTHER)
    if number in (10, 11, 12, 14):
        return first, None
    second = generator.rotation(n, seed)
    if number in _OUTSIDE:
        return first, powers(np.sqrt(_OUTSIDE[number]), n)[:, None] * second
    return first, (first * powers(np.sqrt(_BETWEEN[number]), n)) @ second


_PEAKS = {21: (101, 10.0, 1000.0**0.5), 22: (21, 9.8, 1000.0)}


def _gallagher(
    n: int, seed: int, f_opt: float, penalty: float, count: int, spread: float, condition: float
) -> Constants:
    """Random peaks, the highest one drawn toward the middle."""
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
