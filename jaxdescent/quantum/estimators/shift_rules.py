"""Shift rules: derivatives of trigonometric polynomials from values.

    f'(x) = sum over k of y_k (f(x + s_k) - f(x - s_k))

f has R frequencies. If they are u, 2u, ..., R u, then

    s_k = (2k - 1) pi / (2 R u)          y_k = u (-1)^(k-1) / (4 R sin^2(u s_k / 2))

and R = 1 is the two-term rule. For other frequencies w_j, y solves sum_k 2 y_k sin(w_j s_k) = w_j.

Source: D. Wierichs, J. Izaac, C. Wang, C. Y.-Y. Lin 2022, arXiv:2107.12390.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ShiftRule(NamedTuple):
    """A shift rule.

    Attributes:
      shifts: f[R], s.
      weights: f[R], y.
    """

    shifts: np.ndarray
    weights: np.ndarray


def shift_rule(frequencies: Sequence[float]) -> ShiftRule:
    """Returns the shift rule of positive frequencies."""
    found = np.sort(np.asarray(frequencies, float))
    count, unit = len(found), found[0]
    numbers = np.arange(1, count + 1)
    if np.allclose(found, unit * numbers):
        shifts = (2 * numbers - 1) * np.pi / (2 * count * unit)
        signs = (-1.0) ** (numbers - 1)
        return ShiftRule(shifts, unit * signs / (4 * count * np.sin(unit * shifts / 2) ** 2))
    shifts = (2 * numbers - 1) * np.pi / (2 * count * np.mean(found))
    return ShiftRule(shifts, np.linalg.solve(2 * np.sin(np.outer(found, shifts)), found))
