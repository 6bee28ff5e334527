"""Contour levels of a loss: their positions, their scale, and the values that are clipped.

The loss on a plane is often large or non-finite far from the origin. A figure therefore has a
ceiling, by default the 90th percentile of the finite values, and its caption counts the points that
are clipped. A positive loss that spans more than two decades has a logarithmic scale. Otherwise the
levels are squares of evenly spaced numbers, so that the contours of a quadratic are evenly spaced.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

_LEVELS = 17
_DECADES = 2.0


class Levels(NamedTuple):
    """Contour levels of a loss.

    Attributes:
      levels: f64[17], ascending.
      logarithmic: True if the scale is logarithmic.
      clipped: number of values above the last level.
      not_finite: number of non-finite values.
    """

    levels: np.ndarray
    logarithmic: bool
    clipped: int
    not_finite: int

    def clip(self, values: Any) -> np.ndarray:
        """Returns the values, at most the last level; NaN where they are not finite."""
        array = np.asarray(values, np.float64)
        return np.where(np.isfinite(array), np.minimum(array, self.levels[-1]), np.nan)

    @property
    def caption(self) -> str:
        """Caption that lists clipped and non-finite points; empty if there are none."""
        parts = []
        if self.clipped:
            parts.append(f"{self.clipped} points above {self.levels[-1]:.3g} clipped")
        if self.not_finite:
            parts.append(f"{self.not_finite} not finite, hatched")
        return ", ".join(parts)


def levels(values: ArrayLike, ceiling: float | None = None) -> Levels:
    """Returns the levels for losses of any shape.

    Args:
      values: losses.
      ceiling: the last level; by default the 90th percentile of the finite values, or their maximum
        if that is at most twice as far above the minimum.

    Raises:
      ValueError: no value is finite, or the ceiling is not a number above the smallest value.
    """
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise ValueError(f"values must hold a finite number, got {array.size} non-finite values")
    low, high = float(finite.min()), float(finite.max())
    if ceiling is not None:
        if not (np.isfinite(ceiling) and (ceiling > low or high == low)):
            raise ValueError(f"ceiling must be a number in ({low:g}, inf), got {ceiling!r}")
        top = float(ceiling)
    else:
        decile = float(np.quantile(finite, 0.9))
        top = high if high - low <= 2 * (decile - low) else decile
    if not top - low > 1e-12 * abs(low):  # a constant loss
        top = low + max(abs(low), 1.0) * 1e-6
    logarithmic = low > 0 and np.log10(top / low) > _DECADES
    even = np.linspace(0.0, 1.0, _LEVELS)
    steps = low * (top / low) ** even if logarithmic else low + (top - low) * even**2
    steps[0], steps[-1] = low, top
    return Levels(steps, bool(logarithmic), int(np.sum(finite > top)), array.size - finite.size)
