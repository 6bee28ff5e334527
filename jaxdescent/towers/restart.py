"""Restarts any optimizer when training diverges.

    S      = <g, x - y>                  signal
    x      <- x + s u                    u = the optimizer's update
    y      <- y + c (x - y)              c = (p + 1) / (n + p), n = steps since the last restart

To first order, S is how much worse the parameters x are than their average y. Training has diverged
if the running mean of the loss has risen too far above its lowest value, and S explains the rise
(`tuning/losses.py`). The second condition tells divergence from a loss that changes for other
reasons. Then the parameters return to y, the optimizer is initialized again, and its learning rate
is divided by `DIVERGED`; if numbers are not finite, by `NOT_FINITE`. Where a tower tunes the
learning rate, its coordinate is lowered; otherwise the scale s of the updates. A restart takes two
updates: the second removes the rounding error of the first.

The running mean needs `FEWEST` losses. Until then training has diverged if the loss has risen above
the first one by more than `RISE` times its size, S explains the rise, and S exceeds the largest
|<g, u>|, the decrease that an update promised to first order. The last condition holds for noise
only if there are few parameters. Without this rule, y is lost before the running mean is known.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import is_inexact, wide_copy, widest_float
from jaxdescent.towers import spaces
from jaxdescent.towers.factory import cast_like, strong
from jaxdescent.towers.replay.conditional import computed_once, either
from jaxdescent.towers.tower import HypergradientState, wrapper
from jaxdescent.towers.tuning import plans
from jaxdescent.towers.tuning.buffers import Buffers, averaged, checked_params, stay, to_average
from jaxdescent.towers.tuning.horizon import POWER
from jaxdescent.towers.tuning.losses import EXPLAINED, FEWEST, LossState
from jaxdescent.towers.tuning.measurement import inner_product, length, measure

RISE = 2.0  # times the first loss


class RestartState(NamedTuple):
    """State of `restart_on_divergence`.

    Attributes:
      inner_state: the transformation's state.
      average: y, the average of the parameters since the last restart, in float32 or wider.
      count: f32[], number of steps since the last restart.
      losses: running means of the loss.
      promised: f32[], the largest |<g, u>| of the first steps, until the running mean counts.
      scale: f32[], the factor of the updates. It stays 1 if a tower inside tunes `learning_rate` in
        the positive space.
      returning: bool[], True if the last step restarted, and the next one completes the return.
      unusable: i32[], number of batches in a row with non-finite numbers.
      skipped: i32[], number of batches that were skipped.
      restarts: i32[], number of restarts.
    """

    inner_state: Any
    average: Any
    count: jax.Array
    losses: LossState
    promised: jax.Array
    scale: jax.Array
    returning: jax.Array
    unusable: jax.Array
    skipped: jax.Array
    restarts: jax.Array


def restart_on_divergence(
    tx: optax.GradientTransformation, /
) -> optax.GradientTransformationExtraArgs:
    """Restarts an optimizer with a lower learning rate when training diverges.

    A restart returns to the average of the parameters. The state holds it, as for
    `jd.with_average`, in one buffer of the parameters' size. Other state of the model does not
    return: see `jd.reestimate_statistics`. The optimizer is initialized again, so that schedules
    begin again, too. A learning rate at which the loss stays high, but does not rise, is not
    lowered.

    Args:
      tx: a transformation. The learning rate of towers inside that tune `learning_rate` in the
        positive space, as numbers for all leaves or for each, is lowered. The updates of all other
        transformations are scaled by `state.scale`.

    Returns:
      A transformation with a `jd.RestartState`. `update(grads, state, params, *, value=None,
      skip=None, **extra)` needs the parameters. `value` is the loss whose gradients are `grads`.
      Without it, training restarts only if numbers are not finite. A batch is skipped if its loss
      or its gradient is not finite, or if `skip` is True; two non-finite batches in a row cause a
      restart, and so does an update that is not finite. Put clipping and other transformations
      inside `tx`: a step that is not the returned update does not reach the average.
      `jd.averaged_params(state, params)` reads the average.

    Raises:
      TypeError: `tx` is not a transformation.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx, x = jd.restart_on_divergence(optax.sgd(30.0)), jnp.ones(4)
      >>> state = tx.init(x)
      >>> for _ in range(40):
      ...     value, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(x)
      ...     updates, state = tx.update(grads, state, x, value=value)
      ...     x = optax.apply_updates(x, updates)
      >>> int(state.restarts), round(1 / float(state.scale)), bool(value < 0.1)
      (4, 81, True)
    """
    inner = validation.transformation("tx", tx)

    def init(params: Any) -> RestartState:
        validation.check_arrays("params", params)
        dtype = widest_float(params)

        def number(x: float = 0.0) -> jax.Array:
            return jnp.full((), x, dtype)

        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return RestartState(
            inner_state=jax.tree.map(strong, inner.init(params)),
            average=jax.tree.map(wide_copy, params),
            count=number(),
            losses=LossState(*(number() for _ in LossState._fields)),
            promised=number(),
            scale=number(1.0),
            returning=jnp.zeros((), bool),
            unusable=count(),
            skipped=count(),
            restarts=count(),
        )

    @compile_eager_calls
    def update(
        grads: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        skip: Any = None,
        **extra: Any,
    ) -> tuple[Any, RestartState]:
        params = checked_params(params, grads, value)
        requested = validation.scalar_boolean("skip", skip)
        seen = measure(grads, params, state.average, lengths=False)
        losses, diverged = state.losses, jnp.zeros((), bool)
        if value is not None:
            extra = {**extra, "value": value}
            value = jnp.asarray(value, state.scale.dtype)
            losses = losses.including(value)
            diverged = _has_diverged(state, losses, value, seen.signal)
        usable = plans.usable(seen, value)
        outcome = plans.decided(state, usable, diverged, requested, state.count > 0)
        steps = computed_once(outcome.steps)

        def step() -> Buffers:
            u, inner_state = inner.update(grads, state.inner_state, params, **extra)
            u = cast_like(jax.tree.map(partial(_scaled, state.scale), u), params)
            weight = (POWER + 1) / (state.count + 1 + POWER)
            average = jax.tree.map(partial(averaged, steps, weight), state.average, params)
            inner_state = cast_like(inner_state, state.inner_state)
            return Buffers(u, inner_state, average, length(u, params))

        buffers = either(steps, step, partial(stay, steps, params, state))
        divisor = jnp.where(outcome.restarts, outcome.divisor, 1).astype(state.scale.dtype)

        def first_state(y: Any) -> Any:
            return _with_lower_rates(inner.init(y), buffers.inner_state, divisor)

        finite = jnp.isfinite(buffers.update_length)
        back = computed_once(outcome.restarts | outcome.returns | ~finite)
        updates, inner_state = either(
            back,
            partial(to_average, first_state, back, buffers, params),
            lambda: (buffers.updates, buffers.inner_state),
        )

        def promise() -> jax.Array:
            return jnp.abs(inner_product(grads, buffers.updates))

        promised = either(
            steps & (state.count < FEWEST),
            lambda: jnp.maximum(state.promised, promise().astype(state.promised.dtype)),
            lambda: state.promised,
        )
        new = _after(state._replace(promised=promised), outcome, losses, finite)
        if not _learned_rates(state.inner_state):
            lower = jnp.maximum(state.scale / divisor, jnp.finfo(divisor.dtype).tiny)
            new = new._replace(scale=lower)
        return updates, new._replace(inner_state=inner_state, average=buffers.average)

    return wrapper(inner, init, update)


def _has_diverged(
    state: RestartState, losses: LossState, value: jax.Array, signal: jax.Array
) -> jax.Array:
    """Returns bool[], True if training has diverged; `losses` include the present one."""
    rise = value - losses.first
    early = (state.count < FEWEST) & (rise > RISE * jnp.abs(losses.first))
    early &= (signal > EXPLAINED * rise) & (signal > state.promised)
    return early | losses.has_diverged(signal)


def _scaled(scale: jax.Array, update: jax.Array) -> jax.Array:
    return scale * update if is_inexact(update) else update


def _after(
    state: RestartState, outcome: plans.Outcome, losses: LossState, finite: jax.Array
) -> RestartState:
    """Returns the numbers after a step; one whose update is not finite causes a restart next."""
    stepped = state._replace(
        count=state.count + 1,
        losses=losses,
        unusable=jnp.where(finite, 0, plans.UNUSABLE).astype(jnp.int32),
    )
    kept = state._replace(
        promised=jnp.where(outcome.restarts, 0, state.promised),
        count=jnp.where(outcome.restarts, 0, state.count),
        losses=state.losses._replace(count=jnp.where(outcome.restarts, 0, state.losses.count)),
        returning=outcome.restarts,
        unusable=jnp.where(outcome.restarts | outcome.returns, 0, outcome.unusable),
        skipped=jnp.asarray(optax.safe_increment(state.skipped)),
        restarts=state.restarts + outcome.restarts,
    )
    is_skip = ~outcome.returns & (~outcome.restarts | (outcome.unusable > state.unusable))
    kept = kept._replace(skipped=jnp.where(is_skip, kept.skipped, state.skipped))
    numbers = [s._replace(inner_state=(), average=()) for s in (stepped, kept)]
    return optax.tree.where(outcome.steps, *numbers)


def _learned_rates(inner_state: Any) -> list[HypergradientState]:
    """Returns the states of towers that tune `learning_rate` in the positive space."""
    nodes = jax.tree.leaves(inner_state, is_leaf=_learns_rate)
    return [node for node in nodes if _learns_rate(node)]


def _learns_rate(node: Any) -> bool:
    if not isinstance(node, HypergradientState):
        return False
    rate = node.hyperparams.get("learning_rate")
    return isinstance(rate.space if isinstance(rate, spaces.PerLeaf) else rate, spaces.Positive)


def _with_lower_rates(fresh: Any, old: Any, divisor: jax.Array) -> Any:
    """Returns a first state with the learning rates of towers lowered, and their counters kept."""

    def lower(new: Any, old: Any) -> Any:
        if not _learns_rate(new):
            return new
        rate = jax.tree.map(
            lambda log: log - jnp.log(divisor).astype(log.dtype), old.hyperparams["learning_rate"]
        )
        return new._replace(
            hyperparams={**new.hyperparams, "learning_rate": spaces.clamp(rate)},
            skipped=old.skipped,
            masked=old.masked,
            rejected=old.rejected,
            altered=old.altered,
        )

    return jax.tree.map(lower, cast_like(fresh, old), old, is_leaf=_learns_rate)
