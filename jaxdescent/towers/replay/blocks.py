"""Sums of terms over all coordinates, without a buffer of terms.

XLA's CPU backend computes a reduction to a scalar on one core without vector instructions,
and stores the operands that several reductions share. A loop over blocks that fit into the
cache, with an accumulator as wide as the block, reads every buffer once and stores nothing. If
the sums are not finite, a second pass leaves the non-finite terms out. On other platforms plain
reductions are fused, and are faster.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import jax_internals as core
from jaxdescent import sharding
from jaxdescent.numerics import all_finite, all_true
from jaxdescent.towers.replay import dataflow

Terms = Callable[..., list[jax.Array]]

# A block is wide enough to hide the cost of a loop iteration and, in a large model, to give every
# core a part. It is small enough for the cache, and small relative to the parameters.
_NARROWEST, _WIDEST, _SHARE = 4096, 65536, 8


class Sums(NamedTuple):
    """Sums of finite terms.

    Attributes:
      totals: one sum for each kind of term.
      all_finite: bool[], True if every term was finite, so that no term was left out.
    """

    totals: list[jax.Array]
    all_finite: jax.Array


def is_small(size: int) -> bool:
    """True if this number of coordinates is small enough to be summed without blocks."""
    return size < _NARROWEST


def sums(terms: Terms, *arrays: jax.Array, scalars: Any = (), of: int = 0) -> Sums:
    """Sums the finite terms over all coordinates.

    Args:
      terms: called as `terms(scalars, *blocks)` with a block of each array; returns blocks of
        one or more kinds of terms. It is elementwise and reads no other traced value.
      *arrays: arrays of one shape.
      scalars: a tree of values that the terms of all coordinates read.
      of: total number of coordinates of the sum, in these arrays and in others.

    Example:
      >>> terms = lambda _, x, y: [x + y, x * y]
      >>> found = sums(terms, jnp.array([1.0, 2.0]), jnp.array([3.0, jnp.inf]))
      >>> [float(total) for total in found.totals], bool(found.all_finite)
      ([4.0, 3.0], False)
    """
    if sharding.may_be_partitioned(*arrays):
        return _at_once(terms, scalars, *arrays)
    if is_small(arrays[0].size):
        return _stacked(terms, scalars, *arrays)
    width = min(_WIDEST, max(_NARROWEST, of // _SHARE))
    at_once = partial(_at_once, terms)

    @jax.custom_jvp  # a while loop has no reverse mode
    def run(scalars: Any, *arrays: jax.Array) -> Sums:
        in_blocks = partial(_by_blocks, terms, width)
        return jax.lax.platform_dependent(scalars, *arrays, cpu=in_blocks, default=at_once)

    @run.defjvp
    def jvp(primals: Any, tangents: Any) -> tuple[Sums, Sums]:
        return run(*primals), jax.jvp(at_once, primals, tangents)[1]

    return run(scalars, *arrays)


def _stacked(terms: Terms, *given: Any) -> Sums:
    """Sums few coordinates, where the number of operations determines the cost."""
    kinds = jnp.stack([jnp.ravel(term) for term in terms(*given)])
    finite = jnp.isfinite(kinds)
    return Sums([*jnp.sum(jnp.where(finite, kinds, 0), axis=1)], jnp.all(finite))


def _at_once(terms: Terms, *given: Any) -> Sums:
    kinds = terms(*given)
    finite = [jnp.isfinite(term) for term in kinds]
    pairs = [*zip(finite, kinds, strict=True)]
    # Counts instead of a logical reduction: devices exchange one kind of message, of sums.
    counts = [jnp.sum(~fine, dtype=term.dtype) for fine, term in pairs]
    return Sums(
        [jnp.sum(jnp.where(fine, term, 0)) for fine, term in pairs],
        all_true([count == 0 for count in counts]),
    )


def _block_of(size: int, width: int) -> int:
    """Returns the number of coordinates in a block, about `width`; a divisor of `size` if possible.

    XLA copies a donated buffer of which a remainder is sliced off.
    """
    least = max(1, width // 4)
    for count in range(max(2, -(-size // width)), size // least + 1):
        if size % count == 0:
            return size // count
    return min(width, size // 2)


def _by_blocks(terms: Terms, width: int, scalars: Any, *arrays: jax.Array) -> Sums:
    flat = [jnp.ravel(array) for array in arrays]
    block = _block_of(flat[0].size, width)
    end = flat[0].size // block * block

    def block_at(start: Any) -> list[jax.Array]:
        return [jax.lax.dynamic_slice(x, (start,), (block,)) for x in flat]

    # XLA does not merge equal computations inside a loop.
    once = dataflow.deduplicated(jax.make_jaxpr(partial(terms, scalars))(*block_at(0)), final=True)

    def sums_with(replacement: jax.Array) -> list[jax.Array]:
        def add(i: Any, accumulators: list[jax.Array]) -> list[jax.Array]:
            kinds = core.jaxpr_as_fun(once)(*block_at(i * block))
            finite = [jnp.where(jnp.isfinite(term), term, replacement) for term in kinds]
            return [total + term for total, term in zip(accumulators, finite, strict=True)]

        start = [jnp.zeros(block, aval.dtype) for aval in once.out_avals]
        return [jnp.sum(x) for x in jax.lax.fori_loop(0, end // block, add, start)]

    def needs_pass(carry: Any) -> jax.Array:
        passes, totals = carry
        return (passes == 0) | ((passes == 1) & ~all_finite(totals))

    def make_pass(carry: Any) -> Any:
        passes, _ = carry
        return passes + 1, sums_with(jnp.where(passes == 0, jnp.nan, 0.0))

    zeros = [jnp.zeros((), aval.dtype) for aval in once.out_avals]
    passes, totals = jax.lax.while_loop(needs_pass, make_pass, (jnp.zeros((), int), zeros))
    if end == flat[0].size:
        return Sums(totals, passes == 1)
    rest = _at_once(terms, scalars, *(x[end:] for x in flat))
    together = [total + extra for total, extra in zip(totals, rest.totals, strict=True)]
    return Sums(together, (passes == 1) & rest.all_finite)
