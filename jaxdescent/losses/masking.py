"""Masks: excluded entries have loss 0 and gradient 0, even if they are NaN or infinite.

    inside = where(w, x, 0)            before the loss: 0 * inf in the backward pass is NaN
    loss   = where(w, f(inside), 0)    after the loss: f(0) would be counted

Losses of rows, `[..., coordinates]` to `[...]`, take a mask of either shape, as in optax. Excluded
coordinates are dropped, as if the row were shorter. A row without included coordinates is
excluded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent.losses import arguments


def masked_mean(
    losses: ArrayLike, where: ArrayLike | None = None, *, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    """Computes the mean of the losses that are not masked, or 0 if all are masked.

    Masked losses have gradient 0 here, but a NaN inside the computation of a masked loss still
    makes its gradient NaN. Pass `where` to the loss as well. The mean is not weighted: for class
    weights use `mean_cross_entropy`.

    Args:
      losses: `f32[...]`.
      where: `bool[...]` of the same shape, the losses to include; all by default.
      axis: the axis or axes to take the mean over; all by default.

    Returns:
      The mean, in float32 or float64.

    Raises:
      TypeError: `where` is not boolean.
      ValueError: `where` has another shape than `losses`.

    Example:
      >>> losses = jnp.array([1.0, 3.0, jnp.nan])
      >>> float(masked_mean(losses, jnp.array([True, True, False])))
      2.0
    """
    (losses,) = arguments.as_floats(losses=losses)
    if where is None:
        return jnp.mean(losses, axis)
    where = arguments.as_mask(where, losses.shape)
    count = jnp.sum(where, axis, dtype=losses.dtype)
    return jnp.sum(keep(where, losses), axis) / jnp.maximum(count, 1)


def keep(where: jax.Array | None, values: jax.Array) -> jax.Array:
    """Returns the values, with 0 where they are masked."""
    return values if where is None else jnp.where(where, values, jnp.zeros_like(values))


def elementwise(
    loss: Callable[..., jax.Array], where: ArrayLike | None, *arrays: jax.Array
) -> jax.Array:
    """Evaluates an elementwise loss, with 0 where it is masked.

    Args:
      loss: called with the arrays; it and all its derivatives must be finite at 0.
      where: a mask of the arrays' shape.
      *arrays: the arguments of the loss.
    """
    if where is not None:
        where = arguments.as_mask(where, arrays[0].shape)
    return keep(where, loss(*(keep(where, array) for array in arrays)))


class RowMask(NamedTuple):
    """Mask of arrays of shape `[..., coordinates]`. None includes everything.

    Attributes:
      rows: `bool[...]`, the included rows.
      coordinates: `bool[..., coordinates]`, the included coordinates; all of them in an excluded
        row, so that every row has at least one.
    """

    rows: jax.Array | None
    coordinates: jax.Array | None

    @classmethod
    def from_where(cls, where: Any, shape: tuple[int, ...]) -> "RowMask":
        """Converts a mask of shape `[...]` or `[..., coordinates]`, or None."""
        if where is None:
            return cls(None, None)
        where = arguments.as_mask(where, shape[:-1], shape)
        if where.ndim < len(shape):
            return cls(where, None)
        rows = jnp.any(where, axis=-1)
        return cls(rows, where | ~rows[..., None])

    def restrict(self, rows: jax.Array) -> "RowMask":
        """Returns this mask with only the given rows, `bool[...]`."""
        return self._replace(rows=rows if self.rows is None else self.rows & rows)

    def fill(self, values: jax.Array) -> jax.Array:
        """Returns values of shape `[..., coordinates]`, with 0 where they are masked."""
        rows = None if self.rows is None else self.rows[..., None]
        return keep(rows, keep(self.coordinates, values))

    def mean(self, values: jax.Array) -> jax.Array:
        """Computes the mean over the included coordinates; 0 in excluded rows."""
        return keep(self.rows, jnp.mean(values, axis=-1, where=self.coordinates))

    def counts(self, values: jax.Array) -> jax.Array:
        """Returns the number of included coordinates of each row, in the dtype of `values`."""
        return jnp.sum(jnp.ones_like(values), axis=-1, where=self.coordinates)
