"""Sums of terms over all coordinates, without a buffer of terms.

XLA's CPU backend makes a reduction to a scalar on one core without vector instructions,
and stores what several reductions share. A loop over blocks that fit into the cache, with
an accumulator as wide as the block, reads every buffer once and stores nothing. Only if
the sums turn out not to be finite is there a second round, which leaves terms out. On other
platforms the plain reductions are fused, and better.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent.numerics import all_finite, all_true
from jaxdescent.towers.replay import dataflow

Terms = Callable[..., list[jax.Array]]

# A block is wide enough to hide what a turn of the loop costs, and in a large model for XLA to
# give every core a part, yet small enough for the cache and beside the parameters.
_NARROWEST, _WIDEST, _SHARE = 4096, 65536, 8


class Sums(NamedTuple):
    """Sums of finite terms.

    Attributes:
      totals: one number for each kind of term.
      whole: bool[]; whether every term was finite, so that none was left out.
    """

    totals: list[jax.Array]
    whole: jax.Array


def is_small(size: int) -> bool:
    """Whether so few coordinates take no blocks."""
    return size < _NARROWEST


def is_spread(array: jax.Array) -> bool:
    """Whether an axis is laid out over devices as a part of the array's type."""
    return any(axis is not None for axis in jax.typeof(array).sharding.spec)


def sums(terms: Terms, *arrays: jax.Array, numbers: Any = (), of: int = 0) -> Sums:
    """Sums of the finite terms over all coordinates.

    Args:
      terms: elementwise, from numbers and blocks of the arrays to blocks of one or more
        kinds of terms; it depends on nothing else that is traced.
      *arrays: of one shape.
      numbers: a tree of what the terms of all coordinates depend on.
      of: how many coordinates there are in all, these and others.

    Example:
      >>> terms = lambda _, x, y: [x + y, x * y]
      >>> found = sums(terms, jnp.array([1.0, 2.0]), jnp.array([3.0, jnp.inf]))
      >>> [float(total) for total in found.totals], bool(found.whole)
      ([4.0, 3.0], False)
    """
    if any(map(is_spread, arrays)):
        return _at_once(terms, numbers, *arrays)
    if is_small(arrays[0].size):
        return _stacked(terms, numbers, *arrays)
    width = min(_WIDEST, max(_NARROWEST, of // _SHARE))
    plainly = partial(_at_once, terms)

    @jax.custom_jvp  # a while loop has no reverse mode
    def run(numbers: Any, *arrays: jax.Array) -> Sums:
        in_blocks = partial(_by_blocks, terms, width)
        return jax.lax.platform_dependent(numbers, *arrays, cpu=in_blocks, default=plainly)

    @run.defjvp
    def jvp(primals: Any, tangents: Any) -> tuple[Sums, Sums]:
        return run(*primals), jax.jvp(plainly, primals, tangents)[1]

    return run(numbers, *arrays)


def _stacked(terms: Terms, *given: Any) -> Sums:
    """For few coordinates, where what counts is the number of operations."""
    kinds = jnp.stack([jnp.ravel(term) for term in terms(*given)])
    finite = jnp.isfinite(kinds)
    return Sums([*jnp.sum(jnp.where(finite, kinds, 0), axis=1)], jnp.all(finite))


def _at_once(terms: Terms, *given: Any) -> Sums:
    kinds = terms(*given)
    finite = [jnp.isfinite(term) for term in kinds]
    pairs = zip(finite, kinds, strict=True)
    return Sums(
        [jnp.sum(jnp.where(fine, term, 0)) for fine, term in pairs],
        all_true([jnp.all(fine) for fine in finite]),
    )


def _block_of(size: int, width: int) -> int:
    """How many coordinates a block of a buffer has, about `width`; if possible, none remains.

    XLA copies a donated buffer of which a remainder is sliced off.
    """
    least = max(1, width // 4)
    for count in range(max(2, -(-size // width)), size // least + 1):
        if size % count == 0:
            return size // count
    return min(width, size // 2)


def _by_blocks(terms: Terms, width: int, numbers: Any, *arrays: jax.Array) -> Sums:
    flat = [jnp.ravel(array) for array in arrays]
    block = _block_of(flat[0].size, width)
    end = flat[0].size // block * block
    block_at = lambda start: [jax.lax.dynamic_slice(x, (start,), (block,)) for x in flat]
    # XLA does not see what is computed twice in a loop.
    once = dataflow.deduplicated(jax.make_jaxpr(partial(terms, numbers))(*block_at(0)), final=True)

    def round_of(filling: jax.Array) -> list[jax.Array]:
        def add(i: Any, accumulators: list[jax.Array]) -> list[jax.Array]:
            kinds = core.jaxpr_as_fun(once)(*block_at(i * block))
            finite = [jnp.where(jnp.isfinite(term), term, filling) for term in kinds]
            return [total + term for total, term in zip(accumulators, finite, strict=True)]

        start = [jnp.zeros(block, aval.dtype) for aval in once.out_avals]
        return [jnp.sum(x) for x in jax.lax.fori_loop(0, end // block, add, start)]

    def again(carry: Any) -> jax.Array:
        rounds, totals = carry
        return (rounds == 0) | ((rounds == 1) & ~all_finite(totals))

    def one_more(carry: Any) -> Any:
        rounds, _ = carry
        return rounds + 1, round_of(jnp.where(rounds == 0, jnp.nan, 0.0))

    nothing = [jnp.zeros((), aval.dtype) for aval in once.out_avals]
    rounds, totals = jax.lax.while_loop(again, one_more, (jnp.zeros((), int), nothing))
    if end == flat[0].size:
        return Sums(totals, rounds == 1)
    rest = _at_once(terms, numbers, *(x[end:] for x in flat))
    together = [total + extra for total, extra in zip(totals, rest.totals, strict=True)]
    return Sums(together, (rounds == 1) & rest.whole)
