"""Balances descending agents over devices for the length of a rung.

    fair_d    = descending agents / devices, rounded down or up
    exported  = agents of a device beyond its fair share, sent to devices with fewer than theirs

An agent's row stays on its device, because a rule may have state for each row. Copies of exported
rows travel to other devices by `all_to_all`, and the results travel back. In one round a device
imports as many rows as a chunk holds, so one round is usually enough.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdescent import chunking

Tree = TypeVar("Tree")


def balanced_in_chunks(
    function: Callable[..., Tree],
    tree: Tree,
    selected: jax.Array,
    constants: Any,
    *,
    size: int,
    axis: str,
) -> Tree:
    """Returns this device's rows with selected ones replaced by `function`; under `shard_map`.

    Args:
      function: Called as `function(rows, constant_rows)`, each with a leading axis of a chunk;
        returns new rows.
      tree: arrays with a leading axis of this device's N rows.
      selected: bool[N].
      constants: arrays with a leading axis of N that the function reads.
      size: number of rows in a chunk, first rounded to a multiple of the number of devices.
      axis: the axis of the mesh over which rows are sharded.
    """
    devices, device = jax.lax.axis_size(axis), jax.lax.axis_index(axis)
    quota = max(min(size, len(selected)) // devices, 1)  # rows to each device in a round
    order, count = chunking.chosen_first(selected)
    counts = jax.lax.all_gather(count, axis)
    fair = fair_shares(counts)
    first, flow = transfers(counts, fair)
    any_transfer, num_rows = jnp.any(flow > 0), len(order)

    def exchange(packed: list[jax.Array]) -> list[jax.Array]:
        def all_to_all(packed: list[jax.Array]) -> list[jax.Array]:
            return [jax.lax.all_to_all(x, axis, 0, 0, tiled=True) for x in packed]

        return jax.lax.cond(any_transfer, all_to_all, lambda packed: packed, packed)

    def transfer_round(number: jax.Array, tree: Tree) -> Tree:
        places = number * quota + jnp.arange(quota, dtype=jnp.int32)
        is_exported = places < flow[device][:, None]  # [to, quota]
        rows = order.at[fair[device] + first[device][:, None] + places].get(mode="clip")
        rows = jnp.where(is_exported, rows, num_rows).ravel()
        imported = exchange(_pack(chunking.take((tree, constants), rows)))
        is_imported = (places < flow[:, device][:, None]).ravel()
        num_local = jnp.where(number == 0, jnp.minimum(count, fair[device]), 0)
        todo, num_todo = _concatenate(order, num_local, *chunking.chosen_first(is_imported))

        def chunk(carry: tuple[Tree, list[jax.Array]], index: jax.Array) -> Any:
            tree, imported = carry
            local = chunking.take((tree, constants), index)
            remote = _unpack(chunking.take(imported, index - num_rows), local)
            is_local = index < num_rows
            moved, read = jax.tree.map(partial(chunking.where_rows, is_local), local, remote)
            moved = function(moved, read)
            remote_index = jnp.where(is_local, len(is_imported), index - num_rows)
            return (
                chunking.put(tree, index, moved),
                chunking.put(imported, remote_index, _pack((moved, read))),
            )

        tree, imported = chunking.over_chunks(
            chunk,
            (tree, imported),
            todo,
            num_todo,
            size=len(is_imported),
            fill=num_rows + len(is_imported),
        )
        returned, _ = _unpack(exchange(imported), (tree, constants))
        return chunking.put(tree, rows, returned)

    rounds = jnp.maximum((jnp.max(flow) + quota - 1) // quota, 1)
    return jax.lax.fori_loop(0, rounds, transfer_round, tree)


def fair_shares(counts: jax.Array) -> jax.Array:
    """Returns i32[devices], integers of the same sum that differ by at most one."""
    devices = len(counts)
    share, rest = jnp.divmod(jnp.sum(counts), devices)
    return share + (jnp.arange(devices) < rest).astype(counts.dtype)


def transfers(counts: jax.Array, fair: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns how many rows each device exports to each other device.

    Lay all surplus rows on a line, device by device, and all missing rows on a second line. Device
    i sends to device j the overlap of device i's part of the first line with device j's part of the
    second line.

    Args:
      counts: i32[devices].
      fair: i32[devices], of the same sum.

    Returns:
      i32[from, to], the first surplus row of the exporting device that goes there; and
      i32[from, to], the number of rows.
    """
    over, under = jnp.maximum(counts - fair, 0), jnp.maximum(fair - counts, 0)
    last_over, last_under = jnp.cumsum(over)[:, None], jnp.cumsum(under)[None]
    begins = last_over - over[:, None]
    first = jnp.maximum(begins, last_under - under[None])
    flow = jnp.maximum(jnp.minimum(last_over, last_under) - first, 0)
    return first - begins, flow


def _concatenate(
    order: jax.Array, count: jax.Array, imported: jax.Array, num_imported: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the first rows of `order`, then the first imported rows, and their total number.

    Imported rows are numbered from `len(order)` on.
    """
    places = jnp.arange(len(order) + len(imported), dtype=jnp.int32)
    local = order.at[places].get(mode="clip")
    remote = len(order) + imported.at[places - count].get(mode="clip")
    return jnp.where(places < count, local, remote), count + num_imported


def _pack(tree: Any) -> list[jax.Array]:
    """Returns the rows of a tree as one array for each dtype, with leaves side by side."""
    leaves = jax.tree.leaves(tree)
    return [
        jnp.concatenate([x.reshape(len(x), -1) for x in leaves if x.dtype == dtype], 1)
        for dtype in _dtypes(leaves)
    ]


def _unpack(packed: list[jax.Array], like: Tree) -> Tree:
    """Returns the tree of rows that `_pack` packed, with the shapes of the rows of `like`."""
    leaves, structure = jax.tree.flatten(like)
    unpacked = list(leaves)
    for dtype, columns in zip(_dtypes(leaves), packed, strict=True):
        end = 0
        for i, leaf in enumerate(leaves):
            if leaf.dtype == dtype:
                begin, end = end, end + math.prod(leaf.shape[1:])
                unpacked[i] = columns[:, begin:end].reshape(-1, *leaf.shape[1:])
    return structure.unflatten(unpacked)


def _dtypes(leaves: list[jax.Array]) -> list[Any]:
    return [*dict.fromkeys(leaf.dtype for leaf in leaves)]
