"""Checks of what losses are given: shapes always, contents where they are known.

Shapes must be equal, not merely broadcast: `f32[8]` against `f32[8, 1]` would be 64 losses.
Contents, such as labels, are looked at when they are concrete; those of a traced array
cannot be, and what a bad one then gives is said by each loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation


def floats(**arrays: Any) -> tuple[jax.Array, ...]:
    """The arguments as arrays of one shape and one dtype, of at least 32 bits.

    Raises:
      TypeError: an argument is not real.
      ValueError: an argument's shape is not the first one's.
    """
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    reference, first = next(iter(values.items()))
    for name, value in values.items():
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise TypeError(f"{name} must be real, got dtype {value.dtype}")
        same_shape(name, value, reference, first.shape)
    double = any(value.dtype == jnp.float64 for value in values.values())
    dtype = jnp.float64 if double else jnp.float32
    return tuple(value.astype(dtype) for value in values.values())


def same_shape(name: str, value: Any, reference: str, shape: tuple[int, ...]) -> None:
    """Raises if an argument does not have the shape of another one."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} must have the shape of {reference}, {shape}, got {np.shape(value)}"
        )


def mask(where: Any, *shapes: tuple[int, ...]) -> jax.Array:
    """Returns `where` if it is boolean and of one of the shapes, or raises.

    Raises:
      TypeError: it is not boolean.
      ValueError: it has another shape.
    """
    dtype = where.dtype if hasattr(where, "dtype") else np.asarray(where).dtype
    if dtype != np.bool_:
        raise TypeError(f"where must be boolean, got dtype {dtype}; compare, as in mask > 0")
    if np.shape(where) not in shapes:
        allowed = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(f"where must have the shape {allowed}, got {np.shape(where)}")
    return jnp.asarray(where)


def last_axis(name: str, value: jax.Array, axes: int = 1) -> int:
    """The length of the last axis, or an error if there is none or it is empty."""
    if value.ndim < axes or not value.shape[-1]:
        raise ValueError(
            f"{name} must have a last axis of length 1 or more, got shape {value.shape}"
        )
    return value.shape[-1]


def contents(
    name: str, value: Any, allowed: str, test: Callable[[np.ndarray], Any], where: Any = None
) -> None:
    """Raises if an entry that is known, and not masked, fails a test.

    Args:
      name: what the caller calls the argument.
      value: its array.
      allowed: what an entry must be, in words.
      test: from the entries to booleans.
      where: the entries to look at, of the shape of `value` or without its last axis.

    Raises:
      ValueError: one does.
    """
    if where is not None:
        mask(where, np.shape(value), np.shape(value)[:-1])
    if not (_known(value) and (where is None or _known(where))):
        return
    array = np.asarray(value)
    bad = ~test(array)
    if where is not None:
        left = np.asarray(where)
        bad &= left.reshape(left.shape + (1,) * (array.ndim - left.ndim))
    if np.any(bad):
        raise ValueError(f"{name} must be {allowed}, got {array[bad][0]}")


def _known(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer) and getattr(value, "is_fully_addressable", True)


def signs(name: str, value: Any, where: Any = None) -> None:
    """Raises if an entry is known and neither -1 nor 1."""
    contents(name, value, "-1 or 1", lambda x: (x == 1) | (x == -1), where)


def probabilities(name: str, value: Any, where: Any = None) -> None:
    """Raises if an entry is known and not in [0, 1]."""
    contents(name, value, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), where)


def non_negative(name: str, value: Any) -> None:
    """Raises if a setting is known and not a number in [0, inf)."""
    if _known(value):
        array = validation.finite_array(name, value)
        if array.ndim or array < 0:
            raise ValueError(f"{name} must be a number in [0, inf), got {value!r}")


def number_in(name: str, value: Any, low: float, high: float) -> None:
    """Raises if a setting is known and not a number in [low, high]."""
    if _known(value):
        validation.number_in(name, value, low, high)


def weights(name: str, value: Any, like: jax.Array, *, scalar: bool = False) -> jax.Array:
    """A weight for each class, `[classes]`, in the dtype of `like`, `[..., classes]`.

    Args:
      name: what the caller calls the argument.
      value: the weights, at least 0.
      like: the scores.
      scalar: whether one number for all classes will do.

    Raises:
      TypeError: they are not real numbers.
      ValueError: there are more or fewer than classes, or one is negative or not finite.
    """
    shape = np.shape(value)
    if not (shape == like.shape[-1:] and shape) and not (scalar and not shape):
        allowed = f"shape {like.shape[-1:]}, one for each entry of the last axis"
        raise ValueError(f"{name} must {'be a number or ' * scalar}have {allowed}, got {shape}")
    if _known(value):
        validation.finite_array(name, value)
        contents(name, value, "in [0, inf)", lambda x: x >= 0)
    return jnp.asarray(value, like.dtype)
