"""Runs a function over the first rows of an order, a fixed number at a time.

    for i in 0, 1, ..., ceil(count / size) - 1:
        rows order[i size : (i + 1) size] of the tree <- function(those rows)

`count` may be traced, so that a loop over fewer rows takes less time and no other program. The
rows are gathered through an index and scattered back: the tree itself is never sorted nor
copied, and what a chunk works on stays small enough for a cache.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Tree = TypeVar("Tree")

LANES = 8
"""Matrix products that rows share are computed in blocks, and what is left over with another
rounding: a row in a chunk of another size could tell from its last digits where it stands."""


def in_chunks(
    function: Callable[..., Tree],
    tree: Tree,
    order: jax.Array,
    count: ArrayLike,
    *,
    size: int,
    constants: Any = (),
) -> Tree:
    """The tree with rows `order[:count]` replaced by the function's.

    Under an outer `jax.vmap` every lane runs as many chunks as the longest.

    Args:
      function: from (rows of the tree, rows of the constants) to new rows of the tree, each with
        a leading axis of `size`. The last chunk is filled up with rows that are computed
        and dropped.
      tree: arrays with a leading axis of N.
      order: i32[M], rows that differ.
      count: i32[], how many of them.
      size: rows in a chunk, of which there are no more than it takes; see `filled`.
      constants: arrays with a leading axis of N that the function reads.
    """
    total = len(jax.tree.leaves(tree)[0])

    def chunk(tree: Tree, index: jax.Array) -> Tree:
        return put(tree, index, function(take(tree, index), take(constants, index)))

    return over_chunks(chunk, tree, order, count, size=size, none=total)


def over_chunks(
    chunk: Callable[[Tree, jax.Array], Tree],
    carry: Tree,
    order: jax.Array,
    count: ArrayLike,
    *,
    size: int,
    none: int,
) -> Tree:
    """What is carried over chunks of `order[:count]`, the last filled up with the row `none`."""
    size = filled(min(size, len(order)))
    padded = jnp.pad(order, (0, -len(order) % size))

    def body(i: jax.Array, carry: Tree) -> Tree:
        places = i * size + jnp.arange(size, dtype=jnp.int32)
        index = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        return chunk(carry, jnp.where(places < count, index, none))

    return jax.lax.fori_loop(0, (jnp.asarray(count) + size - 1) // size, body, carry)


def filled(rows: int) -> int:
    """At least so many rows, in whole blocks of `LANES`; below one block a power of two."""
    block = min(LANES, 1 << (rows - 1).bit_length())
    return -(-rows // block) * block


def take(tree: Any, index: jax.Array) -> Any:
    """Rows of a tree; an index beyond the last row takes the last."""
    return jax.tree.map(lambda x: x.at[index].get(mode="clip"), tree)


def put(tree: Tree, index: jax.Array, rows: Tree) -> Tree:
    """The tree with those rows replaced; an index beyond the last row replaces none."""
    return jax.tree.map(lambda x, new: x.at[index].set(new, mode="drop"), tree, rows)


def where_rows(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Rows of `new` where the mask is True, of `old` elsewhere."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


def chosen_first(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The order i32[N] that puts the rows of a bool[N] that are True first, and their count."""
    before = jnp.cumsum(chosen, dtype=jnp.int32)
    count = before[-1]
    rows = jnp.arange(len(chosen), dtype=jnp.int32)
    places = jnp.where(chosen, before - 1, count + rows - before)
    return jnp.zeros_like(rows).at[places].set(rows, unique_indices=True), count
