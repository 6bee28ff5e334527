"""Sums over all parameters that a step of `self_tuning` needs, in two passes over the buffers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import all_true, is_inexact, widest_float
from jaxdescent.towers.replay import blocks
from jaxdescent.towers.replay.conditional import on_cpu


class Measurement(NamedTuple):
    """Numbers that are measured before an update.

    Attributes:
      signal: f32[], S = <g, x - y>, for the gradient g, the parameters x and their average y.
      gradient_length: f32[], |g|; 0 after the range test, where it is not needed.
      distance: f32[], |x - y|; 0 after the range test.
      finite: bool[], True if the gradient and the parameters are finite.
    """

    signal: jax.Array
    gradient_length: jax.Array
    distance: jax.Array
    finite: jax.Array


def measure(grads: Any, params: Any, average: Any, searching: jax.Array) -> Measurement:
    """Measures a gradient at the parameters; the lengths only if `searching`, bool[]."""
    dtype = widest_float(params)

    def terms(_: Any, g: jax.Array, x: jax.Array, y: jax.Array) -> list[jax.Array]:
        g, d = g.astype(dtype), x.astype(dtype) - y.astype(dtype)
        return [g * d, g * g, d * d]

    def signal_alone(*blocks_: Any) -> list[jax.Array]:
        return terms(*blocks_)[:1]

    def all_of_them() -> Measurement:
        (signal, gradient, distance), finite = _summed(terms, 3, grads, params, average)
        return Measurement(signal, jnp.sqrt(gradient), jnp.sqrt(distance), finite)

    def only_the_signal() -> Measurement:
        (signal,), finite = _summed(signal_alone, 1, grads, params, average)
        return Measurement(signal, jnp.zeros_like(signal), jnp.zeros_like(signal), finite)

    return jax.lax.cond(searching | ~on_cpu(), all_of_them, only_the_signal)


class Lengths(NamedTuple):
    """Numbers that are measured after an update.

    Attributes:
      update: f32[], the length of the update.
      params: f32[], the length of the parameters after it.
      finite: bool[], True if they are finite in their dtype.
    """

    update: jax.Array
    params: jax.Array
    finite: jax.Array


def lengths_after(updates: Any, params: Any) -> Lengths:
    """Measures an update."""
    dtype = widest_float(params)

    def terms(_: Any, u: jax.Array, x: jax.Array) -> list[jax.Array]:
        moved = (x + u.astype(x.dtype)).astype(dtype)
        u = u.astype(dtype)
        return [u * u, moved * moved]

    (update, moved), finite = _summed(terms, 2, updates, params)
    return Lengths(jnp.sqrt(update), jnp.sqrt(moved), finite)


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


def largest_eps(params: Any) -> float:
    """Returns the largest relative rounding error of the inexact leaves."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]
    return max((float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in leaves), default=0.0)
