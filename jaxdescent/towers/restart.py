"""Restarts a tower whose learning rate is too high.

Let log a be the coordinate of the learning rate, u the update and g the next gradient. The tower's
hypergradient is G = <g, u>: to first order, the change of the loss that the update caused. The
*rise* is the sum of all G since the last restart. It distinguishes a learning rate that does harm
from a loss that changes for other reasons.

The first `TRIAL_STEPS` steps are a trial, which detects initial learning rates that are too high.
(A learning rate that grows from below is corrected by the tower, but a lower learning rate cannot
undo the damage of a huge first step.) The trial fails if the rise is above zero at its end, or if
the mean loss has increased by more than twice the first loss; it fails early if the rise exceeds
the first loss. Then the parameters return to their values at the beginning of the attempt, the
optimizer is initialized again and the learning rate is divided by `SEVERE_DIVISOR`.

After the trial, the parameters return to their average, and the learning rate is divided by
`MILD_DIVISOR`, if two conditions hold: the running mean of the loss exceeds its lowest value by
more than half of the decrease since the first loss, plus twice its noise; and the rise explains at
least half of this increase. The average (see `averaging`) begins after the trial; until then it
equals the parameters at the beginning of the attempt. Both kinds of restart therefore return to the
average, and one buffer serves both.

A restart takes two updates: the second removes the rounding error of the first.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import all_finite, widest_float
from jaxdescent.towers import spaces
from jaxdescent.towers.averaging import AverageState, with_average
from jaxdescent.towers.factory import cast_like
from jaxdescent.towers.replay.conditional import choose, computed_once
from jaxdescent.towers.signals import OneStep
from jaxdescent.towers.tower import HypergradientState, Tower, wrapper

TRIAL_STEPS = 6
SEVERE_DIVISOR, MILD_DIVISOR = 100.0, 3.0  # of the learning rate
MAX_FAILURES = 8  # in a row; after that trials stop, because they did not help
WINDOW = 10  # steps, of the running mean


class RestartState(NamedTuple):
    """State of `restart_on_divergence`.

    An attempt is the time since the last restart.

    Attributes:
      inner_state: an `AverageState` with the tower's state, the average of the parameters since the
        last restart, to which a restart returns, and the number of steps since then.
      first_value: f32[], the attempt's first loss.
      value: f32[], the running mean of the loss.
      noise: f32[], the running mean of the loss's distance from its running mean.
      rise: f32[], the sum of the attempt's hypergradients.
      best_value: f32[], the lowest running mean.
      best_noise: f32[], the noise at that time.
      best_rise: f32[], the rise at that time.
      returning: bool[], True if the last step restarted, and the next one completes the return.
      failures: i32[], number of attempts in a row that failed their trial.
      unusable: i32[], number of batches in a row with non-finite numbers.
      restarts: i32[], number of restarts.
    """

    inner_state: AverageState
    first_value: jax.Array
    value: jax.Array
    noise: jax.Array
    rise: jax.Array
    best_value: jax.Array
    best_noise: jax.Array
    best_rise: jax.Array
    returning: jax.Array
    failures: jax.Array
    unusable: jax.Array
    restarts: jax.Array


def restart_on_divergence(tower: Tower, /) -> optax.GradientTransformationExtraArgs:
    """Restarts a tower with a lower learning rate when its learning rate makes the loss rise.

    A restart returns to the average of the parameters. The state holds it, as for
    `jd.with_average`, in one buffer of the parameters' size. Other state of the model does not
    return: see `jd.reestimate_statistics`.

    Args:
      tower: a transformation that `jd.hypergradient` returned, with the one-step signal. It
        must tune `learning_rate` in the positive space, as one number or one per leaf.

    Returns:
      A transformation. `update(grads, state, params, *, value, skip=None, **extra)` needs the
      parameters and `value`, the loss whose gradients are `grads`. A batch is skipped if its loss
      is not finite or `skip` is True; two non-finite batches in a row cause a restart. Put clipping
      and other transformations inside the factory: after a step that was not the returned update
      there is no restart.
      `jd.averaged_params(state, params)` reads the average.

    Raises:
      TypeError: `tower` is not a tower.
      ValueError: `tower` does not tune `learning_rate` as described, or has another signal.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tower = jd.hypergradient(optax.sgd, optax.adam(0.1), tune={"learning_rate": 1e3})
      >>> tx, x = jd.restart_on_divergence(tower), jnp.ones(4)
      >>> state = tx.init(x)
      >>> for _ in range(40):
      ...     value, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(x)
      ...     updates, state = tx.update(grads, state, x, value=value)
      ...     x = optax.apply_updates(x, updates)
      >>> int(state.restarts), bool(value < 0.1)
      (2, True)
    """
    _check_tower(tower)
    averaged = with_average(tower, burn_in=TRIAL_STEPS)

    def init(params: Any) -> RestartState:
        validation.check_arrays("params", params)
        dtype = widest_float(params)

        def number(x: float = 0.0) -> jax.Array:
            return jnp.full((), x, dtype)

        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        inner_state: Any = averaged.init(params)
        return RestartState(
            inner_state=inner_state,
            first_value=number(),
            value=number(),
            noise=number(),
            rise=number(),
            best_value=number(jnp.inf),
            best_noise=number(),
            best_rise=number(),
            returning=jnp.zeros((), bool),
            failures=count(),
            unusable=count(),
            restarts=count(),
        )

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        skip: Any = None,
        **extra: Any,
    ) -> tuple[Any, RestartState]:
        _check_arguments(params, value)
        params = containers.params_like(params, updates)
        old = state.inner_state
        value = jnp.asarray(value, state.value.dtype)
        requested = validation.scalar_boolean("skip", skip)
        skip = ~jnp.isfinite(value) | requested
        stepped: Any = averaged.update(updates, old, params, value=value, skip=skip, **extra)
        updates, new = stepped
        skipped = ~new.inner_state.has_previous
        new = new._replace(
            average=optax.tree.where(skipped, old.average, new.average),
            count=jnp.where(skipped, old.count, new.count),
        )
        rise = state.rise + sum(jax.tree.leaves(new.inner_state.hypergradient["learning_rate"]))
        seen = optax.tree.where(skipped, state, _observe(state, new.count, value, rise))
        seen = seen._replace(
            inner_state=new,
            rise=rise,
            unusable=jnp.where(skipped, state.unusable + ~jnp.asarray(requested), 0),
        )
        severe, mild = _diagnose(seen)
        severe |= ~all_finite(jax.tree.map(jnp.add, params, updates))  # could not be undone
        # Where updates are not applied as returned, a restart would not reach the average.
        altered = new.inner_state.altered != old.inner_state.altered
        restart = computed_once((severe | mild) & ~altered & ~state.returning)

        going = seen._replace(failures=jnp.where(new.count > TRIAL_STEPS, 0, seen.failures))
        divisor = jnp.where(severe, SEVERE_DIVISOR, MILD_DIVISOR)
        fresh: Any = tower.init(params)
        restarted = seen._replace(
            inner_state=AverageState(
                inner_state=_reset(fresh, new.inner_state, divisor),
                average=old.average,
                count=jnp.zeros_like(old.count),
            ),
            rise=jnp.zeros_like(seen.rise),
            best_value=jnp.full_like(seen.best_value, jnp.inf),
            returning=jnp.ones_like(seen.returning),
            failures=jnp.where(severe, optax.safe_increment(seen.failures), 0),
            unusable=jnp.zeros_like(seen.unusable),
            restarts=optax.safe_increment(seen.restarts),
        )
        returned = state._replace(returning=jnp.zeros_like(state.returning))
        to_average = jax.tree.map(jnp.subtract, cast_like(old.average, params), params)
        updates = optax.tree.where(restart | state.returning, to_average, updates)
        outcome = jnp.where(state.returning, 2, restart.astype(jnp.int32))
        return updates, choose(outcome, going, restarted, returned)

    return wrapper(tower, init, update)


def _check_tower(tower: Any) -> None:
    if not isinstance(tower, Tower):
        raise TypeError(
            "tower must be a transformation that jd.hypergradient returned, got "
            f"{type(tower).__name__}"
        )
    start = tower.spec.starts.get("learning_rate")
    coordinate: Any = start.space if isinstance(start, spaces.PerLeaf) else start
    if not isinstance(coordinate, spaces.Positive) or np.ndim(coordinate.log):
        raise ValueError(
            "tower must tune 'learning_rate' as one number in the positive space or one per leaf, "
            f"got {start!r}"
        )
    if not isinstance(tower.spec.signal, OneStep):
        raise ValueError(
            f"tower must have the signal jd.one_step(), which measures the last update's effect "
            f"on the loss, got {tower.spec.signal!r}"
        )


def _check_arguments(params: Any, value: Any) -> None:
    validation.check_params_and_loss(params, value)
    if jnp.shape(value):
        raise ValueError(f"value must be a scalar, got shape {jnp.shape(value)}")


def _observe(
    state: RestartState, count: jax.Array, value: jax.Array, rise: jax.Array
) -> RestartState:
    """Returns the state with its statistics updated by a new loss.

    Args:
      state: before the step.
      count: i32[], number of steps of the attempt, including this step.
      value: the current loss.
      rise: the sum of the attempt's hypergradients, including this step's.
    """
    begins = count == 1
    weight = 1.0 / jnp.minimum(count, WINDOW).astype(value.dtype)
    distance = jnp.where(begins, 0, jnp.abs(value - state.value))
    mean = jnp.where(begins, value, state.value + weight * (value - state.value))
    noise = jnp.where(begins, 0, state.noise + weight * (distance - state.noise))
    better = (count >= TRIAL_STEPS) & (mean < state.best_value)
    return state._replace(
        first_value=jnp.where(begins, value, state.first_value),
        value=mean,
        noise=noise,
        best_value=jnp.where(better, mean, state.best_value),
        best_noise=jnp.where(better, noise, state.best_noise),
        best_rise=jnp.where(better, rise, state.best_rise),
    )


def _diagnose(state: RestartState) -> tuple[jax.Array, jax.Array]:
    """Returns two bool[]: True if the attempt fails its trial, and if it has diverged since."""
    count, rise = state.inner_state.count, state.rise
    size = jnp.abs(state.first_value)
    on_trial = (count <= TRIAL_STEPS) & (state.failures < MAX_FAILURES)
    fails_at_end = (count == TRIAL_STEPS) & (
        (rise > 0) | (state.value > state.first_value + 2 * size)
    )
    severe = on_trial & (~(rise <= size) | fails_at_end) | (state.unusable > 1)
    won = jnp.maximum(state.first_value - state.best_value, 0)
    worst = state.best_value + won / 2 + 2 * state.best_noise
    explained = rise - state.best_rise > (state.value - state.best_value) / 2
    mild = (count > TRIAL_STEPS) & (state.value > worst) & explained
    return severe, mild & ~severe


def _reset(fresh: HypergradientState, old: HypergradientState, divisor: Any) -> HypergradientState:
    """Returns a tower's first state at a lower learning rate; its counters are kept."""
    lower = jax.tree.map(
        lambda log: log - jnp.log(divisor).astype(log.dtype), old.hyperparams["learning_rate"]
    )
    return fresh._replace(
        hyperparams={**fresh.hyperparams, "learning_rate": spaces.clamp(lower)},
        skipped=old.skipped,
        masked=old.masked,
        rejected=old.rejected,
        altered=old.altered,
    )
