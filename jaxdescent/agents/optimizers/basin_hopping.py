"""Basin hopping: descends for a period, then jumps from the best point so far.

    every `period` steps:    x <- x_best + jump * xi,    xi standard normal,

and the inner optimizer restarts, including its schedules; its random keys continue. Where the value
is not finite, the jump is made at once. Each agent jumps from its own best point, so agents stay
independent. If the learning rate decays within each period, the descent converges in each period.
A jump larger than the distance between basins can reach a better basin, where gradients lead to the
nearest local minimum.

Sources: D. Wales and J. Doye 1997, arXiv:cond-mat/9803344 (basin hopping); R. Leary 2000
(jumps from the best point only); I. Loshchilov and F. Hutter 2017, arXiv:1608.03983 (learning rate
restarts).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, validation
from jaxdescent.agents.random_keys import is_key, is_raw_key
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import widest_float


class BasinHoppingState(NamedTuple):
    """State of `basin_hopping`.

    Attributes:
      inner_state: state of the inner optimizer.
      count: i32[], number of steps since the last jump.
      best_params: the parameters of the least value so far.
      best_value: f[], that value; inf before the first.
      key: random key of the jumps; in a population each agent has its own.
    """

    inner_state: Any
    count: jax.Array
    best_params: Any
    best_value: jax.Array
    key: jax.Array


def basin_hopping(
    optimizer: optax.GradientTransformation,
    *,
    period: ArrayLike,
    jump: ArrayLike,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that jumps from its best point every `period` steps and restarts there.

    Args:
      optimizer: the inner optimizer, which descends between jumps.
      period: number of steps from one jump to the next, at least 1; the last of them is the jump.
      jump: standard deviation of each coordinate of a jump, in units of the parameters; in
        `jd.minimize`, of the width of the problem's box if it is finite.
      key: typed random key of the jumps; by default `jax.random.key(0)`.

    Returns:
      A transformation whose `update` needs `params` and `value`, the loss at `params`.

    Raises:
      ValueError: an argument is out of its range; at update, parameters or value are missing.
      TypeError: the optimizer or the key has the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def rippled(x):
      ...     return jnp.sum(x**2 + 20 * jnp.sin(jnp.pi * x) ** 2)
      >>> starts = jnp.array([[3.3, -2.8]])
      >>> hopping = jd.basin_hopping(optax.adam(0.05), period=50, jump=1.0)
      >>> plain, hopped = (
      ...     jd.minimize(rippled, tx, init_params=starts, steps=2_000, num_rungs=1).value
      ...     for tx in (optax.adam(0.05), hopping))
      >>> bool(plain > 10), bool(hopped < 0.1)
      (True, True)
    """
    inner = validation.transformation("optimizer", optimizer)
    if not isinstance(period, jax.core.Tracer):
        validation.number_in("period", period, 1, np.inf)
    jump = validation.positive_number("jump", jump)
    start = jax.random.key(0) if key is None else key
    if not (is_key(start) and not start.ndim):
        raise TypeError(
            f"key must be one typed random key, as of jax.random.key, got {validation.shown(start)}"
        )

    def init(params: Any) -> BasinHoppingState:
        validation.check_arrays("params", params)
        return BasinHoppingState(
            inner_state=inner.init(params),
            count=jnp.zeros((), jnp.int32),
            best_params=jax.tree.map(jnp.copy, params),
            best_value=jnp.full((), jnp.inf, widest_float(params)),
            key=jax.random.clone(start),
        )

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, BasinHoppingState]:
        validation.check_params_and_loss(params, value)
        params = containers.params_like(params, updates)
        value = jnp.asarray(value, state.best_value.dtype)
        better = (value < state.best_value) & jnp.isfinite(value)
        best_params = optax.tree.where(better, params, state.best_params)
        # The inner optimizer starts anew where the jump has landed, which bounds may have changed.
        restarts = state.count == 0

        def restart(path: Any, new: jax.Array, old: jax.Array) -> jax.Array:
            # Keys continue: new ones would be equal in all agents and in all periods.
            if is_key(old) or is_raw_key(path, old):
                return old
            return jnp.where(restarts, new.astype(old.dtype), old)

        inner_state = jax.tree_util.tree_map_with_path(
            restart, inner.init(params), state.inner_state
        )
        updates, inner_state = inner.update(updates, inner_state, params, value=value, **extra)
        count = state.count + 1
        jumps = (count >= period) | (~jnp.isfinite(value) & jnp.isfinite(state.best_value))
        next_key, jump_key = jax.random.split(state.key)
        target = _sample_around(jump_key, best_params, jump)

        def jump_to(target: jax.Array, param: jax.Array, update: jax.Array) -> jax.Array:
            return jnp.where(jumps, (target - param).astype(update.dtype), update)

        return jax.tree.map(jump_to, target, params, updates), BasinHoppingState(
            inner_state=inner_state,
            count=jnp.where(jumps, 0, count),
            best_params=best_params,
            best_value=jnp.where(better, value, state.best_value),
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _sample_around(key: jax.Array, center: Any, jump: ArrayLike) -> Any:
    leaves, structure = jax.tree.flatten(center)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        x + jnp.asarray(jump, x.dtype) * jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    )
