"""Detects updates that are not applied as a tower returned them.

A tower assumes that its update u is added to the parameters. A transformation after the tower in a
chain, or a projection in the training loop, makes another step d. The state holds the parameters at
a few coordinates of each leaf; the next parameters there give d, and u is computed again there. If
d is not u, and g is the next gradient, the hypergradient is multiplied by

    <g, d> / <g, u>          at these coordinates, clipped to [-1, 1]

So it has the sign of the effect of the step that was made, which momentum after the tower may turn
around. If one of d and u is more than `LONGEST` times as long as the other, the hypergradient is
zero: with clipping by norm after the tower, the learning rate would grow without end.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import sharding
from jaxdescent.numerics import widest_float

LONGEST = 100.0
COORDINATES = 64  # of each leaf
_ROUNDINGS = 8  # of the parameters' dtype, which a step may differ by
_SHARE = 1e-3  # of the update, which a step may differ by
_FLUSHED = float(jnp.finfo(jnp.float32).tiny)  # XLA may replace smaller numbers by zero


class Rounding(NamedTuple):
    """Rounding errors of arrays.

    Attributes:
      eps: the relative error.
      smallest: the absolute error of numbers near zero.
    """

    eps: float
    smallest: float


def few(array: jax.Array) -> jax.Array:
    """Returns a vector of at most `COORDINATES` evenly spaced coordinates of an array."""
    array = jnp.asarray(array)
    size = min(COORDINATES, array.size)
    stride = array.size // size if size else 1
    if not array.ndim or (array.ndim == 1 and not sharding.may_be_partitioned(array)):
        return jnp.ravel(array)[: size * stride : stride]
    return sharding.at(array, stride * np.arange(size))


def sampled(leaves: Sequence[Any]) -> list[int]:
    """Returns the indices of the leaves of real floating-point numbers."""
    return [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def coordinates(tree: Any) -> jax.Array:
    """Returns a few coordinates of each floating-point leaf of a tree, in one vector."""
    leaves = jax.tree.leaves(tree)
    return joined([few(leaves[i]) for i in sampled(leaves)], widest_float(tree))


def joined(parts: Sequence[jax.Array], dtype: Any) -> jax.Array:
    """Returns vectors as one."""
    return jnp.concatenate([part.astype(dtype) for part in parts] or [jnp.zeros(0, dtype)])


def first_sample(params: Any) -> jax.Array:
    """Returns zeros like the coordinates of the parameters, which may be shapes."""
    leaves = jax.tree.leaves(params)
    count = sum(min(COORDINATES, leaves[i].size) for i in sampled(leaves))
    return jnp.zeros(count, widest_float(params))


def coordinates_of_params(params: Any, grads: Any) -> jax.Array:
    """Returns coordinates of the parameters, which are NaN if these were not passed."""
    if params is None:
        return jnp.full_like(coordinates(grads), jnp.nan)
    return coordinates(params)


def factor(
    old: jax.Array, now: jax.Array, u: jax.Array, g: jax.Array, rounding: Rounding
) -> tuple[jax.Array, jax.Array]:
    """Compares the last update with the step that was made, at a few coordinates.

    Args:
      old: the parameters before the update.
      now: the present parameters.
      u: the update.
      g: the present gradient, of which the hypergradient is made.
      rounding: of the parameters.

    Returns:
      bool[], True if the step differs from the update by more than rounding, and the factor of the
      hypergradient, a constant in derivatives. Where parameters were not passed, or are not finite,
      the update counts as applied.
    """
    if not now.size:
        return jnp.zeros((), bool), jnp.ones((), now.dtype)
    old, now, u, g = jax.lax.stop_gradient((old, now, u, g.astype(now.dtype)))
    d = now - old
    eps, smallest = (_ROUNDINGS * error for error in rounding)
    tolerance = eps * jnp.abs(old) + max(_SHARE, eps) * jnp.abs(u) + smallest
    size = jnp.max(jnp.abs(u))  # squares may overflow, or vanish
    rows = jnp.stack([d / size, u / size, g, (jnp.abs(d - u) > tolerance).astype(u.dtype)])
    products = jnp.matmul(rows, rows.T, precision="highest")  # one operation for all sums
    altered, squares = products[3, 3] > 0, products[0, 0] / products[1, 1]
    ratio = jnp.clip(products[2, 0] / products[2, 1], -1, 1)
    comparable = jnp.abs(jnp.log(squares)) < 2 * math.log(LONGEST)
    made = jnp.where(comparable & ~jnp.isnan(ratio), ratio, 0)
    return altered, jnp.where(altered, made, 1)


def rounding_of(params: Any) -> Rounding:
    """Returns the largest rounding errors of the floating-point leaves of a tree."""
    leaves = jax.tree.leaves(params)
    kinds = [jnp.finfo(leaves[i].dtype) for i in sampled(leaves)]
    return Rounding(
        eps=max((float(kind.eps) for kind in kinds), default=0.0),
        smallest=max((float(kind.smallest_subnormal) for kind in kinds), default=0.0) + _FLUSHED,
    )
