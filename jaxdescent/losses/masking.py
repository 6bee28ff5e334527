"""Masks: what is left out gives 0 and has no gradient, whatever it holds.

    inside = where(w, x, 0)            before: else 0 * inf in the backward pass is NaN
    loss   = where(w, f(inside), 0)    after: else f(0) would be counted

Losses of rows, `[..., coordinates]` to `[...]`, take a mask of either shape, as in optax. Of
the coordinates that are left out nothing enters, as if the row were shorter; a row of which
nothing is left is left out.
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
    """The mean of the losses that are not masked, or 0 if all are.

    Losses that are masked have no gradient here, but a NaN that was made on the way to
    them would still come through; give `where` to the loss as well.

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
    (losses,) = arguments.floats(losses=losses)
    if where is None:
        return jnp.mean(losses, axis)
    where = arguments.mask(where, losses.shape)
    count = jnp.sum(where, axis, dtype=losses.dtype)
    return jnp.sum(keep(where, losses), axis) / jnp.maximum(count, 1)


def keep(where: jax.Array | None, values: jax.Array) -> jax.Array:
    """The values with 0 where they are masked."""
    return values if where is None else jnp.where(where, values, jnp.zeros_like(values))


def elementwise(
    loss: Callable[..., jax.Array], where: ArrayLike | None, *arrays: jax.Array
) -> jax.Array:
    """The losses of the elements, 0 where they are masked.

    Args:
      loss: finite at 0, with all its derivatives.
      where: a mask of the arrays' shape.
      *arrays: what the loss takes.
    """
    if where is not None:
        where = arguments.mask(where, arrays[0].shape)
    return keep(where, loss(*(keep(where, array) for array in arrays)))


class Rows(NamedTuple):
    """What is left of arrays of shape `[..., coordinates]`; None is everything.

    Attributes:
      rows: `bool[...]`, the rows that count.
      coordinates: `bool[..., coordinates]`, what counts of them: never nothing, for a row
        that does not count is whole.
    """

    rows: jax.Array | None
    coordinates: jax.Array | None

    @classmethod
    def of(cls, where: Any, shape: tuple[int, ...]) -> "Rows":
        """The rows that a mask of either shape leaves."""
        if where is None:
            return cls(None, None)
        where = arguments.mask(where, shape[:-1], shape)
        if where.ndim < len(shape):
            return cls(where, None)
        rows = jnp.any(where, axis=-1)
        return cls(rows, where | ~rows[..., None])

    def only(self, rows: jax.Array) -> "Rows":
        """These, without some more rows."""
        return self._replace(rows=rows if self.rows is None else self.rows & rows)

    def fill(self, values: jax.Array) -> jax.Array:
        """Values of `[..., coordinates]` with 0 where they are masked."""
        rows = None if self.rows is None else self.rows[..., None]
        return keep(rows, keep(self.coordinates, values))

    def mean(self, values: jax.Array) -> jax.Array:
        """The mean over the coordinates that are left, 0 in rows that are not."""
        return keep(self.rows, jnp.mean(values, axis=-1, where=self.coordinates))

    def sizes(self, values: jax.Array) -> jax.Array:
        """How many coordinates of each row are left, in the dtype of `values`."""
        return jnp.sum(jnp.ones_like(values), axis=-1, where=self.coordinates)
