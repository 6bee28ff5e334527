"""Sums over all parameters that a step of `self_tuning` or `restart_on_divergence` needs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import sharding
from jaxdescent.numerics import is_inexact, widest_float
from jaxdescent.towers.replay import blocks


class Measurement(NamedTuple):
    """Numbers that are measured before an update.

    Attributes:
      signal: f32[], S = <g, x - y>, for the gradient g, the parameters x and their average y.
      length: f32[], |x|.
      gradient_length: f32[], |g|; 0 after the range test, where it is not needed.
      distance: f32[], |x - y|; 0 after the range test.
      finite: bool[], True if the gradient and the parameters are finite.
    """

    signal: jax.Array
    length: jax.Array
    gradient_length: jax.Array
    distance: jax.Array
    finite: jax.Array


def measure(grads: Any, params: Any, average: Any, *, lengths: bool) -> Measurement:
    """Measures a gradient at the parameters; |g| and |x - y| only if `lengths` is True."""

    def terms(g: jax.Array, x: jax.Array, y: jax.Array) -> list[jax.Array]:
        d = x - y
        return [g * d, x * x, *([g * g, d * d] if lengths else [])]

    sums = _totals(terms, 4 if lengths else 2, grads, params, average, dtype=widest_float(params))
    finite = jnp.all(jnp.isfinite(jnp.stack(sums)))
    signal, length, *others = sums[0], *map(jnp.sqrt, sums[1:])
    gradient, distance = others or [jnp.zeros_like(signal)] * 2
    return Measurement(signal, length, gradient, distance, finite)


def inner_product(first: Any, second: Any) -> jax.Array:
    """Returns the inner product of two trees of real or complex arrays."""

    def terms(a: jax.Array, b: jax.Array) -> list[jax.Array]:
        return [a * b]

    return _totals(terms, 1, first, second, dtype=widest_float((first, second)))[0]


def length(updates: Any, params: Any) -> jax.Array:
    """Returns the length of an update; not finite if the update or its result is not finite."""
    dtype = widest_float(params)

    def checked(u: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        # Squares overflow before the parameters do, in float32 and wider.
        if not is_inexact(x) or float(jnp.finfo(x.dtype).max) > 1e30:
            return u
        return jnp.where(jnp.isfinite(x + u.astype(x.dtype)), u, jnp.inf)

    leaves = _real_leaves(jax.tree.map(checked, updates, params))
    squares = [jnp.sum(jnp.square(u.astype(dtype))) for u in leaves]
    return jnp.sqrt(sum(squares, jnp.zeros((), dtype)))


def _totals(
    terms: Callable[..., list[jax.Array]], kinds: int, *trees: Any, dtype: Any
) -> list[jax.Array]:
    """Returns sums of several kinds of terms over all inexact leaves."""

    def wide(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype)

    small, parts = [], [[jnp.zeros((), dtype)] * kinds]
    for column in zip(*map(_real_leaves, trees), strict=True):
        if blocks.is_small(column[0].size) and not sharding.may_be_partitioned(*column):
            small.append([wide(jnp.ravel(leaf)) for leaf in column])
        else:
            parts.append([jnp.sum(term) for term in terms(*map(wide, column))])
    if small:  # few operations for many small leaves
        found = jnp.stack(terms(*map(jnp.concatenate, zip(*small, strict=True))))
        parts.append([*jnp.sum(found, axis=1)])
    return [sum(part[1:], part[0]) for part in zip(*parts, strict=True)]


def _real_leaves(tree: Any) -> Sequence[jax.Array]:
    """Returns the floating-point leaves, and the real and imaginary parts of complex ones."""
    found = []
    for leaf in map(jnp.asarray, jax.tree.leaves(tree)):
        if jnp.iscomplexobj(leaf):
            found += [jnp.real(leaf), jnp.imag(leaf)]
        elif is_inexact(leaf):
            found.append(leaf)
    return found


def largest_eps(params: Any) -> float:
    """Returns the largest relative rounding error of the inexact leaves."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]
    return max((float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in leaves), default=0.0)
