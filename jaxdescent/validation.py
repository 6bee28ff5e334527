"""Argument checks with one wording: `name must be <range or type>, got <value>`.

A function that returns the checked value is named for that value, such as `integer_in`. A
function that only raises is named `check_...`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

PARTITION = (
    "keep other leaves out of the parameters, as with nnx.split(model, nnx.Param, ...) or "
    "eqx.partition(model, eqx.is_inexact_array)"
)
"""Remedy for a model in place of its parameters."""


MISSING_VALUE = (
    "value=, the loss whose gradients are grads. TrainState.apply_gradients of Flax does not pass "
    "it on: override it to call tx.update(grads, opt_state, params, value=value). Nor do optax's "
    "lookahead, sam and split_real_and_imaginary, nor MultiSteps inside optax.chain or another "
    "wrapper: put MultiSteps outermost, as in optax.MultiSteps(optax.chain(...), 2)"
)
"""Says that an update needs the loss, and where it may have been lost."""


def shown(value: Any) -> str:
    """Returns a value's representation for an error message, on one line and not too long."""
    text = repr(value)
    if "\n" in text:  # such as a matrix
        text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def check_params_and_loss(params: Any, value: Any) -> None:
    """Raises ValueError unless an update is given the parameters and the loss."""
    if params is None or value is None:
        missing = "params" if params is None else MISSING_VALUE
        raise ValueError(f"update(grads, state, params, value=loss) needs {missing}")


def finite_array(name: str, value: Any) -> np.ndarray:
    """Returns a finite number or array of numbers as float64.

    Args:
      name: the argument's name, for the error message.
      value: anything that `numpy.asarray` accepts, except a NamedTuple.

    Raises:
      TypeError: the value is not numeric.
      ValueError: the value is not finite, or it is empty.
    """
    array = real_array(name, value)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return array


def real_array(name: str, value: Any) -> np.ndarray:
    """Returns a number or array of numbers as float64; infinities and NaN are allowed."""
    try:
        if hasattr(value, "_fields"):
            raise TypeError
        array = np.asarray(value)
        numeric = np.issubdtype(array.dtype, np.number) or "float" in array.dtype.name
    except (TypeError, ValueError):
        array, numeric = np.zeros(()), False
    if not numeric or np.iscomplexobj(array):
        raise TypeError(f"{name} must be a real number or an array of them, got {shown(value)}")
    array = array.astype(np.float64)
    if not array.size:
        raise ValueError(f"{name} must hold at least one number, got {shown(value)}")
    return array


def open_interval(name: str, value: Any, low: float, high: float, hint: str = "") -> np.ndarray:
    """Returns an array as float64; every entry must be in the open interval `(low, high)`."""
    array = finite_array(name, value)
    if not np.all((array > low) & (array < high)):
        interval = f"({_bound(low)}, {_bound(high)})"
        raise ValueError(f"{name} must be in {interval}, got {shown(value)}{hint and '; ' + hint}")
    return array


def half_open_interval(name: str, value: Any, low: float, high: float) -> Any:
    """Returns `value` if every number in it lies in `[low, high)`, or raises.

    A traced value is returned unchecked.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    array = finite_array(name, value)
    if not np.all((array >= low) & (array < high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {shown(value)}")
    return array


def number_in(name: str, value: Any, low: float, high: float) -> float:
    """Returns a float that must be in the closed interval `[low, high]`."""
    array = finite_array(name, value)
    if array.ndim or not low <= array <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {shown(value)}")
    return float(array)


def number_between(name: str, value: Any, low: float, high: float) -> float:
    """Returns a float that must be in the open interval `(low, high)`."""
    array = open_interval(name, value, low, high)
    if array.ndim:
        raise ValueError(
            f"{name} must be a number in ({_bound(low)}, {_bound(high)}), got {shown(value)}"
        )
    return float(array)


def boolean(name: str, value: Any) -> Any:
    """Returns a bool or a boolean array, which may be traced."""
    if isinstance(value, bool) or getattr(value, "dtype", None) == np.dtype("bool"):
        return value
    raise ValueError(f"{name} must be True or False, got {shown(value)}")


def scalar_boolean(name: str, value: Any) -> jax.Array:
    """Returns a bool, which may be traced, as bool[]; None counts as False."""
    value = boolean(name, False if value is None else value)
    if np.shape(value):
        raise ValueError(f"{name} must be one bool, got shape {np.shape(value)}")
    return jnp.asarray(value)


def random_key(name: str, value: Any) -> jax.Array:
    """Returns a single random key, typed or raw."""
    if isinstance(value, (jax.Array, np.ndarray)):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if value.ndim == (0 if typed else 1) and (typed or value.dtype == np.uint32):
            return jnp.asarray(value)
    raise TypeError(f"{name} must be one random key, such as jax.random.key(0), got {shown(value)}")


def mode(name: str, value: Any) -> str:
    """Returns "min" or "max"."""
    if isinstance(value, str) and value in ("min", "max"):
        return value
    raise ValueError(
        f"{name} must be 'min' or 'max', according to which values are better, got {shown(value)}"
    )


def integer_in(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Returns an int in `[low, high]`, or of at least `low` without `high`."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not integer or value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be an integer {allowed}, got {shown(value)}")
    return int(value)


def _bound(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def mapping(name: str, value: Any, contents: str) -> Mapping[str, Any]:
    """Returns a mapping with string keys and at least one entry."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of {contents}, got {shown(value)}")
    if not value:
        raise ValueError(f"{name} must hold at least one entry of {contents}, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have strings as keys, got {key!r}")
    return value


def shaped_like(
    name: str, tree: Any, reference: Any, what: str = "the parameters", hint: str = ""
) -> None:
    """Raises ValueError unless a tree has the structure and the leaf shapes of `reference`."""
    references, structure = jax.tree.flatten(reference)
    try:
        leaves = structure.flatten_up_to(tree)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a tree like {what}: {error}") from error
    for leaf, wanted in zip(leaves, references, strict=True):
        if np.shape(leaf) != np.shape(wanted):
            raise ValueError(
                f"{name} must have the shapes of {what}, got {np.shape(leaf)} "
                f"for {np.shape(wanted)}" + (hint and "; " + hint)
            )


def transformation(name: str, value: Any) -> optax.GradientTransformationExtraArgs:
    """Returns an optax transformation, or `optax.MultiSteps`, that accepts extra arguments."""
    if isinstance(value, optax.GradientTransformation):
        # MultiSteps.gradient_transformation() returns its methods, but declares no extra arguments.
        method_of = getattr(value.update, "__self__", None)
        value = method_of if isinstance(method_of, optax.MultiSteps) else value
    if isinstance(value, optax.MultiSteps):
        value = _multi_steps(value)
    if isinstance(value, optax.GradientTransformation):
        return optax.with_extra_args_support(value)
    hint = ""
    if callable(value):
        called = getattr(value, "__name__", "the_factory")
        hint = f"; call it with its arguments first, as in {called}(...)"
    if isinstance(getattr(value, "tx", None), optax.GradientTransformation):
        hint = "; pass its transformation, the attribute tx"
    elif any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(value)):
        hint = "; pass the transformation, such as optax.adam(1e-3), rather than its state"
    raise TypeError(
        f"{name} must be an optax gradient transformation, got {_on_one_line(value)} "
        f"of type {type(value).__name__}{hint}"
    )


def _on_one_line(value: Any) -> str:
    """Returns the value's representation, or its type in place of a long one."""
    text = repr(value)
    return "an object" if len(text) > 80 or "\n" in text else text


def _multi_steps(steps: optax.MultiSteps) -> optax.GradientTransformationExtraArgs:
    """Converts like `MultiSteps.gradient_transformation()`, and keeps extra arguments."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return steps.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(steps.init, update)


def factory(name: str, value: Any) -> Callable[..., optax.GradientTransformation]:
    """Returns a callable that creates a transformation, such as `optax.adam`."""
    if isinstance(value, (optax.GradientTransformation, optax.MultiSteps)):
        raise TypeError(
            f"{name} must be a callable that returns a transformation, got a transformation; "
            "pass optax.adam rather than optax.adam(1e-3)"
        )
    if not callable(value):
        raise TypeError(
            f"{name} must be a callable that returns a transformation, got {shown(value)}"
        )
    return value


def positive(name: str, value: Any, hint: str = "") -> Any:
    """Returns an array as float64; every entry must be in `(0, inf)`.

    A traced array is returned unchecked, as its values are not known yet.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    return open_interval(name, value, 0.0, np.inf, hint)


def positive_number(name: str, value: Any, *, infinite: bool = False) -> Any:
    """Returns a scalar that must be in `(0, inf)`, or in `(0, inf]` if `infinite`.

    Of a traced scalar only the shape is checked, as its value is not known yet.
    """
    traced = isinstance(value, jax.core.Tracer)
    array = value if traced else real_array(name, value)
    fits = traced or np.all((array > 0) & ((array < np.inf) | infinite))
    if array.ndim or not fits:
        end = "inf]" if infinite else "inf)"
        raise ValueError(f"{name} must be a number in (0, {end}, got {shown(value)}")
    return array


def positive_up_to(name: str, value: Any, high: float) -> Any:
    """Returns an array as float64; every entry must be in `(0, high]`. See `positive`."""
    if isinstance(value, jax.core.Tracer):
        return value
    array = finite_array(name, value)
    if not np.all((array > 0) & (array <= high)):
        raise ValueError(f"{name} must be in (0, {high:g}], got {shown(value)}")
    return array


def is_concrete(value: Any) -> bool:
    """True if the values of an array can be read: it is not traced, and not on another host."""
    return not isinstance(value, jax.core.Tracer) and getattr(value, "is_fully_addressable", True)


def check_non_negative(name: str, value: Any) -> None:
    """Raises unless a value is one number in `[0, inf)`. A traced value is not checked."""
    if is_concrete(value):
        array = finite_array(name, value)
        if array.ndim or array < 0:
            raise ValueError(f"{name} must be a number in [0, inf), got {shown(value)}")


def check_arrays(name: str, tree: Any) -> None:
    """Raises TypeError unless every leaf of a tree is an array, its shape or a number."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not (hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))):
            raise TypeError(
                f"{name} must have arrays as leaves, got {shown(leaf)} at "
                f"{name}{jax.tree_util.keystr(path)}; {PARTITION}"
            )


def check_floating(name: str, tree: Any, hint: str = "") -> None:
    """Raises ValueError unless every leaf of a tree is real and floating point.

    Args:
      name: the argument's name, for the error message.
      tree: arrays, numbers or `jax.ShapeDtypeStruct`s.
      hint: added to the message, such as "close over integer leaves".
    """
    check_arrays(name, tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            place = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{name} must have real floating-point leaves, got {dtype} at {place}"
                + (hint and "; " + hint)
            )


def check_scalar_output(name: str, fn: Callable[..., Any], *args: Any) -> None:
    """Raises ValueError unless `fn(*args)` is a real floating-point scalar. Traces `fn`."""
    check_scalar(name, jax.eval_shape(fn, *args))


def check_scalar(name: str, output: Any) -> None:
    """Raises ValueError unless an output, or its shape, is a real floating-point scalar."""
    shape = getattr(output, "shape", None)
    if shape == () and jnp.issubdtype(output.dtype, jnp.floating):
        return
    if shape:
        found, hint = f"{output.dtype}{list(shape)}", "; reduce it to one number, as by jnp.mean"
    elif shape == ():
        found, hint = f"{output.dtype}[]", "; return a floating-point number"
    elif isinstance(output, tuple):
        found, hint = f"a tuple of {len(output)}", "; return the scalar alone"
    else:
        found, hint = f"{shown(output)}", ""
    raise ValueError(f"{name} must return a real scalar, got {found}{hint}")


@contextlib.contextmanager
def tracing(name: str) -> Iterator[None]:
    """Raises TypeError that names the remedy where a function of the user cannot be traced."""
    try:
        yield
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{name} must compute with jax.numpy, because it is compiled, such as jnp.sin for "
            "np.sin; NumPy or SciPy was given a traced array"
        ) from error
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise TypeError(
            f"{name} must not use the value of a traced array as a Python number, because it is "
            "compiled; compute with jax.numpy, and branch with jnp.where or jax.lax.cond"
        ) from error


def arrays(name: str, tree: Any, hint: str = "") -> Any:
    """Returns a tree with every leaf as an array of its dtype.

    Args:
      name: the argument's name, for the error message.
      tree: arrays and numbers.
      hint: what to do about other leaves, for the error message.

    Raises:
      TypeError: a leaf is neither an array nor a number.
    """

    def convert(path: Any, leaf: Any) -> jax.Array:
        # Sequences and iterators are not converted: that might read a whole data set.
        is_array = hasattr(leaf, "__array__") or hasattr(leaf, "__jax_array__")
        try:
            if not is_array and not isinstance(leaf, (bool, int, float, complex)):
                raise TypeError
            # A weak type would compile a second program.
            return jnp.asarray(leaf, jnp.asarray(leaf).dtype)
        except (TypeError, ValueError):
            place = f"{name}{jax.tree_util.keystr(path)}"
            raise TypeError(
                f"{name} must be a tree of arrays, got {_on_one_line(leaf)} of type "
                f"{type(leaf).__name__} at {place}" + (hint and "; " + hint)
            ) from None

    def is_iterator(leaf: Any) -> bool:  # not a leaf in newer versions of JAX
        return isinstance(leaf, Iterator)

    return jax.tree_util.tree_map_with_path(convert, tree, is_leaf=is_iterator)


def check_leading_axis(name: str, tree: Any, size: int, meaning: str, hint: str = "") -> None:
    """Raises ValueError unless every leaf has a leading axis of a size.

    Args:
      name: the argument's name, for the error message.
      tree: arrays.
      size: the length of the axis.
      meaning: the axis' name, for the error message, such as "num_agents".
      hint: what to do, for the error message.
    """
    check_arrays(name, tree)
    shapes = {
        f"{name}{jax.tree_util.keystr(path)}": np.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    fitting = [
        f", and {shape} at {place}" for place, shape in shapes.items() if shape[:1] == (size,)
    ]
    for place, shape in shapes.items():
        if shape[:1] != (size,):
            raise ValueError(
                f"{name} must have a leading axis of {meaning} = {size} in every leaf, got shape "
                f"{shape} at {place}{fitting[0] if fitting else ''}" + (hint and "; " + hint)
            )
