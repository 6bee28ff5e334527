"""The frame that learners share: checks of their arguments, and rounds that are not finite.

A round whose gradient, error or result is not finite changes neither the parameters nor the state,
except for the count `skipped`. A single NaN in a sum of squares would stop a learner forever.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers, numerics, validation
from jaxdescent.eager_calls import compile_eager_calls

Step = Callable[..., tuple[Any, Any]]


def gradient_learner(
    init: Callable[[Any], Any], step: Step
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that takes the gradient of the loss at the parameters.

    Args:
      init: called as `init(params)` with arrays; returns a NamedTuple with a field `skipped`.
      step: called as `step(grads, state, params, **extra)` with arrays; returns the new parameters
        minus the old, and the new state.
    """

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, optax.OptState]:
        grads, params = _arrays("update(grads, state, params)", updates, params)
        return _contained(grads, (), state, *step(grads, state, params, **extra))

    return _transformation(init, update)


def error_learner(init: Callable[[Any], Any], step: Step) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that takes the gradient of a scalar prediction, and its error.

    Args:
      init: called as `init(params)` with arrays; returns a NamedTuple with a field `skipped`.
      step: called as `step(prediction_grads, state, error)` with arrays; returns the new parameters
        minus the old, and the new state.
    """

    def update(
        updates: Any, state: Any, params: Any = None, *, error: Any = None, **extra: Any
    ) -> tuple[Any, optax.OptState]:
        del extra, params
        if error is None:
            raise ValueError(
                "update(prediction_grads, state, params, error=error) needs error=, the target "
                "minus the prediction, or the negative derivative of the loss by the prediction"
            )
        grads, _ = _arrays("", updates, updates)
        error = jnp.asarray(error, numerics.widest_float(grads))
        if error.ndim:
            raise ValueError(
                f"error must be a scalar, got shape {error.shape}; give a learner one prediction "
                "per update, such as by jax.lax.scan over the examples"
            )
        return _contained(grads, error, state, *step(grads, state, error))

    return _transformation(init, update)


def _transformation(init: Any, update: Any) -> optax.GradientTransformationExtraArgs:
    def init_of_arrays(params: Any) -> optax.OptState:
        validation.check_arrays("params", params)
        return init(params)

    return optax.GradientTransformationExtraArgs(init_of_arrays, compile_eager_calls(update))


def _arrays(call: str, grads: Any, params: Any) -> tuple[Any, Any]:
    """Returns gradients and parameters as arrays; parameters without a gradient are None."""
    if params is None:
        raise ValueError(f"{call} needs params, from which the learner moves")
    validation.check_arrays("grads", grads)
    params = containers.params_like(params, grads)
    return jax.tree.map(jnp.asarray, grads), jax.tree.map(jnp.asarray, params)


def _contained(grads: Any, error: Any, state: Any, moves: Any, new_state: Any) -> tuple[Any, Any]:
    """Returns the updates in the gradients' dtypes and the state, unless a number is not finite."""
    usable = numerics.all_finite((grads, error, moves, new_state))
    moves = jax.tree.map(lambda m, g: jnp.where(usable, m, 0).astype(g.dtype), moves, grads)
    new_state = optax.tree.where(usable, new_state, state)
    skipped = jnp.where(usable, state.skipped, optax.safe_increment(state.skipped))
    return moves, new_state._replace(skipped=skipped)


def no_rounds() -> jax.Array:
    """Returns i32[], a count of 0."""
    return jnp.zeros((), jnp.int32)


def next_round(count: jax.Array) -> jax.Array:
    """Returns i32[], the count plus 1, without overflow."""
    return jnp.asarray(optax.safe_increment(count))


def zeros_like(params: Any) -> Any:
    """Returns zeros in float32 or wider in the shapes of the parameters."""
    return jax.tree.map(lambda x: jnp.zeros_like(numerics.wide_copy(x)), params)


def widened(tree: Any) -> Any:
    """Returns a tree of floats in float32 or wider."""
    return jax.tree.map(lambda x: x.astype(numerics.at_least_float32(x.dtype)), tree)


def number(value: Any, like: jax.Array) -> jax.Array:
    """Returns a hyperparameter in the dtype of an array."""
    return jnp.asarray(value, like.dtype)
