"""Checks of arguments, so that every bad one reads the same.

Each error names the argument, the value that came and the range that is allowed.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def finite_array(name: str, value: Any) -> np.ndarray:
    """Returns a number or an array of numbers as float64, or raises.

    Args:
      name: what the caller calls the argument.
      value: anything `numpy.asarray` takes, but a NamedTuple.

    Raises:
      TypeError: the value is not numeric.
      ValueError: the value is not finite, or has no numbers in it.
    """
    array = real_array(name, value)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return array


def real_array(name: str, value: Any) -> np.ndarray:
    """Like `finite_array`, but for numbers that may be infinite or NaN."""
    try:
        if hasattr(value, "_fields"):
            raise TypeError
        array = np.asarray(value)
        numeric = np.issubdtype(array.dtype, np.number) or "float" in array.dtype.name
    except (TypeError, ValueError):
        array, numeric = np.zeros(()), False
    if not numeric or np.iscomplexobj(array):
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r}")
    array = array.astype(np.float64)
    if not array.size:
        raise ValueError(f"{name} must hold at least one number, got {value!r}")
    return array


def open_interval(name: str, value: Any, low: float, high: float, hint: str = "") -> np.ndarray:
    """Returns `value` as float64 if every number lies in `(low, high)`, or raises."""
    array = finite_array(name, value)
    if not np.all((array > low) & (array < high)):
        interval = f"({_bound(low)}, {_bound(high)})"
        raise ValueError(f"{name} must be in {interval}, got {value!r}{hint and '; ' + hint}")
    return array


def half_open_interval(name: str, value: Any, low: float, high: float) -> Any:
    """Returns `value` if every number in it lies in `[low, high)`, or raises.

    A traced value is returned unchecked.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    array = finite_array(name, value)
    if not np.all((array >= low) & (array < high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")
    return array


def number_in(name: str, value: Any, low: float, high: float) -> float:
    """Returns a number of the closed interval `[low, high]` as a float, or raises."""
    array = finite_array(name, value)
    if array.ndim or not low <= array <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")
    return float(array)


def number_between(name: str, value: Any, low: float, high: float) -> float:
    """Returns a number of the open interval `(low, high)` as a float, or raises."""
    array = open_interval(name, value, low, high)
    if array.ndim:
        raise ValueError(
            f"{name} must be a number in ({_bound(low)}, {_bound(high)}), got {value!r}"
        )
    return float(array)


def boolean(name: str, value: Any) -> Any:
    """Returns `value` if it is a bool or an array of them, traced or not, or raises."""
    if isinstance(value, bool) or getattr(value, "dtype", None) == np.dtype("bool"):
        return value
    raise ValueError(f"{name} must be True or False, got {value!r}")


def random_key(name: str, value: Any) -> jax.Array:
    """Returns `value` if it is one random key, typed or raw, or raises."""
    if isinstance(value, (jax.Array, np.ndarray)):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if value.ndim == (0 if typed else 1) and (typed or value.dtype == np.uint32):
            return jnp.asarray(value)
    raise TypeError(f"{name} must be one random key, as of jax.random.key(0), got {value!r}")


def integer_in(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Returns an integer of `[low, high]`, or of `low` and above, or raises."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not integer or value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be an integer {allowed}, got {value!r}")
    return int(value)


def _bound(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def mapping(name: str, value: Any, contents: str) -> Mapping[str, Any]:
    """Returns `value` if it is a mapping with string keys and at least one entry, or raises."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of {contents}, got {value!r}")
    if not value:
        raise ValueError(f"{name} must hold at least one entry of {contents}, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have strings as keys, got {key!r}")
    return value


def shaped_like(name: str, tree: Any, reference: Any, what: str = "the parameters") -> None:
    """Raises if two trees differ in structure or in the shape of a leaf.

    Raises:
      ValueError: they do.
    """
    references, structure = jax.tree.flatten(reference)
    try:
        leaves = structure.flatten_up_to(tree)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a tree like {what}: {error}") from error
    for leaf, wanted in zip(leaves, references, strict=True):
        if np.shape(leaf) != np.shape(wanted):
            raise ValueError(
                f"{name} must have the shapes of {what}, got {np.shape(leaf)} "
                f"for {np.shape(wanted)}"
            )


def transformation(name: str, value: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `value` as a transformation that takes extra arguments, or raises.

    `optax.MultiSteps`, a class of its own, is taken too.
    """
    if isinstance(value, optax.MultiSteps):
        value = _multi_steps(value)
    if isinstance(value, optax.GradientTransformation):
        return optax.with_extra_args_support(value)
    hint = ""
    if callable(value):
        called = getattr(value, "__name__", "the_factory")
        hint = f"; call it with its arguments first, as in {called}(...)"
    raise TypeError(
        f"{name} must be an optax gradient transformation, got {value!r} "
        f"of type {type(value).__name__}{hint}"
    )


def _multi_steps(steps: optax.MultiSteps) -> optax.GradientTransformationExtraArgs:
    """As `gradient_transformation()`, of which nobody can tell that it takes extra arguments."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return steps.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(steps.init, update)


def factory(name: str, value: Any) -> Callable[..., optax.GradientTransformation]:
    """Returns `value` if it is callable, or raises with the usual mistake in mind."""
    if isinstance(value, (optax.GradientTransformation, optax.MultiSteps)):
        raise TypeError(
            f"{name} must be a callable that returns a transformation, got a transformation; "
            "pass optax.adam rather than optax.adam(1e-3)"
        )
    if not callable(value):
        raise TypeError(f"{name} must be a callable that returns a transformation, got {value!r}")
    return value


def positive(name: str, value: Any, hint: str = "") -> Any:
    """Returns `value` if every number in it lies in `(0, inf)`, or raises.

    What is traced has no value yet and comes back unchecked.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    return open_interval(name, value, 0.0, np.inf, hint)


def positive_number(name: str, value: Any, *, infinite: bool = False) -> Any:
    """Returns `value` if it is one number of `(0, inf)`, of `(0, inf]` if `infinite`, or raises.

    What is traced has no value yet, only a shape that can be wrong.
    """
    traced = isinstance(value, jax.core.Tracer)
    array = value if traced else real_array(name, value)
    fits = traced or np.all((array > 0) & ((array < np.inf) | infinite))
    if array.ndim or not fits:
        end = "inf]" if infinite else "inf)"
        raise ValueError(f"{name} must be a number in (0, {end}, got {value!r}")
    return array


def positive_up_to(name: str, value: Any, high: float) -> Any:
    """Like `positive`, with every number in `(0, high]`."""
    if isinstance(value, jax.core.Tracer):
        return value
    array = finite_array(name, value)
    if not np.all((array > 0) & (array <= high)):
        raise ValueError(f"{name} must be in (0, {high:g}], got {value!r}")
    return array
