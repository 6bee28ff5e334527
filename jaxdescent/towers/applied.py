"""Detects updates that are not applied as a tower returned them.

A tower assumes that its update u is added to the parameters. A transformation after the tower in a
chain, or a projection in the training loop, makes another step d. The state holds the parameters
and updates at a few coordinates of each leaf; the next parameters there give d. If d is not u, and
g is the next gradient, the hypergradient is multiplied by

    <g, d> / <g, u>          at these coordinates, clipped to [-1, 1]

So it has the sign of the effect of the step that was made, which momentum after the tower may turn
around. If one of d and u is more than `LONGEST` times as long as the other, hyperparameters do not
move: with clipping by norm after the tower, the learning rate would grow without end.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import widest_float
from jaxdescent.towers.replay import blocks

LONGEST = 100.0
COORDINATES = 64  # of each leaf
_ROUNDINGS = 8  # of the parameters' dtype, which a step may differ by


class Applied(NamedTuple):
    """A few coordinates of the last step.

    Attributes:
      params: the parameters before the update; NaN if they were not passed.
      updates: the updates that were returned.
    """

    params: jax.Array
    updates: jax.Array


def sample(params: Any, updates: Any) -> Applied:
    """Returns a few coordinates of the parameters and updates."""
    of_updates = _coordinates(updates)
    if params is None:
        return Applied(jnp.full_like(of_updates, jnp.nan), of_updates)
    return Applied(_coordinates(params), of_updates)


def compare(last: Applied, params: Any, grads: Any) -> tuple[jax.Array, jax.Array]:
    """Compares the last update with the step that was made.

    Args:
      last: a sample of the last step.
      params: the present parameters, or None.
      grads: the present gradient, of which the hypergradient is made.

    Returns:
      bool[], True if the step differs from the update by more than rounding, and the factor of the
      hypergradient if it does, 0 if hyperparameters must not move. Where parameters were not
      passed, or are not finite, the update counts as applied.
    """
    if params is None or not last.updates.size:
        return jnp.zeros((), bool), jnp.ones((), last.updates.dtype)
    now, (old, u) = _coordinates(params), last
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in _leaves(params))
    rounding = _ROUNDINGS * eps * jnp.maximum(jnp.abs(now), jnp.maximum(jnp.abs(old), jnp.abs(u)))
    d, g = now - old, _coordinates(grads)
    altered = jnp.any(jnp.abs(d - u) > rounding)
    size = jnp.maximum(jnp.max(jnp.abs(u)), jnp.max(jnp.abs(d)))  # squares may overflow
    scaled = jnp.stack([d, u]) / size
    effects, squares = jnp.sum(scaled * (g / jnp.max(jnp.abs(g))), 1), jnp.sum(scaled**2, 1)
    comparable = jnp.min(squares) * LONGEST**2 > jnp.max(squares)
    factor = jnp.clip(effects[0] / effects[1], -1, 1)
    return altered, jnp.where(comparable & jnp.isfinite(factor), factor, 0)


def _leaves(tree: Any) -> Iterator[Any]:
    """Yields the leaves of real floating-point numbers that are not sharded."""
    for leaf in jax.tree.leaves(tree):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            continue
        if isinstance(leaf, jax.ShapeDtypeStruct) or not blocks.is_sharded(leaf):
            yield leaf


def _coordinates(tree: Any) -> jax.Array:
    dtype = widest_float(tree)

    def some(leaf: Any) -> jax.Array:
        size = min(COORDINATES, math.prod(leaf.shape))
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jnp.zeros(size, dtype)
        flat = jnp.ravel(leaf)
        stride = flat.size // size if size else 1
        return flat[: size * stride : stride].astype(dtype)

    parts = [some(leaf) for leaf in _leaves(tree)]
    return jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)
