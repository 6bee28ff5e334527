"""Runs a function over selected rows of a tree in chunks of a fixed size.

    for i in 0, 1, ..., ceil(count / size) - 1:
        rows = order[i size : (i + 1) size]
        tree[rows] = function(tree[rows])

`count` may be traced, so that one program serves any count and fewer rows take less time. Rows are
gathered through an index and scattered back. The tree is neither sorted nor copied, and a chunk is
small enough for a cache.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Tree = TypeVar("Tree")

LANES = 8
"""A chunk has a multiple of this many rows. A matrix product over rows is computed in blocks, and
the rows beyond the last full block are rounded differently: without full blocks, the last digits of
a row would depend on its place in the chunk."""


def in_chunks(
    function: Callable[..., Tree],
    tree: Tree,
    order: jax.Array,
    count: ArrayLike,
    *,
    size: int,
    constants: Any = (),
) -> Tree:
    """Returns the tree with rows `order[:count]` replaced by `function` of them.

    Under an outer `jax.vmap` every element runs as many chunks as the one with the most.

    Args:
      function: Called as `function(rows, constant_rows)`, each with a leading axis of `size`;
        returns new rows. The last chunk is filled up with rows whose results are dropped.
      tree: arrays with a leading axis of N.
      order: i32[M], distinct rows.
      count: i32[], number of rows to replace.
      size: rows in a chunk, at most M; then rounded up by `full_blocks`.
      constants: arrays with a leading axis of N that the function reads.
    """
    total = len(jax.tree.leaves(tree)[0])

    def chunk(tree: Tree, index: jax.Array) -> Tree:
        return put(tree, index, function(take(tree, index), take(constants, index)))

    return over_chunks(chunk, tree, order, count, size=size, fill=total)


def over_chunks(
    chunk: Callable[[Tree, jax.Array], Tree],
    carry: Tree,
    order: jax.Array,
    count: ArrayLike,
    *,
    size: int,
    fill: int,
) -> Tree:
    """Returns the carry of `chunk(carry, index)` over chunks of `order[:count]`.

    The index i32[size] of the last chunk is filled up with `fill`.
    """
    size = full_blocks(min(size, len(order)))
    padded = jnp.pad(order, (0, -len(order) % size))

    def body(i: jax.Array, carry: Tree) -> Tree:
        places = i * size + jnp.arange(size, dtype=jnp.int32)
        index = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        return chunk(carry, jnp.where(places < count, index, fill))

    return jax.lax.fori_loop(0, (jnp.asarray(count) + size - 1) // size, body, carry)


def full_blocks(rows: int) -> int:
    """Rounds up to a multiple of `LANES`; below `LANES` to a power of two."""
    block = min(LANES, 1 << (rows - 1).bit_length())
    return -(-rows // block) * block


def take(tree: Any, index: jax.Array) -> Any:
    """Returns rows of a tree; an index beyond the last row takes the last."""
    return jax.tree.map(lambda x: x.at[index].get(mode="clip"), tree)


def put(tree: Tree, index: jax.Array, rows: Tree) -> Tree:
    """Returns the tree with rows replaced; an index beyond the last row is ignored."""
    return jax.tree.map(lambda x, new: x.at[index].set(new, mode="drop"), tree, rows)


def where_rows(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns rows of `new` where the mask is True, and rows of `old` elsewhere."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


def chosen_first(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns i32[N], the rows of a bool[N] with those that are True first, and their count."""
    before = jnp.cumsum(chosen, dtype=jnp.int32)
    count = before[-1]
    rows = jnp.arange(len(chosen), dtype=jnp.int32)
    places = jnp.where(chosen, before - 1, count + rows - before)
    return jnp.zeros_like(rows).at[places].set(rows, unique_indices=True), count
