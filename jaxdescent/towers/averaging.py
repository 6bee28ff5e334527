"""Average of the parameters along training, at which to evaluate a model.

    y_n = y_{n-1} + c_n (x_n - y_{n-1}),    c_n = (p + 1) / (n + p),    n = 1, 2, ...

Polynomial-decay averaging: the weight of x_k in y_n grows like k^p, so that the last n / (p + 1)
parameters count most. At a constant learning rate it removes the noise that a decay of the learning
rate would remove, without knowing when training will end.

Source: O. Shamir, T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML
2013, arXiv:1212.1824.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import wide_copy, widest_float
from jaxdescent.towers.restart import RestartState
from jaxdescent.towers.tower import wrapper
from jaxdescent.towers.tuning.horizon import POWER
from jaxdescent.towers.tuning.plans import SelfTuningState

_INT32_MAX = 2**31 - 1


class AverageState(NamedTuple):
    """State of `with_average`.

    Attributes:
      inner_state: the transformation's state.
      average: the average of the parameters, in float32 or wider.
      count: i32[], number of updates until now.
    """

    inner_state: Any
    average: Any
    count: jax.Array


def with_average(
    tx: optax.GradientTransformation, /, *, power: float = POWER, burn_in: int = 0
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer to keep a polynomially weighted average of the parameters.

    The average is over the parameters that are passed to `update`. The updates of `tx` do not
    change. In addition to the state of `tx`, the state holds one buffer of the parameters' size.

    Args:
      tx: a transformation.
      power: p, in [0, inf). 0 weights all parameters equally; the larger it is, the more recent
        parameters dominate.
      burn_in: number of updates before the average begins; until then it is equal to the
        initial parameters.

    Returns:
      A transformation. Its `update(grads, state, params, **extra)` needs the parameters.
      `jd.averaged_params(state, params)` reads the average.

    Raises:
      TypeError: `tx` is not a transformation.
      ValueError: `power` or `burn_in` is out of range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx, x = jd.with_average(optax.sgd(1.0), power=0.0), jnp.array(0.0)
      >>> state = tx.init(x)
      >>> for _ in range(3):  # at 0, 1 and 2
      ...     updates, state = tx.update(jnp.array(-1.0), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> float(jd.averaged_params(state, x))
      1.0
    """
    inner = validation.transformation("tx", tx)
    validation.check_non_negative("power", power)
    power, burn_in = float(power), validation.integer_in("burn_in", burn_in, 0, _INT32_MAX)

    def init(params: Any) -> AverageState:
        validation.check_arrays("params", params)
        average = jax.tree.map(wide_copy, params)
        return AverageState(inner.init(params), average, jnp.zeros((), jnp.int32))

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, AverageState]:
        if params is None:
            raise ValueError("update(grads, state, params) needs params, which are averaged")
        params = containers.params_like(params, updates)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        count = jnp.asarray(optax.safe_increment(state.count))
        # At least 1: the weight of the burn-in's last step may be infinite, and is not used.
        n = jnp.maximum(count - burn_in, 1).astype(widest_float(params))
        weight = (power + 1) / (n + power)

        def step(y: jax.Array, x: jax.Array) -> jax.Array:
            return y + (weight * (jnp.asarray(x, y.dtype) - y)).astype(y.dtype)

        average = jax.tree.map(step, state.average, params)
        if burn_in:
            average = optax.tree.where(count > burn_in, average, state.average)
        return updates, AverageState(inner_state, average, count)

    return wrapper(inner, init, update)


def averaged_params(state: Any, params: Any, /) -> Any:
    """Returns the average of the parameters that an optimizer's state holds.

    `with_average`, `self_tuning` and `restart_on_divergence` keep one; of nested ones, the
    outermost is read. `self_tuning` compares the losses at both; if the loss at the parameters is
    lower, or changes faster than the average can follow, the parameters are returned.

    A model that has other state, such as the running statistics of BatchNorm, has it from the last
    parameters, not from their average: see `jd.reestimate_statistics`.

    Args:
      state: the optimizer's state, or any tree that holds it: the `opt_state` of an
        `nnx.Optimizer`, `nnx.state(optimizer)`, a `TrainState`, or a state that Orbax restored
        without a template.
      params: the present parameters. The average is returned in their containers and dtypes: of
        `nnx.Param` variables, of a `FrozenDict`, or in an Equinox model. Leaves that the optimizer
        does not update, such as those that an `optax.masked` excludes or the functions in an
        Equinox model, are returned unchanged. For an `nnx.Module` the average is an `nnx.State`,
        for `nnx.update(model, average)`.

    Raises:
      ValueError: `state` does not hold exactly one average; or `params` lacks a parameter of the
        average, or has another shape.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx, x = jd.self_tuning(optax.adam), jnp.ones(2)
      >>> jd.averaged_params(tx.init(x), x)
      Array([1., 1.], dtype=float32)
    """
    kinds: Any = AverageState, SelfTuningState, RestartState
    found = containers.find_states(state, *kinds, may_be_empty=("inner_state",))
    if len(found) != 1:
        raise ValueError(
            "state must hold one state of jd.with_average, jd.self_tuning or "
            f"jd.restart_on_divergence, got {len(found)} of them"
            + ("" if found else "; to average, wrap the optimizer in jd.with_average(tx)")
        )
    averages = containers.leaves_by_path(found[0].average)
    if not isinstance(params, type(found[0].average)):
        params = containers.variables_of_module(params, averages)
    leaves = containers.leaves_by_path(params)
    for path, average in averages.items():
        _check_leaf(path, leaves, average)
    if isinstance(found[0], SelfTuningState):
        # While both are exchanged, the other one is meant.
        chosen = found[0].prefers_params() ^ found[0].probe.at_average
        averages = {path: _chosen(chosen, leaves[path], y) for path, y in averages.items()}
    new = [_average_like(averages.get(path, leaf), leaf) for path, leaf in leaves.items()]
    return containers.boxed_like(new, params)


def _check_leaf(path: containers.Path, leaves: dict[containers.Path, Any], average: Any) -> None:
    name, shape = "/".join(path), jnp.shape(average)
    if path not in leaves:
        what = "None" if not leaves else f"parameters without {name!r}" if name else "a tree"
        raise ValueError(
            f"params must be the parameters that the optimizer was initialized with, got {what}"
        )
    if jnp.shape(leaves[path]) != shape:
        raise ValueError(
            f"params must have the shapes of the average, got {jnp.shape(leaves[path])} for "
            f"{shape}{name and ' at ' + repr(name)}"
        )


def _chosen(lags: jax.Array, x: Any, y: jax.Array) -> jax.Array:
    """Returns a leaf of the parameters where `lags`, which may have axes of agents, else y."""
    where = jnp.reshape(lags, jnp.shape(lags) + (1,) * (jnp.ndim(y) - jnp.ndim(lags)))
    return jnp.where(where, jnp.asarray(x, y.dtype), y)


def _average_like(average: Any, leaf: Any) -> Any:
    return average if average is leaf else jnp.asarray(average, jnp.result_type(leaf))
