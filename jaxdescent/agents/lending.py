"""Agents spread over devices, those that descend dealt out evenly for as long as a rung lasts.

    fair_d  = all that descend / devices, rounded down or up
    lent    = on each device those beyond its fair share, to the devices that fall short of theirs

An agent's row stays on its device, since a rule may have state of its own for each row: what
travels is a copy, `all_to_all` and back. A round takes to a device as many as a chunk holds; it
is seldom that there is more than one.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdescent import chunking

Tree = TypeVar("Tree")


def evenly_in_chunks(
    function: Callable[..., Tree],
    tree: Tree,
    chosen: jax.Array,
    constants: Any,
    *,
    size: int,
    axis: str,
) -> Tree:
    """This device's rows, those that are chosen replaced by the function's; under `shard_map`.

    Args:
      function: from (rows of the tree, rows of the constants) to new rows, each with a leading
        axis of a chunk.
      tree: arrays with a leading axis of this device's N rows.
      chosen: bool[N].
      constants: arrays with a leading axis of N that the function reads.
      size: rows in a chunk, rounded to a multiple of the number of devices first.
      axis: the mesh's, over which rows are spread.
    """
    devices, here = jax.lax.axis_size(axis), jax.lax.axis_index(axis)
    each = max(min(size, len(chosen)) // devices, 1)  # rows from one device to another in a round
    order, count = chunking.chosen_first(chosen)
    counts = jax.lax.all_gather(count, axis)
    fair = fair_shares(counts)
    first, flow = lent(counts, fair)
    anybody, rows_here = jnp.any(flow > 0), len(order)

    def exchanged(packed: list[jax.Array]) -> list[jax.Array]:
        all_to_all = lambda x: jax.lax.all_to_all(x, axis, 0, 0, tiled=True)
        exchange = lambda packed: [all_to_all(x) for x in packed]
        return jax.lax.cond(anybody, exchange, lambda packed: packed, packed)

    def round_of_lending(number: jax.Array, tree: Tree) -> Tree:
        places = number * each + jnp.arange(each, dtype=jnp.int32)
        going = places < flow[here][:, None]  # [to, each]
        rows = order.at[fair[here] + first[here][:, None] + places].get(mode="clip")
        rows = jnp.where(going, rows, rows_here).ravel()
        guests = exchanged(_packed(chunking.take((tree, constants), rows)))
        came = (places < flow[:, here][:, None]).ravel()
        at_home = jnp.where(number == 0, jnp.minimum(count, fair[here]), 0)
        todo, many = _end_to_end(order, at_home, *chunking.chosen_first(came))

        def chunk(carry: tuple[Tree, list[jax.Array]], index: jax.Array) -> Any:
            tree, guests = carry
            own = chunking.take((tree, constants), index)
            strange = _unpacked(chunking.take(guests, index - rows_here), own)
            pick = partial(chunking.where_rows, index < rows_here)
            moved, read = jax.tree.map(pick, own, strange)
            moved = function(moved, read)
            strangers = jnp.where(index < rows_here, len(came), index - rows_here)
            return (
                chunking.put(tree, index, moved),
                chunking.put(guests, strangers, _packed((moved, read))),
            )

        tree, guests = chunking.over_chunks(
            chunk, (tree, guests), todo, many, size=len(came), none=rows_here + len(came)
        )
        back, _ = _unpacked(exchanged(guests), (tree, constants))
        return chunking.put(tree, rows, back)

    rounds = jnp.maximum((jnp.max(flow) + each - 1) // each, 1)
    return jax.lax.fori_loop(0, rounds, round_of_lending, tree)


def fair_shares(counts: jax.Array) -> jax.Array:
    """i32[devices], as even as whole numbers of the same sum can be."""
    devices = len(counts)
    share, rest = jnp.divmod(jnp.sum(counts), devices)
    return share + (jnp.arange(devices) < rest).astype(counts.dtype)


def lent(counts: jax.Array, fair: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Who lends how many to whom.

    All that are too many, device by device, are put beside all that are missing, device by
    device: [i, j] is how far i's part of the one and j's part of the other overlap.

    Args:
      counts: i32[devices].
      fair: i32[devices], of the same sum.

    Returns:
      (i32[from, to], the first of the lender's that goes there; i32[from, to], how many).
    """
    over, under = jnp.maximum(counts - fair, 0), jnp.maximum(fair - counts, 0)
    last_over, last_under = jnp.cumsum(over)[:, None], jnp.cumsum(under)[None]
    begins = last_over - over[:, None]
    first = jnp.maximum(begins, last_under - under[None])
    flow = jnp.maximum(jnp.minimum(last_over, last_under) - first, 0)
    return first - begins, flow


def _end_to_end(
    order: jax.Array, count: jax.Array, guests: jax.Array, many: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The first rows of an order, then the first guests, numbered from the order's length on."""
    places = jnp.arange(len(order) + len(guests), dtype=jnp.int32)
    own = order.at[places].get(mode="clip")
    strange = len(order) + guests.at[places - count].get(mode="clip")
    return jnp.where(places < count, own, strange), count + many


def _packed(tree: Any) -> list[jax.Array]:
    """Rows of a tree with the leaves of each type side by side: one array for each type."""
    leaves = jax.tree.leaves(tree)
    wide = lambda x: x.reshape(len(x), -1)
    return [
        jnp.concatenate([wide(x) for x in leaves if x.dtype == dtype], 1)
        for dtype in _types(leaves)
    ]


def _unpacked(packed: list[jax.Array], like: Tree) -> Tree:
    """A tree of the rows that `_packed` packed, with the shapes of another's rows."""
    leaves, structure = jax.tree.flatten(like)
    found = list(leaves)
    for dtype, columns in zip(_types(leaves), packed, strict=True):
        end = 0
        for i, leaf in enumerate(leaves):
            if leaf.dtype == dtype:
                begin, end = end, end + math.prod(leaf.shape[1:])
                found[i] = columns[:, begin:end].reshape(-1, *leaf.shape[1:])
    return structure.unflatten(found)


def _types(leaves: list[jax.Array]) -> list[Any]:
    return [*dict.fromkeys(leaf.dtype for leaf in leaves)]
