"""Sums over all parameters that a step of `self_tuning` needs, in two passes over the buffers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import all_true, is_inexact, widest_float
from jaxdescent.towers.replay import blocks


class Measurement(NamedTuple):
    """Numbers that are measured before an update.

    Attributes:
      signal: f32[], S = <g, x - y>, for the gradient g, the parameters x and their average y.
      gradient_length: f32[], |g|.
      distance: f32[], |x - y|.
      length: f32[], |x|.
      update_length: f32[], the length of the last update.
      eps: the relative rounding error of the parameters.
      finite: bool[], True if the gradient and the parameters are finite.
    """

    signal: jax.Array
    gradient_length: jax.Array
    distance: jax.Array
    length: jax.Array
    update_length: jax.Array
    eps: float
    finite: jax.Array


def measure(grads: Any, params: Any, average: Any, update_length: jax.Array) -> Measurement:
    """Measures a gradient at the parameters."""
    dtype = widest_float(params)

    def terms(_: Any, g: jax.Array, x: jax.Array, y: jax.Array) -> list[jax.Array]:
        g, x, y = (part.astype(dtype) for part in (g, x, y))
        d = x - y
        return [g * d, g * g, d * d, x * x]

    (signal, gradient, distance, length), finite = _summed(terms, 4, grads, params, average)
    return Measurement(
        signal=signal,
        gradient_length=jnp.sqrt(gradient),
        distance=jnp.sqrt(distance),
        length=jnp.sqrt(length),
        update_length=update_length,
        eps=_largest_eps(params),
        finite=finite,
    )


def length_of_update(updates: Any, params: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the length of an update, and bool[], True if the parameters stay finite with it."""
    dtype = widest_float(params)

    def terms(_: Any, u: jax.Array, x: jax.Array) -> list[jax.Array]:
        moved = (x + u.astype(x.dtype)).astype(dtype)
        u = u.astype(dtype)
        return [u * u, 0 * moved]

    (square, _), finite = _summed(terms, 2, updates, params)
    return jnp.sqrt(square), finite


def _summed(terms: blocks.Terms, kinds: int, *trees: Any) -> tuple[list[jax.Array], jax.Array]:
    """Returns the sums of terms over all inexact leaves, and bool[], True if all are finite."""
    dtype = widest_float(trees[1])
    columns = list(zip(*map(_real_leaves, trees), strict=True))
    size = sum(column[0].size for column in columns)
    found = [blocks.sums(terms, *column, of=size) for column in columns if column[0].size]
    totals = [
        jnp.sum(jnp.stack([each.totals[i] for each in found])) if found else jnp.zeros((), dtype)
        for i in range(kinds)
    ]
    finite = [each.all_finite for each in found] + [jnp.isfinite(total) for total in totals]
    return totals, all_true(finite)


def _real_leaves(tree: Any) -> Sequence[jax.Array]:
    """Returns the floating-point leaves, and the real and imaginary parts of complex ones."""
    found = []
    for leaf in map(jnp.asarray, jax.tree.leaves(tree)):
        if jnp.iscomplexobj(leaf):
            found += [jnp.real(leaf), jnp.imag(leaf)]
        elif is_inexact(leaf):
            found.append(leaf)
    return found


def _largest_eps(params: Any) -> float:
    leaves = [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]
    return max((float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in leaves), default=0.0)
