"""Levels of a loss for pictures: where contours lie, what is clipped, and on what scale.

Half of a plane is often far above what matters in it, and some of it may not be finite. So a
picture has a ceiling, by default the value that nine tenths of the finite ones stay below, and
says how much it clipped. A loss that is positive and spans more than two decades is drawn on a
logarithmic scale; on the other one levels lie closer the lower they are, as the square of even
steps, so that the contours of a bowl are evenly apart.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

_LEVELS = 17
_DECADES = 2.0


class Levels(NamedTuple):
    """How a loss is drawn.

    Attributes:
      levels: f64[17], ascending.
      logarithmic: whether the scale is.
      clipped: how many values are above the last level.
      not_finite: how many are not finite.
    """

    levels: np.ndarray
    logarithmic: bool
    clipped: int
    not_finite: int

    def clip(self, values: Any) -> np.ndarray:
        """Values no higher than the last level; NaN where they are not finite."""
        array = np.asarray(values, np.float64)
        return np.where(np.isfinite(array), np.minimum(array, self.levels[-1]), np.nan)

    @property
    def words(self) -> str:
        """What a picture does not show, for its caption; empty if there is nothing."""
        said = []
        if self.clipped:
            said.append(f"{self.clipped} points above {self.levels[-1]:.3g} clipped")
        if self.not_finite:
            said.append(f"{self.not_finite} not finite, hatched")
        return ", ".join(said)


def levels(values: ArrayLike, ceiling: float | None = None) -> Levels:
    """The levels for values of any shape.

    Args:
      values: losses.
      ceiling: the last level; by default the ninth decile of the finite values, or their
        maximum where that is no more than twice as far above the minimum.

    Raises:
      ValueError: no value is finite, or the ceiling is no number above the least.
    """
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise ValueError(f"values must hold a finite number, got none among {array.size}")
    low, high = float(finite.min()), float(finite.max())
    if ceiling is not None:
        if not (np.isfinite(ceiling) and (ceiling > low or high == low)):
            raise ValueError(f"ceiling must be a number in ({low:g}, inf), got {ceiling!r}")
        top = float(ceiling)
    else:
        decile = float(np.quantile(finite, 0.9))
        top = high if high - low <= 2 * (decile - low) else decile
    if not top > low:  # a plain
        top = low + max(abs(low), 1.0) * 1e-6
    logarithmic = low > 0 and np.log10(top / low) > _DECADES
    even = np.linspace(0.0, 1.0, _LEVELS)
    steps = low * (top / low) ** even if logarithmic else low + (top - low) * even**2
    steps[0], steps[-1] = low, top
    return Levels(steps, bool(logarithmic), int(np.sum(finite > top)), array.size - finite.size)
