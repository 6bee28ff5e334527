"""Argument checks for losses: shapes always, values where they are concrete.

Shapes must be equal, not merely broadcastable: `f32[8]` with `f32[8, 1]` would give 64 losses.
Values, such as labels, are checked if the array is concrete. Each loss documents the result
for invalid values in a traced array.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation


def as_floats(**arrays: Any) -> tuple[jax.Array, ...]:
    """Converts the arguments to arrays of one shape and one dtype, of at least 32 bits.

    Raises:
      TypeError: an argument is not real.
      ValueError: the shapes differ.
    """
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    reference, first = next(iter(values.items()))
    for name, value in values.items():
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise TypeError(f"{name} must be real, got dtype {value.dtype}")
        check_shape(name, value, reference, first.shape)
    dtype = numerics.widest_float(values)
    return tuple(value.astype(dtype) for value in values.values())


def check_shape(name: str, value: Any, reference: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless an argument has the shape of the argument `reference`."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} must have the shape of {reference}, {shape}, got {np.shape(value)}"
        )


def as_mask(where: Any, *shapes: tuple[int, ...]) -> jax.Array:
    """Converts `where` to a boolean array of one of the shapes.

    Raises:
      TypeError: `where` is not boolean.
      ValueError: `where` has another shape.
    """
    dtype = where.dtype if hasattr(where, "dtype") else np.asarray(where).dtype
    if dtype != np.bool_:
        raise TypeError(f"where must be boolean, got dtype {dtype}; compare, as in mask > 0")
    if np.shape(where) not in shapes:
        allowed = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(f"where must have the shape {allowed}, got {np.shape(where)}")
    return jnp.asarray(where)


def last_axis_size(name: str, value: jax.Array) -> int:
    """Returns the size of the last axis, which must be at least 1."""
    if not value.ndim or not value.shape[-1]:
        raise ValueError(
            f"{name} must have a last axis of length 1 or more, got shape {value.shape}"
        )
    return value.shape[-1]


def check_entries(
    name: str,
    value: Any,
    allowed: str,
    is_valid: Callable[[np.ndarray], Any],
    where: Any = None,
) -> None:
    """Raises ValueError if a concrete, unmasked entry is not valid.

    Args:
      name: the argument's name, for the error message.
      value: the argument.
      allowed: a description of valid entries, for the error message.
      is_valid: called with the entries; returns booleans of the same shape.
      where: the entries to check, of the shape of `value` or of `value` without its last axis.
    """
    if where is not None:
        as_mask(where, np.shape(value), np.shape(value)[:-1])
    if not (validation.is_concrete(value) and (where is None or validation.is_concrete(where))):
        return
    array = np.asarray(value)
    invalid = ~is_valid(array)
    if where is not None:
        included = np.asarray(where)
        invalid &= included.reshape(included.shape + (1,) * (array.ndim - included.ndim))
    if np.any(invalid):
        raise ValueError(f"{name} must be {allowed}, got {array[invalid][0]}")


def check_signs(name: str, value: Any, where: Any = None) -> None:
    """Raises ValueError if a concrete, unmasked entry is neither -1 nor 1."""
    check_entries(name, value, "-1 or 1", lambda x: (x == 1) | (x == -1), where)


def check_probabilities(name: str, value: Any, where: Any = None) -> None:
    """Raises ValueError if a concrete, unmasked entry is outside [0, 1]."""
    check_entries(name, value, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), where)


def check_number_in(name: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError unless a value is a number in [low, high], or not concrete."""
    if validation.is_concrete(value):
        validation.number_in(name, value, low, high)


def as_weights(name: str, value: Any, scores: jax.Array, *, scalar: bool = False) -> jax.Array:
    """Converts class weights, `[classes]`, to the dtype of the scores, `[..., classes]`.

    Args:
      name: the argument's name, for the error message.
      value: the weights, at least 0.
      scores: the scores.
      scalar: whether one number for all classes is allowed.

    Raises:
      TypeError: the weights are not real numbers.
      ValueError: the number of weights is not the number of classes, or a weight is negative
        or not finite.
    """
    shape = np.shape(value)
    if not (shape == scores.shape[-1:] and shape) and not (scalar and not shape):
        allowed = f"shape {scores.shape[-1:]}, one for each entry of the last axis"
        raise ValueError(f"{name} must {'be a number or ' * scalar}have {allowed}, got {shape}")
    if validation.is_concrete(value):
        validation.finite_array(name, value)
        check_entries(name, value, "in [0, inf)", lambda x: x >= 0)
    return jnp.asarray(value, scores.dtype)
