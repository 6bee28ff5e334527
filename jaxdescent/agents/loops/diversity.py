"""Distance of agents from their mean, in one pass and with the memory of one chunk.

    y = (x - x_0) / scale              difference of a selected agent from the first of them
    diversity = sqrt((sum |y|^2 - |sum y|^2 / agents) / (agents x coordinates))

Little precision is lost to cancellation, because y is as small as the distances between agents,
even if all agents are far from the origin. Sums are in units of the largest |y_i| so far, so that
squares neither overflow nor underflow.
"""

import functools
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
    axis: str = "",
) -> jax.Array:
    """Returns f[], the root mean square distance per coordinate of selected agents from their mean.

    Args:
      params: tree with a leading axis of agents.
      selected: bool[agents].
      scale: unit of each coordinate, a tree like one agent's parameters; None for 1.
      size: number of agents in a chunk.
      mesh: mesh over whose axis `axis` agents are sharded, or None.
      axis: name of that axis, by default the first one.
    """
    leaves = [x.reshape(len(x), -1) for x in jax.tree.leaves(params)]
    first = jnp.argmax(selected)
    origin = [x[first].astype(jnp.float32) for x in leaves]
    units = None if scale is None else [jnp.ravel(x) for x in jax.tree.leaves(scale)]
    sums = partial(_sums, units=units, size=size)
    if mesh is not None:
        axis = axis or mesh.axis_names[0]
        sharded = jax.sharding.PartitionSpec(axis)
        replicated = jax.sharding.PartitionSpec()
        sums = jax.shard_map(
            lambda *arrays: _sum_over(axis, *_sums(*arrays, units=units, size=size)),
            mesh=mesh,
            in_specs=(sharded, sharded, replicated),
            out_specs=replicated,
            axis_names={axis},
            check_vma=False,
        )
    unit, total, squares = sums(leaves, selected, origin)
    count = jnp.maximum(jnp.sum(selected, dtype=jnp.float32), 1.0)
    for y in total:
        squares -= jnp.sum(y**2) / count
    coordinates = max(sum(len(x) for x in origin), 1)
    return unit * jnp.sqrt(jnp.maximum(squares, 0.0) / (count * coordinates))


def _sums(
    leaves: list[jax.Array],
    selected: jax.Array,
    origin: list[jax.Array],
    *,
    units: list[jax.Array] | None,
    size: int,
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """Returns the unit u, f[], sum y / u over selected agents, leaf by leaf, and sum |y / u|^2."""
    rows = min(size, len(selected))

    def add_chunk(i: jax.Array, sums: Any) -> Any:
        first = jnp.minimum(i * rows, len(selected) - rows)  # the last chunk overlaps another

        def rows_of_chunk(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, first, rows)

        is_new = first + jnp.arange(rows, dtype=jnp.int32) >= i * rows
        new = rows_of_chunk(selected) & is_new
        parts = [
            jnp.where(new[:, None], rows_of_chunk(x).astype(jnp.float32) - zero[None], 0.0)
            for x, zero in zip(leaves, origin, strict=True)
        ]
        if units is not None:
            parts = [
                y / unit.astype(jnp.float32)[None] for y, unit in zip(parts, units, strict=True)
            ]
        largest = [jnp.max(jnp.abs(y), initial=0) for y in parts]
        unit = functools.reduce(jnp.maximum, largest, sums[0])
        total, squares = _in_unit(unit, *sums)
        scaled = [y / jnp.where(unit > 0, unit, 1) for y in parts]
        total = [sum_y + jnp.sum(y, 0) for sum_y, y in zip(total, scaled, strict=True)]
        return unit, total, squares + sum(jnp.sum(y**2) for y in scaled)

    zero = jnp.zeros((), jnp.float32)
    zeros = zero, [jnp.zeros_like(x) for x in origin], zero
    return jax.lax.fori_loop(0, -(-len(selected) // rows), add_chunk, zeros)


def _in_unit(
    unit: jax.Array, old: jax.Array, total: list[jax.Array], squares: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    """Converts sums from an old unit to a unit that is not smaller."""
    ratio = jnp.where(old > 0, old / unit, 0)
    return [ratio * y for y in total], ratio**2 * squares


def _sum_over(
    axes: Any, unit: jax.Array, total: list[jax.Array], squares: jax.Array
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """Adds the sums of all devices, in the largest of their units."""
    largest = jax.lax.pmax(unit, axes)
    return largest, *jax.lax.psum(_in_unit(largest, unit, total, squares), axes)
