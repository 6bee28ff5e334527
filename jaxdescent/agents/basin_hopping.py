"""Basin hopping within an agent: descend for a while, then jump away from the best point so far.

    every `period` steps:    x <- x_best + jump * xi,    xi standard normal,

and the optimizer that descends starts afresh, its schedules included, its random keys not.
Nothing but the agent's own past decides where it goes: agents that hop still do not talk to one
another. A rate that falls within each period makes every descent settle, and a jump that is
larger than the next basin is far finds a better one where a gradient sees only ripples.

Sources: D. Wales and J. Doye 1997, arXiv:cond-mat/9803344 (basin hopping); R. Leary 2000
(jumps from the best point only); I. Loshchilov and F. Hutter 2017, arXiv:1608.03983 (rates that
restart).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.population import is_key


class BasinHoppingState(NamedTuple):
    """Attributes of an agent that hops.

    Attributes:
      inner_state: of the optimizer that descends.
      count: i32[], steps since the last jump.
      best_params: where the least value was seen.
      best_value: f[], that value; inf before the first.
      key: from which jumps are drawn; a population gives each agent its own.
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
    """Descent that jumps away from its best point every so many steps, and starts afresh there.

    Args:
      optimizer: that descends between jumps.
      period: steps from one jump to the next, at least 1; the last of them is the jump.
      jump: standard deviation of each coordinate of a jump, in units of the parameters.
      key: draws jumps, of the typed kind; by default `jax.random.key(0)`.

    Returns:
      A transformation whose `update` needs `params` and `value`, the loss there.

    Raises:
      ValueError: an argument is out of its range; at update, parameters or value are missing.
      TypeError: the optimizer or the key is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def rippled(x):
      ...     return jnp.sum(x**2 + 20 * jnp.sin(jnp.pi * x) ** 2)
      >>> starts = jnp.array([[3.3, -2.8]])
      >>> hopping = jd.basin_hopping(optax.adam(0.05), period=50, jump=1.0)
      >>> plain, hopped = (
      ...     jd.minimize(rippled, tx, init_params=starts, steps=2_000, rung=2_000).value
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
        raise TypeError(f"key must be one key of the typed kind, of jax.random.key, got {start!r}")

    def init(params: Any) -> BasinHoppingState:
        leaves = jax.tree.leaves(params)
        dtype = jnp.float64 if any(x.dtype == jnp.float64 for x in leaves) else jnp.float32
        return BasinHoppingState(
            inner_state=inner.init(params),
            count=jnp.zeros((), jnp.int32),
            best_params=jax.tree.map(jnp.copy, params),
            best_value=jnp.full((), jnp.inf, dtype),
            key=jax.random.clone(start),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, BasinHoppingState]:
        if params is None or value is None:
            raise ValueError("update must be given params and value, got None")
        value = jnp.asarray(value, state.best_value.dtype)
        better = (value < state.best_value) & jnp.isfinite(value)
        keep = lambda new, old: jnp.where(better, new, old)
        best_params = jax.tree.map(keep, params, state.best_params)
        updates, inner_state = inner.update(
            updates, state.inner_state, params, value=value, **extra
        )
        count = state.count + 1
        jumps = count >= period
        after, draw = jax.random.split(state.key)
        landed = _around(draw, best_params, jump)
        choose = lambda new, old: jnp.where(jumps, new.astype(old.dtype), old)
        updates = jax.tree.map(lambda x, p, u: choose(x - p, u), landed, params, updates)
        # Keys go on: afresh they would be every agent's, and draw the same in each period.
        afresh = lambda new, old: old if is_key(old) else choose(new, old)
        return updates, BasinHoppingState(
            inner_state=jax.tree.map(afresh, inner.init(landed), inner_state),
            count=jnp.where(jumps, 0, count),
            best_params=best_params,
            best_value=keep(value, state.best_value),
            key=after,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _around(key: jax.Array, center: Any, jump: ArrayLike) -> Any:
    leaves, structure = jax.tree.flatten(center)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        x + jnp.asarray(jump, x.dtype) * jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    )
