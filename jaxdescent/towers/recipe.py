"""A recipe for training without choosing a learning rate.

    log a  <- log a + step(<g, u>)      the tower: one-step signal, log space
    x      <- x + u                     u = a d, whatever the factory makes of g
    y      <- y + c_t (x - y)           the average of the last part of the path

Three things are put around a tower of height 1.

A step (`agreement`) that does not depend on the loss's scale: it multiplies a rate that is
far too low by exp(0.35) a step and settles, slower and slower, where batches disagree. The
one-step signal alone makes rates fall for as long as the loss is noisy (short-horizon bias:
Wu et al. 2018); slower hyper-steps and the average below take the place of a longer signal.

A probation, against starts that are too high. What a huge first step spoils no later rate
mends, but a rate that grows from below stops by itself. So the first steps of an attempt are
on trial: if, to first order, they have raised the loss (sum of <g, u> above zero), the
parameters go back to where the attempt began, the optimizer starts afresh and the rate is
divided by 100. Later, a running mean of the loss that climbs back over half of what was won
leads back to the average, with a third of the rate; but only if the moves explain the climb,
again to first order, for a loss that drifts by itself is no fault of the rate. The way back
takes two steps, since the difference to where it leads is rounded.

An average of the path, weighted by a polynomial (Shamir and Zhang), for evaluation: what
remains of noise at a constant rate, it removes, as a schedule's last part would, without
having to know when training ends. It is the only place to go back to, too: one buffer.

Source: the signal is K. Chandra et al. 2022, arXiv:1909.13371 (for one rate, A. G. Baydin
et al. 2018, arXiv:1703.04782); its bias Y. Wu et al. 2018, arXiv:1803.02021; the average
O. Shamir, T. Zhang 2013, arXiv:1212.1824. The trial and the step's acceleration are ours;
their constants were chosen on the digits and MNIST of `experiments sensitivity`, with a look
at characters of War and Peace, which are none of its tasks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent.numerics import all_finite
from jaxdescent.towers import building, spaces
from jaxdescent.towers.agreement import scale_by_agreement
from jaxdescent.towers.replay import where
from jaxdescent.towers.tower import HypergradientState, hypergradient

TRIAL_STEPS = 6  # steps
SEVERE_DIVISOR, MILD_DIVISOR = 100.0, 3.0  # divisors of the rate
ATTEMPTS = 8  # in a row; then the trial is given up, for nothing is learned from it
WINDOW = 10  # steps, of the running mean
POWER = 5.0  # of the average's weights: its last 1 / 6 counts for most


class SelfTuningState(NamedTuple):
    """What `self_tuning` carries.

    Attributes:
      tower: the tower's state, which `jd.get_hyperparams` reads.
      average: the average of the parameters since the attempt began; where to go back to.
      since: i32[], steps of this attempt.
      first_value: f32[], the attempt's first loss.
      value: f32[], the running mean of the loss.
      noise: f32[], the running mean of the loss's distance from it.
      best_value: f32[], the least running mean, with the noise at that time.
      best_noise: f32[].
      best_rise: f32[], the sum of <g, u> at that time.
      returning: bool[]; whether the last step led back, and one more is needed.
      failures: i32[], attempts in a row that did not pass the trial.
      unusable: i32[], steps in a row with a number that was not finite.
      restarts: i32[], how often it went back.
    """

    tower: HypergradientState
    average: Any
    since: jax.Array
    first_value: jax.Array
    value: jax.Array
    noise: jax.Array
    best_value: jax.Array
    best_noise: jax.Array
    best_rise: jax.Array
    returning: jax.Array
    failures: jax.Array
    unusable: jax.Array
    restarts: jax.Array


def self_tuning(
    factory: building.Factory,
    /,
    *,
    learning_rate: Any = 1e-3,
    extra_args: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer without a learning rate to choose.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation, as
        for `jd.hypergradient`: `optax.adam`, `functools.partial(optax.sgd, momentum=0.9)`.
      learning_rate: where the rate starts, in (0, inf); the first update uses it. From
        1e-8 to 1e2 it should not matter (`python -m experiments sensitivity`).
      extra_args: examples of arrays that the factory's update reads; see `jd.hypergradient`.

    Returns:
      A transformation. `update(grads, state, params, *, value, **extra)` needs the
      parameters and the loss `value` that the gradients are of. Evaluate the model at
      `jd.averaged_params(state, params)`. The state holds the average, one buffer like the
      parameters, beside the tower's.

    Raises:
      TypeError, ValueError: as `jd.hypergradient` does.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.self_tuning(optax.adam, learning_rate=1e-8)
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
    start = spaces.Positive.at("learning_rate", learning_rate)
    tower = hypergradient(
        factory,
        scale_by_agreement(),
        tune={"learning_rate": start},
        extra_args=extra_args,
    )

    def init(params: Any) -> SelfTuningState:
        state: Any = tower.init(params)
        dtype = state.hyperparams["learning_rate"][0].dtype
        number = lambda x=0.0: jnp.full((), x, dtype)
        count = lambda: jnp.zeros((), jnp.int32)
        return SelfTuningState(
            tower=state,
            average=jax.tree.map(_wide_copy, params),
            since=count(),
            first_value=number(),
            value=number(),
            noise=number(),
            best_value=number(jnp.inf),
            best_noise=number(),
            best_rise=number(),
            returning=jnp.zeros((), bool),
            failures=count(),
            unusable=count(),
            restarts=count(),
        )

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, SelfTuningState]:
        _check_given(params, value)
        value = jnp.asarray(value, state.value.dtype)
        # A batch whose loss is not finite is a bad one, which the tower skips and counts.
        bad = ~jnp.isfinite(value)
        grads = jax.tree.map(lambda g: jnp.where(bad, jnp.full_like(g, jnp.nan), g), updates)
        made: Any = tower.update(grads, state.tower, params, value=value, **extra)
        updates, moved = made
        spoiled = moved.skipped > state.tower.skipped
        rise = moved.hyper_state.total["learning_rate"][0]
        seen = where(spoiled, state, _watch(state, value, rise))
        seen = seen._replace(unusable=jnp.where(spoiled, state.unusable + 1, 0))
        severe, mild = _verdict(seen, rise)
        severe |= ~all_finite(jax.tree.map(jnp.add, params, updates))  # no way leads back
        anew = (severe | mild) & ~state.returning

        passed = seen.since > TRIAL_STEPS
        going = seen._replace(
            tower=moved,
            average=where(passed & ~spoiled, _averaged(seen, params), state.average),
            failures=jnp.where(passed, 0, seen.failures),
        )
        back = seen._replace(
            tower=_afresh(
                tower.init(params), moved, jnp.where(severe, SEVERE_DIVISOR, MILD_DIVISOR)
            ),
            since=jnp.zeros_like(seen.since),
            best_value=jnp.full_like(seen.best_value, jnp.inf),
            returning=jnp.ones_like(seen.returning),
            failures=jnp.where(severe, optax.safe_increment(seen.failures), 0),
            unusable=jnp.zeros_like(seen.unusable),
            restarts=optax.safe_increment(seen.restarts),
        )
        arrived = state._replace(returning=jnp.zeros_like(state.returning))
        home = jax.tree.map(lambda y, x: y.astype(x.dtype) - x, state.average, params)
        updates = where(anew | state.returning, home, updates)
        return updates, where(state.returning, arrived, where(anew, back, going))

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(state: Any, params: Any, /) -> Any:
    """The average of the path, at which to evaluate a model that `self_tuning` trains.

    Args:
      state: the state, or any tree that holds one.
      params: the parameters, whose dtypes the average is given.

    Raises:
      ValueError: there is no such state in `state`, or more than one.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx, x = jd.self_tuning(optax.adam), jnp.ones(2)
      >>> jd.averaged_params(tx.init(x), x)
      Array([1., 1.], dtype=float32)
    """
    is_state = lambda node: isinstance(node, SelfTuningState)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_state) if is_state(node)]
    if len(found) != 1:
        raise ValueError(f"state must hold one state of jd.self_tuning, got {len(found)}")
    masked_out = lambda node: isinstance(node, optax.MaskedNode)
    here = lambda y, x: x if masked_out(y) else building.cast_like(y, x)
    return jax.tree.map(here, found[0].average, params, is_leaf=masked_out)


def _check_given(params: Any, value: Any) -> None:
    if params is None or value is None:
        missing = "params" if params is None else "value=, the loss that the gradients are of"
        raise ValueError(f"update(grads, state, params, value=loss) needs {missing}")
    if jnp.shape(value):
        raise ValueError(f"value must be a scalar, got shape {jnp.shape(value)}")


def _watch(state: SelfTuningState, value: jax.Array, rise: jax.Array) -> SelfTuningState:
    """The state after another loss has been seen."""
    since = jnp.asarray(optax.safe_increment(state.since))
    begins = since == 1
    weight = 1.0 / jnp.minimum(since, WINDOW).astype(value.dtype)
    distance = jnp.where(begins, 0, jnp.abs(value - state.value))
    mean = jnp.where(begins, value, state.value + weight * (value - state.value))
    noise = jnp.where(begins, 0, state.noise + weight * (distance - state.noise))
    better = (since >= TRIAL_STEPS) & (mean < state.best_value)
    return state._replace(
        since=since,
        first_value=jnp.where(begins, value, state.first_value),
        value=mean,
        noise=noise,
        best_value=jnp.where(better, mean, state.best_value),
        best_noise=jnp.where(better, noise, state.best_noise),
        best_rise=jnp.where(better, rise, state.best_rise),
    )


def _verdict(state: SelfTuningState, rise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether to go back: from the trial of the first steps, and for what was lost since.

    Args:
      state: with the present loss seen.
      rise: what the moves of this attempt have added to the loss, to first order.
    """
    size = jnp.abs(state.first_value)
    on_trial = (state.since <= TRIAL_STEPS) & (state.failures < ATTEMPTS)
    at_end = (state.since == TRIAL_STEPS) & (
        (rise > 0) | (state.value > state.first_value + 2 * size)
    )
    severe = on_trial & (~(rise <= size) | at_end) | (state.unusable > 1)
    won = jnp.maximum(state.first_value - state.best_value, 0)
    worst = state.best_value + won / 2 + 2 * state.best_noise
    explained = rise - state.best_rise > (state.value - state.best_value) / 2
    lost = (state.since > TRIAL_STEPS) & (state.value > worst) & explained
    return severe, lost & ~severe


def average_weight(n: jax.Array) -> jax.Array:
    """What the n-th of the averaged parameters weighs when it comes in."""
    return (POWER + 1) / (n + POWER)


def _averaged(state: SelfTuningState, params: Any) -> Any:
    """The average with the present parameters, of weight (p + 1) / (n + p)."""
    n = (state.since - TRIAL_STEPS).astype(state.value.dtype)
    weight = average_weight(n)
    return jax.tree.map(
        lambda y, x: y + (weight * (x.astype(y.dtype) - y)).astype(y.dtype), state.average, params
    )


def _afresh(new: Any, old: HypergradientState, divisor: jax.Array) -> Any:
    """A tower's first state with a lower rate; what it has counted stays."""
    (log,) = old.hyperparams["learning_rate"]
    lower = spaces.Positive(log - jnp.log(divisor).astype(log.dtype)).clamp()
    return new._replace(
        hyperparams={"learning_rate": lower},
        skipped=old.skipped,
        masked=old.masked,
        rejected=old.rejected,
    )


def _wide_copy(x: Any) -> jax.Array:
    """A copy with 32 bits or more: steps of an average are too small for 16."""
    dtype = jnp.result_type(x)
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        dtype = jnp.float32
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros(x.shape, dtype)
    return jnp.array(x, dtype)
