"""Agents spread over devices, those that descend dealt out evenly for as long as a rung lasts.

    fair_d  = all that descend / devices, rounded down or up
    lent    = on each device those beyond its fair share, to the devices that fall short of theirs

An agent's row stays on its device, since a rule may have state of its own for each row: what
travels is a copy, `all_to_all` and back. A round takes to a device as many as a chunk holds; it
is seldom that there is more than one.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import chunking

Tree = TypeVar("Tree")


def evenly_in_chunks(
    function: Callable[..., Tree],
    tree: Tree,
    chosen: jax.Array,
    *,
    size: int,
    constants: Any,
    axis: str,
) -> Tree:
    """This device's rows, those that are chosen replaced by the function's; under `shard_map`.

    Args:
      function: from (rows of the tree, rows of the constants) to new rows, each with a leading
        axis of a chunk.
      tree: arrays with a leading axis of this device's N rows.
      chosen: bool[N].
      size: rows in a chunk, rounded to a multiple of the number of devices first.
      constants: arrays with a leading axis of N that the function reads.
      axis: the mesh's, over which rows are spread.
    """
    devices, here = jax.lax.axis_size(axis), jax.lax.axis_index(axis)
    each = max(min(size, len(chosen)) // devices, 1)  # rows from one device to another in a round
    order, count = chunking.chosen_first(chosen)
    counts = jax.lax.all_gather(count, axis)
    fair = fair_shares(counts)
    first, flow = lent(counts, fair)
    anybody = jnp.any(flow > 0)

    def exchanged(rows: Any) -> Any:
        all_to_all = lambda x: jax.lax.all_to_all(x, axis, 0, 0, tiled=True)
        exchange = lambda rows: _by_dtype(all_to_all, rows)
        return jax.lax.cond(anybody, exchange, lambda rows: rows, rows)

    def round_of_lending(number: jax.Array, tree: Tree) -> Tree:
        places = number * each + jnp.arange(each, dtype=jnp.int32)
        going = places < flow[here][:, None]  # [to, each]
        rows = order.at[fair[here] + first[here][:, None] + places].get(mode="clip")
        rows = jnp.where(going, rows, len(order)).ravel()
        guests, read = exchanged((chunking.take(tree, rows), chunking.take(constants, rows)))
        came = (places < flow[:, here][:, None]).ravel()
        at_home = jnp.where(number == 0, jnp.minimum(count, fair[here]), 0)
        todo, many = _end_to_end(order, at_home, *chunking.chosen_first(came))
        tree, guests = chunking.in_chunks(
            function, (tree, guests), todo, many, size=each * devices, constants=(constants, read)
        )
        return chunking.put(tree, rows, exchanged(guests))

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


def _by_dtype(function: Callable[[jax.Array], jax.Array], rows: Tree) -> Tree:
    """A function of rows applied to the leaves of a tree, those of a type side by side."""
    leaves, structure = jax.tree.flatten(rows)
    found = list(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = [leaves[i].reshape(len(leaves[i]), -1) for i in places]
        ends = np.cumsum([x.shape[1] for x in flat])[:-1]
        parts = jnp.split(function(jnp.concatenate(flat, 1)), ends, 1)
        for i, new in zip(places, parts, strict=True):
            found[i] = new.reshape(leaves[i].shape)
    return structure.unflatten(found)
