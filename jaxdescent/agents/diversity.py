"""How far agents are from one another, in one pass and with a chunk of memory.

    y = x - x_one                      of an agent from one of the chosen
    diversity = sqrt((sum |y|^2 - |sum y|^2 / agents) / (agents x coordinates))

The difference loses little, since y is as small as the agents are apart, wherever they are. The
share of the largest so far tells exploration from exploitation.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def diversity(
    params: Any, chosen: jax.Array, *, size: int, mesh: jax.sharding.Mesh | None = None
) -> jax.Array:
    """f[], root mean square distance per coordinate of the chosen from their mean.

    Args:
      params: with a leading axis of agents.
      chosen: bool[agents].
      size: agents in a chunk.
      mesh: over whose one axis agents are spread, or None.
    """
    leaves = [x.reshape(len(x), -1) for x in jax.tree.leaves(params)]
    one = jnp.argmax(chosen)
    origin = [x[one].astype(jnp.float32) for x in leaves]
    sums = partial(_sums, size=size)
    if mesh is not None:
        spread, everywhere = (jax.sharding.PartitionSpec(*axes) for axes in (mesh.axis_names, ()))
        sums = jax.shard_map(
            lambda *arrays: jax.lax.psum(_sums(*arrays, size=size), mesh.axis_names),
            mesh=mesh,
            in_specs=(spread, spread, everywhere),
            out_specs=everywhere,
            check_vma=False,
        )
    total, squares = sums(leaves, chosen, origin)
    count = jnp.maximum(jnp.sum(chosen, dtype=jnp.float32), 1.0)
    for y in total:
        squares -= jnp.sum(y**2) / count
    numbers = max(sum(len(x) for x in origin), 1)
    return jnp.sqrt(jnp.maximum(squares, 0.0) / (count * numbers))


def _sums(
    leaves: list[jax.Array], chosen: jax.Array, origin: list[jax.Array], *, size: int
) -> tuple[list[jax.Array], jax.Array]:
    """Of the chosen's y and, f32[], of its squares."""
    rows = min(size, len(chosen))

    def with_chunk(i: jax.Array, found: tuple[list[jax.Array], jax.Array]) -> Any:
        first = jnp.minimum(i * rows, len(chosen) - rows)  # the last one overlaps the one before
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, first, rows)
        new = part(chosen) & (first + jnp.arange(rows, dtype=jnp.int32) >= i * rows)
        total, squares = list(found[0]), found[1]
        for k, (x, zero) in enumerate(zip(leaves, origin, strict=True)):
            y = jnp.where(new[:, None], part(x).astype(jnp.float32) - zero[None], 0.0)
            total[k] += jnp.sum(y, 0)
            squares += jnp.sum(y**2)
        return total, squares

    nothing = [jnp.zeros_like(zero) for zero in origin], jnp.zeros((), jnp.float32)
    return jax.lax.fori_loop(0, -(-len(chosen) // rows), with_chunk, nothing)
