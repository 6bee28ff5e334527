"""Argument checks of the models, with the wording of `jaxdescent.validation`."""

import operator
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdescent import validation


def integer(name: str, value: Any, low: int = 1) -> int:
    """Returns `value` as an int if it is an integer of at least `low`, or raises.

    Example:
      >>> integer("width", 0)
      Traceback (most recent call last):
      ValueError: width must be in [1, inf), got 0
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < low:
        raise ValueError(f"{name} must be in [{low}, inf), got {value!r}")
    return number


def rate(name: str, value: Any) -> float:
    """Returns `value` as a float if it is in [0, 1), or raises.

    Example:
      >>> rate("dropout", 1.0)
      Traceback (most recent call last):
      ValueError: dropout must be in [0, 1), got 1.0
    """
    number = float(validation.finite_array(name, value))
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")
    return number


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Returns `value` if it is allowed, or raises.

    Example:
      >>> choice("cell", "rnn", ["lstm", "gru"])
      Traceback (most recent call last):
      ValueError: cell must be 'lstm' or 'gru', got 'rnn'
    """
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")
    return value


def dtype(name: str, value: Any) -> np.dtype | None:
    """Returns a floating dtype, or None for the dtype of the parameters; raises otherwise.

    Example:
      >>> dtype("dtype", "int8")
      Traceback (most recent call last):
      ValueError: dtype must be None or a floating dtype such as jnp.bfloat16, got 'int8'
    """
    if value is None:
        return None
    try:
        checked = jnp.dtype(value)
    except TypeError:
        checked = None
    if checked is None or not jnp.issubdtype(checked, jnp.floating):
        raise ValueError(
            f"{name} must be None or a floating dtype such as jnp.bfloat16, got {value!r}"
        )
    return checked
