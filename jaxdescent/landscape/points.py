"""A loss at many points of a plane, in one compiled call.

A point is a sum of trees with weights, w_1 T_1 + ... + w_k T_k: of a slice the origin with weight
1 and the directions with its coordinates, of a line between two points those with 1 - a and a, so
that the ends are exact. It is made in float32 at least and rounded once to the parameters' own
dtype: in bfloat16 a slice is that of the rounded network, with steps where the rounding has
them; give float32 parameters for a smooth one.

Points are evaluated one after another or, to a budget of memory, several side by side. On a CPU
the first takes the least memory and, for a network of a million parameters, the least time
(`experiments/benchmarks/landscape.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape import inputs
from jaxdescent.landscape.memory import bytes_of_a_call

LossFn = Callable[[Any, Any], jax.Array]

_MEMORY = 2**30


def losses_of_sums(
    loss_fn: LossFn,
    trees: Sequence[Any],
    weights: np.ndarray,
    batch: Any,
    memory: int | None,
) -> jax.Array:
    """The losses f[n] at the sums of k trees with the weights [n, k]."""
    chunk = chunk_size(loss_fn, trees[0], batch, len(weights), memory)
    at = jnp.asarray(weights, inputs.widest(trees[0]))
    return _losses_of_sums(loss_fn, chunk, tuple(trees), at, batch)


def chunk_size(loss_fn: LossFn, params: Any, batch: Any, points: int, memory: int | None) -> int:
    """How many points are evaluated side by side.

    Raises:
      ValueError: the memory is not a positive number of bytes.
    """
    if memory is not None:
        validation.integer_in("memory", memory, 1)
    else:
        if jax.default_backend() == "cpu":
            return 1
        memory = _MEMORY
    most = max(1, memory // max(1, bytes_of_a_call(loss_fn, params, batch)))
    chunks = -(-points // min(most, points))
    return -(-points // chunks)  # as even as can be: the last one is filled up


@functools.partial(jax.jit, static_argnums=(0, 1))
def _losses_of_sums(
    loss_fn: LossFn, chunk: int, trees: tuple[Any, ...], weights: jax.Array, batch: Any
) -> jax.Array:
    return in_chunks(lambda w: loss_fn(combination(trees, w), batch), weights, chunk)


def in_chunks(one: Callable[[Any], jax.Array], inputs: Any, chunk: int) -> jax.Array:
    """`one` of each of the inputs, so many side by side; one program for all of them."""
    count = len(jax.tree.leaves(inputs)[0])
    if chunk == 1:
        return jax.lax.map(one, inputs)
    chunks = -(-count // chunk)

    def cut(leaf: jax.Array) -> jax.Array:
        last = jnp.broadcast_to(leaf[-1:], (chunks * chunk - count, *leaf.shape[1:]))
        return jnp.concatenate([leaf, last]).reshape(chunks, chunk, *leaf.shape[1:])

    values = jax.lax.map(jax.vmap(one), jax.tree.map(cut, inputs))
    return values.reshape(chunks * chunk, *values.shape[2:])[:count]


def combination(trees: Sequence[Any], weights: jax.Array) -> Any:
    """The sum of trees with weights f[k], in the dtypes of the first."""

    def of_leaf(first: jax.Array, *others: jax.Array) -> jax.Array:
        dtype = inputs.wide(jnp.result_type(first))
        leaves = [jnp.asarray(leaf).astype(dtype) for leaf in (first, *others)]
        terms = [w.astype(dtype) * leaf for w, leaf in zip(weights, leaves, strict=True)]
        return functools.reduce(jnp.add, terms).astype(jnp.result_type(first))

    return jax.tree.map(of_leaf, *trees)
