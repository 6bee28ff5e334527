"""The state of `self_tuning`, and what it does in a step.

A step is planned as if the batch were usable. Then its outcome is decided: the parameters are
updated; or they return to the average, with a lower learning rate (a restart); or a restart is
completed; or the batch is skipped.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent.numerics import wide_copy, widest_float
from jaxdescent.towers import applied, spaces
from jaxdescent.towers import factory as factories
from jaxdescent.towers.replay.conditional import either
from jaxdescent.towers.tuning.horizon import HorizonState
from jaxdescent.towers.tuning.losses import FEWEST, LossState
from jaxdescent.towers.tuning.measurement import Measurement, inner_product, largest_eps, measure
from jaxdescent.towers.tuning.probe import ProbeState
from jaxdescent.towers.tuning.range_test import GROWTH, ROUNDINGS, RangeTestState
from jaxdescent.towers.tuning.statistics import Spread, Trend
from jaxdescent.towers.tuning.trend import SAFETY, TrendState

HARMFUL, DIVERGED, NOT_FINITE = 1000.0, 3.0, 10.0  # divisors of the learning rate at a restart
LONGEST = 0.01  # update relative to the parameters, beyond which the learning rate does not grow
GROWN = 2.0  # parameters relative to the first ones, from which this does not count
UNUSABLE = 2  # batches in a row that cause a restart


class SelfTuningState(NamedTuple):
    """State of `self_tuning`.

    Attributes:
      inner_state: the state of the factory's transformation.
      average: y, in float32 or wider; during the range test the initial parameters.
      hyperparams: the learning rate, as a coordinate. Read it with `jd.get_hyperparams`.
      range_test: the range test at the start.
      trend: the signal's trend, and the number of steps.
      horizon: the average's number of steps, and two averages at a few coordinates.
      losses: running means of the loss.
      probe: comparison of the loss at the average. While `probe.at_average`, the parameters are
        the average, and `average` holds the parameters.
      update_length: f32[], the length of the last update.
      first_length: f32[], the length of the first parameters.
      returning: bool[], True if the last step restarted, and the next one completes the return.
      unusable: i32[], number of batches in a row with non-finite numbers.
      skipped: i32[], number of batches that were skipped.
      restarts: i32[], number of restarts; the end of the range test is one.
    """

    inner_state: Any
    average: Any
    hyperparams: dict[str, Any]
    range_test: RangeTestState
    trend: TrendState
    horizon: HorizonState
    losses: LossState
    probe: ProbeState
    update_length: jax.Array
    first_length: jax.Array
    returning: jax.Array
    unusable: jax.Array
    skipped: jax.Array
    restarts: jax.Array

    def prefers_params(self) -> jax.Array:
        """Returns bool[], True if the model is better at the parameters than at their average."""
        return self.probe.prefers_params(self.horizon.lags(self.trend.signal.count))


def first_state(factory: factories.Factory, start: spaces.Positive, params: Any) -> SelfTuningState:
    """Returns the state before the first step, with the learning rate `start`."""
    dtype = widest_float(params)

    def number(x: Any = 0.0) -> jax.Array:
        return jnp.full((), x, dtype)

    def flag(x: bool = False) -> jax.Array:
        return jnp.full((), x, bool)

    def count() -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def numbers(kind: Any) -> Any:
        return kind(*(number() for _ in kind._fields))

    hyperparams = {"learning_rate": spaces.clamp(spaces.Positive(number(start.log)))}
    inner_state: Any = factories.build(factory, hyperparams).init(params)
    average = jax.tree.map(wide_copy, params)
    return SelfTuningState(
        inner_state=inner_state,
        average=average,
        hyperparams=hyperparams,
        range_test=RangeTestState(
            running=flag(True),
            count=number(),
            total=number(),
            slope=numbers(Spread),
            loss=numbers(Spread),
            log_gradient=numbers(Spread),
            suspected=flag(),
            false_alarms=number(),
        ),
        trend=TrendState(numbers(Trend), flag(), number(jnp.inf)),
        horizon=HorizonState(
            numbers(Trend)._replace(count=number(-FEWEST)),
            applied.first_sample(params),
            applied.first_sample(params),
        ),
        losses=numbers(LossState)._replace(best=number(jnp.inf)),
        probe=ProbeState(flag(), count(), number(), number(), number(), flag()),
        update_length=number(),
        first_length=jnp.sqrt(inner_product(average, average)),
        returning=flag(),
        unusable=count(),
        skipped=count(),
        restarts=count(),
    )


class Plan(NamedTuple):
    """A step, if the batch is usable.

    Attributes:
      numbers: the state after it, without buffers of the parameters' size.
      weight: f32[], of the parameters in the average.
      harm: bool[], True if training must restart from the average.
      usable: bool[], True if the batch has finite numbers only.
    """

    numbers: SelfTuningState
    weight: jax.Array
    harm: jax.Array
    usable: jax.Array


def plan(state: SelfTuningState, grads: Any, params: Any, value: jax.Array | None) -> Plan:
    """Returns the plan of a step."""
    return either(
        state.range_test.running,
        partial(_search, state, grads, params, value),
        partial(_tune, state, grads, params, value),
    )


def _search(state: SelfTuningState, grads: Any, params: Any, value: jax.Array | None) -> Plan:
    """Returns the plan of a step of the range test."""
    seen = measure(grads, params, state.average, lengths=True)
    visible = _visible(seen, params)
    range_test = state.range_test.including(
        seen, value, state.update_length, visible, state.first_length
    )
    grows = ~range_test.suspected & (seen.gradient_length > 0)
    rate = _changed(state, jnp.where(grows, jnp.log(GROWTH), 0))
    numbers = state._replace(
        inner_state=(),
        average=(),
        hyperparams={"learning_rate": rate},
        range_test=range_test._replace(total=range_test.total + rate.natural()),
    )
    return Plan(numbers, jnp.zeros_like(seen.signal), ~range_test.running, usable(seen, value))


def _tune(state: SelfTuningState, grads: Any, params: Any, value: jax.Array | None) -> Plan:
    """Returns the plan of a step after the range test."""
    seen = measure(grads, params, state.average, lengths=False)
    trend, jumped = state.trend.including(seen.signal)
    x = applied.coordinates(params)
    horizon, weight = state.horizon.including(jumped, x, applied.coordinates(grads))
    losses, diverged = state.losses, jnp.zeros((), bool)
    harmless = jnp.zeros_like(seen.signal)
    probe = state.probe._replace(steps=jnp.zeros_like(state.probe.steps))  # no probes without loss
    if value is not None:
        distance = jnp.max(jnp.abs(x - state.horizon.long), initial=0)
        distance /= jnp.max(jnp.abs(x), initial=jnp.finfo(x.dtype).tiny)
        rounding = max(map(largest_eps, (params, grads)))  # updates have the gradients' dtypes
        probe = state.probe.including(value - state.losses.mean, distance, rounding)
        harmless = losses.harmless(trend.signal.window)
        losses = losses._replace(count=jnp.where(jumped, 0, losses.count)).including(value)
        diverged = losses.has_diverged(seen.signal)
    old, last = state.hyperparams["learning_rate"].log, state.update_length
    too_short = (last > 0) & (last < _visible(seen, params))
    too_long = (last > LONGEST * seen.length) & (seen.length < GROWN * state.first_length)
    change = trend.step(old, harmless, too_long, too_short)
    numbers = state._replace(
        inner_state=(),
        average=(),
        hyperparams={"learning_rate": _changed(state, change)},
        trend=trend.counted(),
        horizon=horizon,
        losses=losses,
        probe=probe,
    )
    return Plan(numbers, weight, diverged, usable(seen, value))


def _changed(state: SelfTuningState, change: jax.Array) -> spaces.Positive:
    """Returns the learning rate after a change of its logarithm."""
    old = state.hyperparams["learning_rate"].log
    return spaces.Positive((old + change).astype(old.dtype)).clamp()


def _visible(seen: Measurement, params: Any) -> jax.Array:
    """Returns the length from which updates are not lost in the rounding of the parameters."""
    return ROUNDINGS * largest_eps(params) * seen.length


def usable(seen: Measurement, value: jax.Array | None) -> jax.Array:
    """Returns bool[], True if a batch has finite numbers only."""
    return seen.finite if value is None else seen.finite & jnp.isfinite(value)


class Outcome(NamedTuple):
    """The outcome of a step, if its update is finite. If no flag is True, the batch is skipped.

    Attributes:
      steps: bool[], True if the parameters are updated.
      restarts: bool[], True if they return to the average, with a lower learning rate.
      returns: bool[], True if this is the second step of a restart.
      divisor: f32[], of the learning rate at a restart.
      unusable: i32[], number of batches in a row with non-finite numbers.
      exchanges: bool[], True if the parameters are exchanged with the average.
    """

    steps: jax.Array
    restarts: jax.Array
    returns: jax.Array
    divisor: jax.Array
    unusable: jax.Array
    exchanges: Any = False


def outcome(state: SelfTuningState, plan: Plan, requested: jax.Array) -> Outcome:
    """Returns the outcome of a step.

    Args:
      state: before the step.
      plan: the step, if the batch is usable.
      requested: bool[], True if the caller asked to skip it.
    """
    running = state.range_test.running
    began = jnp.where(running, state.range_test.total, state.trend.signal.count) > 0
    exchanged = state.probe.at_average
    returning = state.returning | exchanged
    found = decided(state._replace(returning=returning), plan.usable, plan.harm, requested, began)
    known = (state.losses.count > FEWEST) & (state.horizon.lag.count > 0)
    due = found.steps & ~running & known & plan.numbers.probe.is_due()
    return found._replace(
        steps=found.steps & ~due,
        returns=found.returns & ~exchanged,
        divisor=jnp.where(running, HARMFUL, found.divisor),
        exchanges=due | exchanged,
    )


def decided(
    state: Any, usable: jax.Array, harm: jax.Array, requested: jax.Array, began: jax.Array
) -> Outcome:
    """Returns the outcome of a step of any optimizer that restarts.

    Args:
      state: before the step, with `returning` and `unusable`.
      usable: bool[], True if the batch has finite numbers only.
      harm: bool[], True if training must restart.
      requested: bool[], True if the caller asked to skip the batch.
      began: bool[], True if the parameters have moved since the last restart.
    """
    returns = state.returning
    usable &= ~requested
    unusable = state.unusable + (~usable & ~requested)
    lost = (unusable >= UNUSABLE) & began
    restarts = ~returns & (lost | usable & harm)
    return Outcome(
        steps=usable & ~returns & ~restarts,
        restarts=restarts,
        returns=returns,
        divisor=jnp.where(lost, NOT_FINITE, DIVERGED),
        unusable=unusable,
    )


def with_step(plan: Plan, update_length: jax.Array) -> SelfTuningState:
    """Returns the numbers after a step; a step whose update is not finite causes a restart."""
    finite = jnp.isfinite(update_length)
    return plan.numbers._replace(
        update_length=jnp.where(finite, update_length, 0),
        unusable=jnp.where(finite, 0, UNUSABLE).astype(jnp.int32),
    )


def without_step(plan: Plan, state: SelfTuningState, outcome: Outcome) -> SelfTuningState:
    """Returns the numbers after a restart, a return, an exchange or a skipped batch."""
    skipped = jnp.asarray(optax.safe_increment(state.skipped))
    old = state.hyperparams["learning_rate"].log
    lower = spaces.Positive(old - jnp.log(outcome.divisor).astype(old.dtype)).clamp()
    numbers = state._replace(inner_state=(), average=())
    zeros = jax.tree.map(jnp.zeros_like, numbers)
    limit = jnp.where(state.range_test.running, jnp.inf, old - jnp.log(SAFETY))
    restarted = zeros._replace(
        first_length=state.first_length,
        trend=zeros.trend._replace(limit=limit.astype(state.trend.limit.dtype)),
        horizon=zeros.horizon._replace(
            lag=zeros.horizon.lag._replace(count=jnp.full_like(zeros.horizon.lag.count, -FEWEST))
        ),
        hyperparams={"learning_rate": lower},
        range_test=state.range_test._replace(
            running=zeros.range_test.running, suspected=zeros.range_test.suspected
        ),
        losses=zeros.losses._replace(best=jnp.full_like(state.losses.best, jnp.inf)),
        probe=zeros.probe._replace(missed=state.probe.missed),
        returning=jnp.ones_like(state.returning),
        skipped=jnp.where(outcome.unusable > state.unusable, skipped, state.skipped),
        restarts=jnp.asarray(optax.safe_increment(state.restarts)),
    )
    probe = plan.numbers.probe
    # As after a step: a usable batch ends a row of unusable ones.
    unusable = jnp.where(outcome.exchanges & plan.usable, 0, outcome.unusable)
    kept = numbers._replace(
        returning=zeros.returning,
        probe=probe._replace(
            at_average=outcome.exchanges & ~state.probe.at_average,
            steps=jnp.where(outcome.exchanges, probe.steps, state.probe.steps),
        ),
        unusable=jnp.where(outcome.returns, state.unusable, unusable),
        skipped=jnp.where(outcome.returns | outcome.exchanges, state.skipped, skipped),
    )
    return optax.tree.where(outcome.restarts, restarted, kept)
