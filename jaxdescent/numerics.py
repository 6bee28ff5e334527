"""Numeric helpers that every package shares: dtypes wide enough to sum in, and finiteness.

Half precision is computed with in float32, and nothing is narrowed: a float64 input gives a
float64 result. Norms scale before they square. Non-finite numbers are detected inside compiled
code, as a bool[].
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent import sharding

_FEW_FLAGS = 8


def at_least_float32(dtype: Any) -> Any:
    """Returns float64 for a 64-bit float or complex dtype, and float32 for every other dtype."""
    is_wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits == 64
    return jnp.dtype(jnp.float64 if is_wide else jnp.float32)


def widest_float(tree: Any) -> Any:
    """Returns float64 if a leaf of the tree is float64 or complex128, else float32."""
    dtypes = [at_least_float32(jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))


def wide_copy(x: Any) -> jax.Array:
    """Copies a leaf to at least 32 bits; small steps of an average are lost in 16 bits.

    Integers keep their dtype. A `jax.ShapeDtypeStruct` gives zeros.
    """
    dtype = jnp.result_type(x)
    if jnp.issubdtype(dtype, jnp.floating):
        dtype = at_least_float32(dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros(x.shape, dtype)
    return jnp.array(x, dtype)


def norm(
    x: jax.Array, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False
) -> jax.Array:
    """Returns the Euclidean norm, without overflow or underflow of squares; the gradient at 0 is 0.

    Args:
      x: array of floats, of at least 32 bits.
      axis: the axis or axes of the coordinates; all by default.
      keepdims: whether the result keeps these axes, with length 1.
    """
    size = sizes_to_divide_by(x, axis)
    squares = jnp.sum((x / size) ** 2, axis=axis, keepdims=True)
    nonzero = squares != 0
    lengths = size * jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, squares, 1)), 0)
    return lengths if keepdims else jnp.squeeze(lengths, axis)


def sizes_to_divide_by(x: jax.Array, axis: int | tuple[int, ...] | None) -> jax.Array:
    """Returns about the largest absolute value, so that quotients can be squared and summed.

    It is kept away from the smallest and largest numbers, where XLA replaces a reciprocal or a
    product by zero. It is 1 if x is not finite, and a constant in derivatives.
    """
    limits = jnp.finfo(x.dtype)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0))
    size = jnp.where(jnp.isfinite(size), size, jnp.ones_like(size))
    return jnp.clip(size, limits.tiny / limits.eps, 1 / limits.tiny)


def tree_norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all numbers of a tree of floats, as `norm` does."""
    dtype = widest_float(tree)
    norms = [norm(leaf.astype(dtype)) for leaf in jax.tree.leaves(tree)]
    return norm(jnp.stack(norms)) if norms else jnp.zeros((), dtype)


def all_true(flags: list[jax.Array]) -> jax.Array:
    """Returns bool[], True if every bool[] in the list is True."""
    if not flags:
        return jnp.ones((), bool)
    stacked = jnp.stack(flags)
    if len(flags) <= _FEW_FLAGS:
        return jnp.all(stacked)
    # XLA would fuse a reduction of n flags into each of its n uses, so that the program grows
    # with the square of n. It does not fuse a sort, and False sorts first.
    return jnp.sort(stacked)[0]


def all_finite(tree: Any) -> jax.Array:
    """Returns bool[], True if every number in the floating and complex leaves is finite."""
    return all_true([_all_finite(leaf) for leaf in jax.tree.leaves(tree) if is_inexact(leaf)])


def _all_finite(leaf: Any) -> jax.Array:
    finite = jnp.isfinite(leaf)
    if finite.ndim and sharding.may_be_partitioned(leaf):
        # A sum, which devices exchange in one message with the other sums of a step.
        return jnp.sum(~finite, dtype=jnp.float32) == 0
    return jnp.all(finite)


def is_inexact(leaf: Any) -> bool:
    """True if a leaf holds floating or complex numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def state_unless_skipped(finite: jax.Array, new: Any, old: Any) -> Any:
    """Returns the model state after a step, without floating-point numbers of a skipped batch.

    Counts and random keys go on: with the same key, the loss might never be finite again.

    Args:
      finite: bool[], True if the loss of the step is finite.
      new: the model state after the step.
      old: the model state before it.
    """

    def select(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(finite, new, old) if is_inexact(old) else new

    return jax.tree.map(select, new, old)
