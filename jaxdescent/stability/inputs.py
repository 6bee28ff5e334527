"""What transformations ask of their inputs: a loss to watch, numbers wide enough."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def checked_value(params: Any, value: Any) -> jax.Array:
    """The loss as a scalar of 32 bits or more.

    Raises:
      TypeError: the loss is not a real number.
      ValueError: the parameters or the loss were not given, or the loss is no scalar.
    """
    if params is None or value is None:
        missing = "params" if params is None else "value=, the loss that the gradients are of"
        raise ValueError(f"update(grads, state, params, value=loss) needs {missing}")
    value = jnp.asarray(value)
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"value must be a real number, got one of dtype {value.dtype}")
    if value.ndim:
        raise ValueError(f"value must be a scalar, got shape {value.shape}")
    return value.astype(wide(value.dtype))


def all_finite(tree: Any) -> jax.Array:
    """Whether every number of a tree is finite; bool[]."""
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, flags, jnp.ones((), bool))


def wide(dtype: Any, at_least: Any = jnp.float32) -> Any:
    """The wider of two dtypes; of what is no floating point, the other."""
    narrower = (
        not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < jnp.finfo(at_least).bits
    )
    return jnp.dtype(at_least if narrower else dtype)


def arrays(tree: Any) -> Any:
    """The tree with Python's numbers as arrays of the default floating dtype."""
    return jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x, float), tree)


def floats(*numbers: Any) -> list[Any]:
    """Numbers of one dtype: in NumPy's float64, or as JAX's default floats if any is JAX's."""
    if any(isinstance(x, jax.Array) for x in numbers):
        return [jnp.asarray(x, float) for x in numbers]
    return [np.asarray(x, np.float64) for x in numbers]


def wide_copy(x: Any) -> jax.Array:
    """A copy with 32 bits or more: steps of an average are too small for 16."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros(x.shape, wide(x.dtype))
    return jnp.array(x, wide(x.dtype))
