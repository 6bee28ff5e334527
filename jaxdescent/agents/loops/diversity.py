"""Distance of agents from their mean, in one pass and with the memory of one chunk.

    y = (x - x_0) / scale              difference of a selected agent from the first of them
    diversity = sqrt((sum |y|^2 - |sum y|^2 / agents) / (agents x coordinates))

Little precision is lost to cancellation, because y is as small as the distances between agents,
even if all agents are far from the origin.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def diversity(
    params: Any,
    selected: jax.Array,
    *,
    scale: Any = None,
    size: int,
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """Returns f[], the root mean square distance per coordinate of selected agents from their mean.

    Args:
      params: tree with a leading axis of agents.
      selected: bool[agents].
      scale: unit of each coordinate, a tree like one agent's parameters; None for 1.
      size: number of agents in a chunk.
      mesh: mesh of one axis over which agents are sharded, or None.
    """
    leaves = [x.reshape(len(x), -1) for x in jax.tree.leaves(params)]
    first = jnp.argmax(selected)
    origin = [x[first].astype(jnp.float32) for x in leaves]
    units = None if scale is None else [jnp.ravel(x) for x in jax.tree.leaves(scale)]
    sums = partial(_sums, units=units, size=size)
    if mesh is not None:
        sharded = jax.sharding.PartitionSpec(*mesh.axis_names)
        replicated = jax.sharding.PartitionSpec()
        sums = jax.shard_map(
            lambda *arrays: jax.lax.psum(_sums(*arrays, units=units, size=size), mesh.axis_names),
            mesh=mesh,
            in_specs=(sharded, sharded, replicated),
            out_specs=replicated,
            check_vma=False,
        )
    total, squares = sums(leaves, selected, origin)
    count = jnp.maximum(jnp.sum(selected, dtype=jnp.float32), 1.0)
    for y in total:
        squares -= jnp.sum(y**2) / count
    coordinates = max(sum(len(x) for x in origin), 1)
    return jnp.sqrt(jnp.maximum(squares, 0.0) / (count * coordinates))


def _sums(
    leaves: list[jax.Array],
    selected: jax.Array,
    origin: list[jax.Array],
    *,
    units: list[jax.Array] | None,
    size: int,
) -> tuple[list[jax.Array], jax.Array]:
    """Returns sum y over selected agents, leaf by leaf, and sum |y|^2, f[]."""
    rows = min(size, len(selected))

    def add_chunk(i: jax.Array, sums: tuple[list[jax.Array], jax.Array]) -> Any:
        first = jnp.minimum(i * rows, len(selected) - rows)  # the last chunk overlaps another

        def rows_of_chunk(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, first, rows)

        is_new = first + jnp.arange(rows, dtype=jnp.int32) >= i * rows
        new = rows_of_chunk(selected) & is_new
        total, squares = list(sums[0]), sums[1]
        for k, (x, zero) in enumerate(zip(leaves, origin, strict=True)):
            y = jnp.where(new[:, None], rows_of_chunk(x).astype(jnp.float32) - zero[None], 0.0)
            if units is not None:
                y /= units[k].astype(jnp.float32)[None]
            total[k] += jnp.sum(y, 0)
            squares += jnp.sum(y**2)
        return total, squares

    zeros = [jnp.zeros_like(zero) for zero in origin], jnp.zeros((), jnp.float32)
    return jax.lax.fori_loop(0, -(-len(selected) // rows), add_chunk, zeros)
