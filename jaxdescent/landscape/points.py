"""A loss at many points of a plane, in one compiled call.

A point is a weighted sum of trees, w_1 T_1 + ... + w_k T_k. On a slice, the origin has weight 1
and the directions have their coordinates as weights. On the line between two points, the weights
are 1 - a and a, so that the ends are exact. The sum is computed in float32 or wider and rounded
once to the dtype of the parameters. A slice of a bfloat16 network therefore shows rounding steps;
pass float32 parameters for a smooth slice.

Points are evaluated one at a time or, within a memory budget, in batches. On a CPU, evaluating one
at a time needs the least memory and, for a network of a million parameters, the least time
(`experiments/benchmarks/landscape.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape.memory import peak_bytes
from jaxdescent.numerics import at_least_float32, widest_float
from jaxdescent.programs import compiled

LossFn = Callable[[Any, Any], jax.Array]

_MEMORY = 2**30


def losses_of_sums(
    loss_fn: LossFn,
    trees: Sequence[Any],
    weights: np.ndarray,
    batch: Any,
    memory: int | None,
) -> jax.Array:
    """Returns the losses f[n] at the sums of k trees with the weights [n, k]."""
    chunk = chunk_size(loss_fn, trees[0], batch, len(weights), memory)
    at = jnp.asarray(weights, widest_float(trees[0]))
    return _losses_of_sums(tuple(trees), at, batch, loss_fn=loss_fn, chunk=chunk)


def chunk_size(loss_fn: LossFn, params: Any, batch: Any, points: int, memory: int | None) -> int:
    """Returns the number of points that are evaluated in one batch.

    Raises:
      ValueError: `memory` is not a positive number of bytes.
    """
    if memory is not None:
        validation.integer_in("memory", memory, 1)
    else:
        if jax.default_backend() == "cpu":
            return 1
        memory = _MEMORY
    limit = max(1, memory // max(1, peak_bytes(loss_fn, params, batch)))
    chunks = -(-points // min(limit, points))
    return -(-points // chunks)  # batches of equal size; the last one is padded


@compiled("loss_fn", "chunk")
def _losses_of_sums(
    trees: tuple[Any, ...], weights: jax.Array, batch: Any, *, loss_fn: LossFn, chunk: int
) -> jax.Array:
    return map_in_chunks(lambda w: loss_fn(combination(trees, w), batch), weights, chunk)


def map_in_chunks(fn: Callable[[Any], jax.Array], inputs: Any, chunk: int) -> jax.Array:
    """Maps `fn` over the leading axis of `inputs`, `chunk` at a time, in one program."""
    count = len(jax.tree.leaves(inputs)[0])
    if chunk == 1:
        return jax.lax.map(fn, inputs)
    chunks = -(-count // chunk)

    def split(leaf: jax.Array) -> jax.Array:
        padding = jnp.broadcast_to(leaf[-1:], (chunks * chunk - count, *leaf.shape[1:]))
        return jnp.concatenate([leaf, padding]).reshape(chunks, chunk, *leaf.shape[1:])

    values = jax.lax.map(jax.vmap(fn), jax.tree.map(split, inputs))
    return values.reshape(chunks * chunk, *values.shape[2:])[:count]


def combination(trees: Sequence[Any], weights: jax.Array) -> Any:
    """Returns the sum of k trees with weights f[k], in the dtypes of the first tree."""

    def combine(first: jax.Array, *others: jax.Array) -> jax.Array:
        dtype = at_least_float32(jnp.result_type(first))
        leaves = [jnp.asarray(leaf).astype(dtype) for leaf in (first, *others)]
        terms = [  # A weight of zero removes a leaf, even if it is not finite.
            jnp.where(w == 0, 0, w.astype(dtype) * leaf)
            for w, leaf in zip(weights, leaves, strict=True)
        ]
        return functools.reduce(jnp.add, terms).astype(jnp.result_type(first))

    return jax.tree.map(combine, *trees)
