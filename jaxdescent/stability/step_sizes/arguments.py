"""Inputs of the `update` functions of this folder: the loss, and trees of Python numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent import numerics, validation


def loss_value(params: Any, value: Any) -> jax.Array:
    """Returns the loss `value` as a scalar of at least 32 bits, or raises.

    Raises:
      TypeError: the loss is not a real number.
      ValueError: params or value is None, or the loss is not a scalar.
    """
    validation.check_params_and_loss(params, value)
    value = jnp.asarray(value)
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"value must be a real number, got dtype {value.dtype}")
    if value.ndim:
        raise ValueError(f"value must be a scalar, got shape {value.shape}")
    return value.astype(numerics.at_least_float32(value.dtype))


def as_arrays(tree: Any) -> Any:
    """Converts Python numbers in a tree to arrays of JAX's default float dtype.

    Raises:
      TypeError: a leaf is neither an array nor a number.
    """
    validation.check_arrays("params", tree)
    return jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x, float), tree)
