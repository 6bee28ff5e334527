"""Arrays of the parameters' size in a step of `self_tuning` or `restart_on_divergence`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers
from jaxdescent.numerics import is_inexact, widest_float
from jaxdescent.towers import factory as factories


def checked_params(params: Any, updates: Any, value: Any) -> Any:
    """Checks two arguments of an update; returns the parameters in the form of the updates."""
    if params is None:
        raise ValueError("update(grads, state, params) needs params, which are averaged")
    if jnp.shape(value if value is not None else 0):
        raise ValueError(f"value must be a scalar, got shape {jnp.shape(value)}")
    return containers.params_like(params, updates)


class Buffers(NamedTuple):
    """Arrays of the parameters' size after a step.

    Attributes:
      updates: the updates.
      inner_state: the state of the factory's transformation.
      average: the average of the parameters.
      update_length: f32[], the length of the updates; not finite if they are not.
    """

    updates: Any
    inner_state: Any
    average: Any
    update_length: jax.Array


def averaged(averages: jax.Array, weight: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a leaf of the average after a step; it does not change unless `averages`."""
    x = jnp.asarray(x, y.dtype)
    new = y + weight.astype(y.real.dtype) * (x - y) if is_inexact(y) else x
    return jnp.where(averages, new, y)


def stay(never: jax.Array, grads: Any, state: Any) -> Buffers:
    """Returns updates of zeros, and the old buffers. `never` is False.

    Without it, XLA makes one array of zeros for all leaves of a shape, and copies it in every step.
    """
    zeros = jax.tree.map(lambda g: jnp.where(never, g, jnp.zeros_like(g)), grads)
    length = jnp.zeros((), widest_float(state.average))
    return Buffers(zeros, state.inner_state, state.average, length)


def to_average(
    first_state: Callable[[Any], Any], back: jax.Array, buffers: Buffers, params: Any
) -> tuple[Any, Any]:
    """Returns the updates from the parameters to the average, and the state of a new optimizer."""
    y = factories.cast_like(buffers.average, params)
    # `back` is True: as in `stay`.
    fresh = optax.tree.where(back, first_state(y), buffers.inner_state)
    changes = jax.tree.map(lambda y, x, u: (y - x).astype(u.dtype), y, params, buffers.updates)
    return changes, fresh


def to_average_or_exchanged(
    first_state: Callable[[Any], Any], exchanges: jax.Array, buffers: Buffers, params: Any
) -> tuple[Any, Any, Any]:
    """Returns the updates and the optimizer's state of `to_average`, and the average.

    If `exchanges`, the average's buffer takes the parameters, and the optimizer's state stays.
    """
    changes, inner_state = to_average(first_state, ~exchanges, buffers, params)

    def other(y: jax.Array, x: jax.Array, change: jax.Array) -> jax.Array:
        # The zero makes XLA compute the change before it replaces y; else it copies y in each step.
        zero = jnp.where(jnp.isfinite(change), 0 * change, 0).astype(y.dtype)
        return jnp.where(exchanges, jnp.asarray(x, y.dtype), y) + zero

    first = jax.lax.optimization_barrier(changes)
    return changes, inner_state, jax.tree.map(other, buffers.average, params, first)
