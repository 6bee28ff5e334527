"""Training without choosing a learning rate.

    S      = <g, x - y>                       signal
    log a  <- log a - k (t(S) - tau) / n      learning rate; t(S) is mean(S) / rms(S)
    x      <- x + u                           u = a d, where the factory makes u from g
    y      <- y + c (x - y)                   average of the last part of the path

The average y of the parameters x serves three purposes: the model is evaluated there, restarts
return to it, and the signal is measured against it. It is the only buffer of the parameters' size.

- Signal. x - y is a discounted sum of the last updates, so that S is, to first order, the change of
  the loss if all updates since about the horizon of the average were longer: a hypergradient of the
  log learning rate over that horizon. If S < 0, the loss still falls in the direction of the last
  updates, and the learning rate should grow. If S > 0, x is worse than y: noise or oscillation
  dominates, and the learning rate should fall. The signal of one step, <g, u>, falls for as long as
  the loss is noisy (short-horizon bias: Wu et al. 2018); over the horizon of the average this bias
  is small. S sees momentum. It needs neither the last update nor a derivative of the factory. It
  uses parameters as they are, so that it also sees transformations after this one in a chain.
- Growth is blocked while the last update is longer than a share of the parameters.
- Start. A range test finds the initial learning rate (`tuning/range_test.py`): it starts far too
  low and grows until a step does harm. Then the parameters return to the start, and training begins
  with a small part of the harmful learning rate.
- Horizon. If the average lags behind a moving target, its horizon shrinks (`tuning/horizon.py`);
  if the target jumps, the average begins again (`tuning/trend.py`).
- Restarts. If the loss shows that training has diverged (`tuning/losses.py`), the parameters return
  to the average, and the learning rate is divided by `DIVERGED`; if numbers are not finite, by
  `NOT_FINITE`. The optimizer is initialized again. A restart takes two updates: the second removes
  the rounding error of the first.

Source: the average is O. Shamir, T. Zhang 2013, arXiv:1212.1824; hypergradients A. G. Baydin et al.
2018, arXiv:1703.04782; their bias Y. Wu et al. 2018, arXiv:1803.02021. The signal is ours. Its
constants were chosen on the development tasks of `python -m experiments sensitivity`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import is_inexact, wide_copy, widest_float
from jaxdescent.towers import applied, spaces
from jaxdescent.towers import factory as factories
from jaxdescent.towers.replay.conditional import either
from jaxdescent.towers.spec import check_factory
from jaxdescent.towers.tuning.horizon import HorizonState, coordinates
from jaxdescent.towers.tuning.losses import LossState
from jaxdescent.towers.tuning.measurement import Measurement, largest_eps, length, measure
from jaxdescent.towers.tuning.range_test import GROWTH, ROUNDINGS, RangeTestState
from jaxdescent.towers.tuning.statistics import Spread, Trend
from jaxdescent.towers.tuning.trend import TrendState

FIRST, HIGHEST_FIRST = 1e-6, 1e-9  # of the guess, and absolute: where the range test begins
HARMFUL, DIVERGED, NOT_FINITE = 1000.0, 3.0, 10.0  # divisors of the learning rate at a restart
LONGEST = 0.05  # update relative to the parameters, beyond which the learning rate does not grow


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
      update_length: f32[], the length of the last update.
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
    update_length: jax.Array
    returning: jax.Array
    unusable: jax.Array
    skipped: jax.Array
    restarts: jax.Array


class SelfTuning(optax.GradientTransformationExtraArgs):
    """The transformation that `self_tuning` returns.

    Attributes:
      factory: makes the transformation whose learning rate is tuned.
      start: coordinate at which the range test begins.
    """

    factory: factories.Factory
    start: spaces.Positive

    def _replace(self, **functions: Any) -> "SelfTuning":
        replaced = super()._replace(**functions)
        replaced.factory, replaced.start = self.factory, self.start
        return replaced


def first_rate(guess: Any) -> Any:
    """Returns the learning rate at which the range test begins, for a guess of the best one."""
    return jnp.minimum(FIRST * guess, HIGHEST_FIRST)


def self_tuning(
    factory: factories.Factory,
    /,
    *,
    learning_rate: Any = 1e-3,
    extra_args: Mapping[str, Any] | None = None,
) -> SelfTuning:
    """Returns an optimizer that needs no choice of learning rate.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation: `optax.adam`,
        `functools.partial(optax.sgd, momentum=0.9)`, or a function that builds a chain.
      learning_rate: a guess, in (0, inf). The range test at the start begins at a millionth of it,
        and not above 1e-9; a low guess costs a few steps, and a guess above 1e-3 changes nothing.
        `jd.set_hyperparams` before the first update sets the learning rate itself, and there is no
        range test.
      extra_args: examples of arrays that the factory's update reads, in addition to `value`; the
        factory is checked with them.

    Returns:
      A transformation with a `jd.SelfTuningState`. `update(grads, state, params, *, value=None,
      skip=None, **extra)` needs the parameters. `value` is the loss whose gradients are `grads`.
      Without it, training that diverges restarts only if numbers are not finite, and the range test
      judges steps by their gradients alone. A batch is skipped if its loss or its gradient is not
      finite, or if `skip` is True; two non-finite batches in a row cause a restart. Evaluate the
      model at `jd.averaged_params(state, params)`. The end of the range test and restarts return
      the parameters, but not other state of the model: with BatchNorm, evaluate with
      `jd.reestimate_statistics`, which computes statistics at the averaged parameters. In addition
      to the factory's state, the state holds the average, one buffer of the parameters' size.

    Raises:
      TypeError: `factory` is not a callable that returns a transformation.
      ValueError: `learning_rate` is out of range, or not a keyword of the factory; or the factory
        cannot be called with it alone, or branches in Python on its value.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.self_tuning(optax.adam)
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> def step(carry, _):
      ...     x, state = carry
      ...     value, grads = jax.value_and_grad(loss)(x)
      ...     updates, state = tx.update(grads, state, x, value=value)
      ...     return (optax.apply_updates(x, updates), state), None
      >>> x = jnp.zeros(4)
      >>> (x, state), _ = jax.lax.scan(step, (x, tx.init(x)), length=300)
      >>> bool(loss(jd.averaged_params(state, x)) < 1e-3)
      True
    """
    if np.ndim(learning_rate):
        raise ValueError(f"learning_rate must be a number, got {learning_rate!r}")
    factory = validation.factory("factory", factory)
    guess = spaces.Positive.at("learning_rate", learning_rate)
    start = spaces.Positive(jnp.log(first_rate(jnp.exp(guess.log))))
    check_factory(factory, {"learning_rate": guess}, extra_args)

    def init(params: Any) -> SelfTuningState:
        validation.check_arrays("params", params)
        return _first_state(factory, start, params)

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        skip: Any = None,
        **extra: Any,
    ) -> tuple[Any, SelfTuningState]:
        params = _checked_params(params, updates, value)
        requested = validation.scalar_boolean("skip", skip)
        if value is not None:
            extra = {**extra, "value": value}
            value = jnp.asarray(value, state.update_length.dtype)
        running = state.range_test.running
        plan = either(
            running,
            partial(_search, state, updates, params, value),
            partial(_tune, state, updates, params, value),
        )
        outcome = _outcome(state, plan, requested)
        steps = outcome.index == STEP

        def step() -> tuple[Any, SelfTuningState, jax.Array]:
            tx = factories.build(factory, plan.numbers.hyperparams)
            u, inner_state = tx.update(updates, state.inner_state, params, **extra)
            u = jax.lax.optimization_barrier(u)  # XLA would store it twice
            moved = length(u, params)
            lost = ~jnp.isfinite(moved)
            numbers = plan.numbers._replace(
                update_length=jnp.where(lost, 0, moved),
                unusable=jnp.where(lost, UNUSABLE, 0).astype(jnp.int32),
            )
            averaging = _averaging(~running, plan.weight)
            average = jax.tree.map(averaging, state.average, params)
            return u, numbers._replace(inner_state=inner_state, average=average), lost

        def stay() -> tuple[Any, SelfTuningState, jax.Array]:
            numbers = _numbers_without_step(state, outcome)
            # Without the condition, XLA makes one array of zeros, and copies it.
            u = jax.tree.map(lambda g: jnp.where(steps, g, jnp.zeros_like(g)), updates)
            return u, numbers, outcome.index != SKIP

        updates, state, back = either(steps, step, stay)

        def go_on() -> tuple[Any, Any]:
            return updates, state.inner_state

        def go_back() -> tuple[Any, Any]:
            y = factories.cast_like(state.average, params)
            fresh = factories.build(factory, state.hyperparams).init(y)
            fresh = optax.tree.where(back, fresh, state.inner_state)
            changes = jax.tree.map(lambda y, x, u: (y - x).astype(u.dtype), y, params, updates)
            return changes, fresh

        updates, inner_state = either(back, go_back, go_on)
        return updates, state._replace(inner_state=inner_state)

    tx = SelfTuning(init, update)
    tx.factory, tx.start = factory, start
    return tx


def _first_state(
    factory: factories.Factory, start: spaces.Positive, params: Any
) -> SelfTuningState:
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
    return SelfTuningState(
        inner_state=inner_state,
        average=jax.tree.map(wide_copy, params),
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
        trend=TrendState(numbers(Trend), flag()),
        horizon=HorizonState(
            numbers(Trend), applied.first_sample(params), applied.first_sample(params)
        ),
        losses=numbers(LossState)._replace(best=number(jnp.inf)),
        update_length=number(),
        returning=flag(),
        unusable=count(),
        skipped=count(),
        restarts=count(),
    )


def _checked_params(params: Any, updates: Any, value: Any) -> Any:
    if params is None:
        raise ValueError("update(grads, state, params) needs params, which are averaged")
    if jnp.shape(value if value is not None else 0):
        raise ValueError(f"value must be a scalar, got shape {jnp.shape(value)}")
    return containers.params_like(params, updates)


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


def _search(state: SelfTuningState, grads: Any, params: Any, value: jax.Array | None) -> Plan:
    """Returns the plan of a step of the range test."""
    seen = measure(grads, params, state.average, lengths=True)
    rounding = ROUNDINGS * largest_eps(params)
    range_test = state.range_test.including(
        seen, value, state.update_length, rounding * seen.length
    )
    grows = ~range_test.suspected & (seen.gradient_length > 0)
    rate = _changed(state, jnp.where(grows, jnp.log(GROWTH), 0))
    numbers = state._replace(
        inner_state=(),
        average=(),
        hyperparams={"learning_rate": rate},
        range_test=range_test._replace(total=range_test.total + rate.natural()),
    )
    return Plan(numbers, jnp.zeros_like(seen.signal), ~range_test.running, _usable(seen, value))


def _tune(state: SelfTuningState, grads: Any, params: Any, value: jax.Array | None) -> Plan:
    """Returns the plan of a step after the range test."""
    seen = measure(grads, params, state.average, lengths=False)
    trend, jumped = state.trend.including(seen.signal)
    horizon, weight = state.horizon.including(jumped, coordinates(params), coordinates(grads))
    losses, diverged = state.losses, jnp.zeros((), bool)
    if value is not None:
        losses = losses.including(value, trend.signal.count)
        diverged = losses.has_diverged(seen.signal, trend.signal.count)
    change = trend.step()
    long = state.update_length > LONGEST * seen.length
    numbers = state._replace(
        inner_state=(),
        average=(),
        hyperparams={
            "learning_rate": _changed(state, jnp.where(long, jnp.minimum(change, 0), change))
        },
        trend=trend.counted(),
        horizon=horizon,
        losses=losses,
    )
    return Plan(numbers, weight, diverged, _usable(seen, value))


def _changed(state: SelfTuningState, change: jax.Array) -> spaces.Positive:
    """Returns the learning rate after a change of its logarithm."""
    old = state.hyperparams["learning_rate"].log
    return spaces.Positive((old + change).astype(old.dtype)).clamp()


def _usable(seen: Measurement, value: jax.Array | None) -> jax.Array:
    return seen.finite if value is None else seen.finite & jnp.isfinite(value)


STEP, RESTART, RETURN, SKIP = range(4)
"""Outcomes of a step; `RETURN` is the second step of a restart."""


class Outcome(NamedTuple):
    """The outcome of a step, if its update is finite.

    Attributes:
      index: i32[], one of `STEP`, `RESTART`, `RETURN` and `SKIP`.
      divisor: f32[], of the learning rate at a restart.
      unusable: i32[], number of batches in a row with non-finite numbers.
    """

    index: jax.Array
    divisor: jax.Array
    unusable: jax.Array


UNUSABLE = 2  # batches in a row that cause a restart


def _outcome(state: SelfTuningState, plan: Plan, requested: jax.Array) -> Outcome:
    """Returns the outcome of a step.

    Args:
      state: before the step.
      plan: the step, if the batch is usable.
      requested: bool[], True if the caller asked to skip it.
    """
    running = state.range_test.running
    usable = plan.usable & ~requested
    unusable = state.unusable + (~usable & ~requested)
    began = jnp.where(running, state.range_test.total, state.trend.signal.count) > 0
    lost = (unusable >= UNUSABLE) & began
    restart = lost | usable & plan.harm
    index = jnp.where(restart, RESTART, jnp.where(usable, STEP, SKIP))
    divisor = jnp.where(lost, NOT_FINITE, DIVERGED)
    return Outcome(
        index=jnp.where(state.returning, RETURN, index).astype(jnp.int32),
        divisor=jnp.where(running, HARMFUL, divisor),
        unusable=unusable,
    )


def _numbers_without_step(state: SelfTuningState, outcome: Outcome) -> SelfTuningState:
    """Returns the state after a restart, a return, or a skipped batch, with the old average."""
    skipped = jnp.asarray(optax.safe_increment(state.skipped))
    old = state.hyperparams["learning_rate"].log
    lower = spaces.Positive(old - jnp.log(outcome.divisor).astype(old.dtype)).clamp()
    numbers = state._replace(inner_state=(), average=())
    zeros = jax.tree.map(jnp.zeros_like, numbers)
    restarted = zeros._replace(
        hyperparams={"learning_rate": lower},
        range_test=state.range_test._replace(
            running=zeros.range_test.running, suspected=zeros.range_test.suspected
        ),
        losses=zeros.losses._replace(best=jnp.full_like(state.losses.best, jnp.inf)),
        returning=jnp.ones_like(state.returning),
        skipped=jnp.where(outcome.unusable > state.unusable, skipped, state.skipped),
        restarts=jnp.asarray(optax.safe_increment(state.restarts)),
    )
    returned = numbers._replace(returning=zeros.returning)
    passed = numbers._replace(unusable=outcome.unusable, skipped=skipped)
    found = jax.tree.map(partial(jax.lax.select_n, outcome.index - 1), restarted, returned, passed)
    return found._replace(inner_state=state.inner_state, average=state.average)


def _averaging(going: jax.Array, weight: jax.Array) -> Any:
    """Returns a function of an average and a parameter: the average after the step."""

    def step(y: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, y.dtype)
        new = y + weight.astype(y.real.dtype) * (x - y) if is_inexact(y) else x
        return jnp.where(going, new, y)

    return step
