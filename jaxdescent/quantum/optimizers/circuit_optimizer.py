"""The protocol of optimizers that execute circuits themselves, and count them.

    state = optimizer.init(params, key)
    params, state = optimizer.step(params, state, key)

Both can be compiled, and mapped over agents by `jax.vmap`. An optax transformation gets gradients;
these optimizers choose the points at which they need values.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxdescent import numerics, validation
from jaxdescent.quantum.estimators.shots import LARGEST_COUNT, shots_per_value, value_of


class CircuitOptimizer(NamedTuple):
    """An optimizer that executes circuits.

    Attributes:
      init: Called as `init(params, key)`; returns a state.
      step: Called as `step(params, state, key)`; returns parameters and a state. Every state has
        the fields `executions` and `shots`, i32[]: the numbers of executions of a circuit and of
        measurements until now, which stay at 2^31 - 1 once they are there. TypeError is raised for
        a key or a state of another type, ValueError for parameters of another size than in `init`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> optimizer = jd.quantum.rotosolve(lambda x: jnp.sum(jnp.cos(x)))
      >>> params, key = jnp.array([0.1, 2.0]), jax.random.key(0)
      >>> state = optimizer.init(params, key)
      >>> params, state = optimizer.step(params, state, key)
      >>> round(float(state.value), 4), int(state.executions)
      (-2.0, 5)
    """

    init: Callable[[Any, jax.Array], Any]
    step: Callable[[Any, Any, jax.Array], tuple[Any, Any]]


def circuit_optimizer(state_type: type, init: Any, step: Any) -> CircuitOptimizer:
    """Returns an optimizer whose steps refuse wrong states and keys."""

    @functools.wraps(step)
    def checked_step(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any]:
        if not isinstance(state, state_type):
            raise TypeError(
                f"state must be the {state_type.__name__} that init(params, key) or step returned, "
                f"got {validation.shown(state)}"
            )
        return step(params, state, validation.random_key("key", key))

    return CircuitOptimizer(init, checked_step)


def check_size(flat: jax.Array, size: int) -> None:
    """Raises ValueError unless the parameters have the size of the state's."""
    if flat.size != size:
        raise ValueError(
            f"params must hold {size} numbers, as in init(params, key), got {flat.size}"
        )


def check_function(function: Any) -> None:
    """Raises TypeError unless a function can be called."""
    if not callable(function):
        raise TypeError(
            f"function must be a function of params or circuit.expectation(observable), got "
            f"{validation.shown(function)}"
        )


def flat_function(function: Any, params: Any) -> tuple[jax.Array, Any, Any]:
    """Returns the flat parameters, the way back, and a function of them and of a key.

    The flat parameters are in float32 or wider, and the function is evaluated there: differences of
    values need more than 16 bits. The way back casts them to the dtypes of the parameters.

    Raises:
      TypeError: a leaf of the parameters is not an array.
      ValueError: there are no parameters, or they are not real.
    """
    params = validation.arrays("params", params, validation.PARTITION)
    validation.check_floating("params", params)
    flat, unravel_wide = ravel_pytree(widened(params))
    if not flat.size:
        raise ValueError(f"params must hold at least one number, got {validation.shown(params)}")

    def value_at(x: jax.Array, key: jax.Array) -> jax.Array:
        with validation.tracing("function"):
            value = value_of(function, unravel_wide(x), key)
        validation.check_scalar("function", value)
        return value.astype(flat.dtype)

    def unravel(x: jax.Array) -> Any:
        return jax.tree.map(lambda y, p: y.astype(p.dtype), unravel_wide(x), params)

    return flat, unravel, value_at


def widened(params: Any) -> Any:
    """Returns parameters in float32, or in float64 if a leaf is."""
    dtype = numerics.widest_float(params)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def no_count() -> jax.Array:
    """Returns the count 0."""
    return jnp.zeros((), jnp.int32)


def counted(state: Any, function: Any, executions: int) -> dict[str, jax.Array]:
    """Returns the counts of a state after further executions."""
    return {
        "executions": added(state.executions, executions),
        "shots": added(state.shots, executions * shots_per_value(function)),
    }


def added(count: jax.Array, number: Any) -> jax.Array:
    """Returns the sum of two counts, at most 2^31 - 1."""
    if isinstance(number, int):
        number = min(number, LARGEST_COUNT)
    number = jnp.minimum(jnp.asarray(number), LARGEST_COUNT).astype(jnp.int32)
    return jnp.where(count > LARGEST_COUNT - number, LARGEST_COUNT, count + number)
