"""COCO's random number generator, for the constants of BBOB instances.

A multiplicative congruential generator (s <- 16807 s mod 2^31 - 1) is shuffled through a table
of 32 entries: the previous output selects the entry to return next, and a new number replaces
it. Normal numbers come from the Box-Muller transform, with one half of the uniform numbers as
radii and the other half as angles. A rotation is a matrix of normal numbers, filled by columns
and orthogonalized by modified Gram-Schmidt.

All computations are float64 on the host. The order of operations is part of the definition:
another order changes the last digits, and f_opt is rounded.

Sources: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829; for the shuffle, C. Bays
and S. D. Durham, 1976, doi:10.1145/355666.355670.
"""

import math

import numpy as np

_MODULUS = 2**31 - 1
_MULTIPLIER = 16807
_TABLE = 32
_CELL = 67108865  # 2^26 + 1: a number's index in the table is its quotient by this
_TINY = 1e-99  # replaces a zero, for logarithms and signs


def uniform(count: int, seed: int) -> np.ndarray:
    """Returns uniform numbers in (0, 1), `f64[count]`."""
    state = max(abs(seed), 1)
    warmup = []
    for _ in range(40):
        state = state * _MULTIPLIER % _MODULUS
        warmup.append(state)
    table = warmup[: -_TABLE - 1 : -1]  # the last number is the first entry
    current, drawn = table[0], np.empty(count)
    for i in range(count):
        state = state * _MULTIPLIER % _MODULUS
        index = current // _CELL
        current, table[index] = table[index], state
        drawn[i] = current / _MODULUS
    return np.where(drawn == 0, _TINY, drawn)


def normal(count: int, seed: int) -> np.ndarray:
    """Returns standard normal numbers, `f64[count]`."""
    radii, angles = np.split(uniform(2 * count, seed), 2)
    # The C library's logarithm and cosine, as in COCO; NumPy's may differ in the last digit.
    pairs = zip(radii.tolist(), angles.tolist(), strict=True)
    drawn = [math.sqrt(-2 * math.log(r)) * math.cos(2 * math.pi * a) for r, a in pairs]
    return np.array([d or _TINY for d in drawn])


def rotation(dimension: int, seed: int) -> np.ndarray:
    """Returns an orthogonal matrix, `f64[dimension, dimension]`."""
    columns = list(normal(dimension**2, seed).reshape(dimension, dimension))
    for i, column in enumerate(columns):
        for before in columns[:i]:
            column = column - _dot(column, before) * before
        columns[i] = column / np.sqrt(_dot(column, column))
    return np.stack(columns, axis=1)


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the inner product, summed in order."""
    return np.cumsum(a * b)[-1]


def minimizer(dimension: int, seed: int) -> np.ndarray:
    """Returns a minimizer in [-4, 4], `f64[dimension]`, on a grid of 8e-4 without 0."""
    drawn = 8 * np.floor(1e4 * uniform(dimension, seed)) / 1e4 - 4
    return np.where(drawn == 0, -1e-5, drawn)


def offset(seed: int) -> float:
    """Returns a minimum in [-1000, 1000], a ratio of normal numbers rounded to hundredths."""
    ratio = normal(1, seed)[0] / normal(1, seed + 1)[0]
    return min(1000.0, max(-1000.0, math.floor(100 * 100 * ratio + 0.5) / 100))
