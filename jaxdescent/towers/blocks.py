"""Sums of terms over all coordinates, without a buffer of terms.

XLA's CPU backend makes a reduction to a scalar on one core without vector instructions,
and stores what several reductions share. A loop over blocks that fit into the cache, with
an accumulator as wide as the block, reads every buffer once and stores nothing. On other
platforms the plain reductions are fused, and better.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers.finite import all_true

Terms = Callable[..., list[jax.Array]]

# Wide enough to hide what a turn of the loop costs, and small enough for the cache.
_BLOCK = 8192


class Sums(NamedTuple):
    """Sums of finite terms.

    Attributes:
      totals: one number for each kind of term.
      whole: bool[]; whether every term was finite, so that none was left out.
    """

    totals: list[jax.Array]
    whole: jax.Array


def sums(terms: Terms, *arrays: jax.Array) -> Sums:
    """Sums of the finite terms over all coordinates.

    Args:
      terms: elementwise, from blocks of the arrays to blocks of one or more kinds of terms.
      *arrays: of one shape.

    Example:
      >>> found = sums(lambda x, y: [x + y, x * y], jnp.array([1.0, 2.0]), jnp.array([3.0, jnp.inf]))
      >>> [float(total) for total in found.totals], bool(found.whole)
      ([4.0, 3.0], False)
    """
    if arrays[0].size < 2 * _BLOCK:
        return _at_once(terms, *arrays)
    return jax.lax.platform_dependent(
        *arrays,
        cpu=lambda *given: _by_blocks(terms, *given),
        default=lambda *given: _at_once(terms, *given),
    )


def _at_once(terms: Terms, *arrays: jax.Array) -> Sums:
    kinds = terms(*arrays)
    finite = [jnp.isfinite(term) for term in kinds]
    pairs = zip(finite, kinds, strict=True)
    return Sums(
        [jnp.sum(jnp.where(fine, term, 0)) for fine, term in pairs],
        all_true([jnp.all(fine) for fine in finite]),
    )


def _by_blocks(terms: Terms, *arrays: jax.Array) -> Sums:
    flat = [jnp.ravel(array) for array in arrays]
    count = flat[0].size // _BLOCK
    blocks_at = lambda start: [jax.lax.dynamic_slice(x, (start,), (_BLOCK,)) for x in flat]

    def add(i: Any, carry: Any) -> Any:
        totals, fine = carry
        kinds = terms(*blocks_at(i * _BLOCK))
        finite = [jnp.isfinite(term) for term in kinds]
        rows = zip(totals, finite, kinds, strict=True)
        totals = [total + jnp.where(fine, term, 0) for total, fine, term in rows]
        return totals, [a & b for a, b in zip(fine, finite, strict=True)]

    kinds = jax.eval_shape(terms, *blocks_at(0))
    start = [jnp.zeros(k.shape, k.dtype) for k in kinds], [jnp.ones(k.shape, bool) for k in kinds]
    totals, fine = jax.lax.fori_loop(0, count, add, start)
    rest = _at_once(terms, *(x[count * _BLOCK :] for x in flat))
    return Sums(
        [jnp.sum(total) + extra for total, extra in zip(totals, rest.totals, strict=True)],
        all_true([jnp.all(flags) for flags in fine]) & rest.whole,
    )
