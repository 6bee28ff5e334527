"""Warm-up from the largest step size that does not raise the loss.

    search    trial points w_0 + r d, d the optimizer's first update: r doubles until the loss
              there is above L(w_0), then halves between the last two on a logarithmic scale
    warm-up   from the best r of the search, in a line, to the step size that is wanted

Warm-up takes a network to where larger steps are stable; below the first step size that
raises the loss (for plain descent 2 over the sharpness, to second order) nothing needs that,
so these steps of the usual warm-up from 0 are saved. The slope is the usual one's.

Source: D. S. Kalra, M. Barkeshli 2024, arXiv:2406.09405. There the start is chosen before
training; here the loop's own first steps make the search, and only its last one counts.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.stability import inputs

FACTOR = 2.0  # between trials, until the loss has risen
# An end where the loss tells nothing. Also how far from its start the search can come, up or
# down: a factor of 2^60, about 1e18, less what the halvings take.
MAX_TRIALS = 60


class CatapultWarmupState(NamedTuple):
    """What `catapult_warmup` carries.

    Attributes:
      inner: the optimizer's state.
      anchor: the parameters that trials start from.
      direction: the optimizer's first update there, for a step size of 1.
      value: f32[], the loss there.
      trial: f32[], the step size whose loss comes next.
      low: f32[], the greatest that has not raised the loss; 0 until there is one.
      high: f32[], the least that has; infinite until there is one.
      trials: i32[], losses seen of the search; 0 before it has begun.
      halvings: i32[], trials between `low` and `high`.
      found: bool[], whether the search is over.
      count: i32[], steps of the warm-up that were taken.
    """

    inner: Any
    anchor: Any
    direction: Any
    value: jax.Array
    trial: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array
    halvings: jax.Array
    found: jax.Array
    count: jax.Array


def catapult_warmup(
    optimizer: optax.GradientTransformation,
    learning_rate: ArrayLike,
    *,
    steps: ArrayLike,
    start: ArrayLike | None = None,
    halvings: int = 3,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose step size is warmed up from the first that would raise the loss.

    While the search lasts, the parameters are at its trial points: of w_0 and the optimizer's
    first update d there, w_0 + r d. The loss of each must be comparable with that of w_0, so
    keep one batch, or the full one, until `state.found`. Then w_0 + low d is where training
    goes on, and step t of the warm-up has the size

        min(learning_rate, low + learning_rate t / steps)

    A loss that is not finite counts as risen, and so does a trial point that the parameters'
    dtype cannot hold: it is not visited. If even `learning_rate` does not raise the loss there
    is no warm-up. A first update or loss that is not finite is waited out.

    Args:
      optimizer: for a step size of 1, such as `optax.sgd(1.0)` or `optax.adam(1.0)`.
      learning_rate: the step size that is wanted, a number in (0, inf).
      steps: how many steps the usual warm-up from 0 would take, a number in (0, inf).
      start: the first trial, a number in (0, inf); `learning_rate / 1024` by default. If that
        raises the loss, trials become smaller. The search ends after 60 trials: it gets no
        further than a factor of 1e18 from its start, and warms up from what it has got to.
      halvings: trials between the last two of the search, a whole number in [0, 60]; the step
        size that is found is too low by a factor of at most 2^(1 / 2^halvings).

    Returns:
      A transformation. `update(grads, state, params, *, value, **extra)` needs the parameters
      and the loss `value` at them. The state holds two buffers like the parameters beside the
      optimizer's.

    Raises:
      TypeError: `optimizer` is no transformation, or a number is none; in `update`, the loss.
      ValueError: a number is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> loss = lambda x: 50.0 * jnp.sum(x**2)  # of sharpness 100
      >>> tx = catapult_warmup(optax.sgd(1.0), 1.0, steps=1_000, halvings=8)
      >>> x = jnp.ones(3)
      >>> state = tx.init(x)
      >>> while not state.found:
      ...     value, grads = jax.value_and_grad(loss)(x)
      ...     updates, state = tx.update(grads, state, x, value=value)
      ...     x = optax.apply_updates(x, updates)
      >>> round(float(state.low), 4), int(state.trials)
      (0.02, 15)
    """
    tx = validation.transformation("optimizer", optimizer)
    learning_rate = validation.positive_number("learning_rate", learning_rate)
    steps = validation.positive_number("steps", steps)
    start = None if start is None else validation.positive_number("start", start)
    halvings = _whole("halvings", halvings)

    def init(params: Any) -> CatapultWarmupState:
        dtype = jnp.result_type(float)
        params = inputs.arrays(params)
        target = jnp.asarray(learning_rate, dtype)
        first = target / 1024 if start is None else jnp.asarray(start, dtype)
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # sharded as the parameters are
        count = lambda: jnp.zeros((), jnp.int32)
        return CatapultWarmupState(
            inner=tx.init(params),
            anchor=zeros(),
            direction=zeros(),
            value=jnp.zeros((), dtype),
            trial=jnp.minimum(first, target),
            low=jnp.zeros((), dtype),
            high=jnp.full((), jnp.inf, dtype),
            trials=count(),
            halvings=count(),
            found=jnp.zeros((), bool),
            count=count(),
        )

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, CatapultWarmupState]:
        loss = inputs.checked_value(params, value).astype(state.value.dtype)
        updates, params = inputs.arrays(updates), inputs.arrays(params)
        target = jnp.asarray(learning_rate, loss.dtype)
        slope = target / jnp.asarray(steps, loss.dtype)
        direction, inner = tx.update(updates, state.inner, params, value=value, **extra)
        usable = jnp.isfinite(loss) & inputs.all_finite(direction)

        begun = state._replace(
            inner=inner,
            anchor=params,
            direction=direction,
            value=loss,
            trials=jnp.ones_like(state.trials),
        )
        begun = _where(usable, begun, state)
        visited = _holds(state.anchor, state.direction, state.trial)
        searched = _search(state, visited & (loss <= state.value), target, halvings)
        count = jnp.asarray(optax.safe_increment(state.count))
        warmed = state._replace(inner=inner, count=count)
        begins, warms = state.trials == 0, state.found
        after = _where(begins, begun, _where(warms, warmed, searched))

        rate = jnp.minimum(target, state.low + slope * count.astype(loss.dtype))
        visits = usable & _holds(params, direction, state.trial)
        rate = jnp.where(begins, jnp.where(visits, state.trial, 0), rate)
        moving = begins | warms
        goal = jnp.where(searched.found, searched.low, searched.trial)
        goal = jnp.where(_holds(state.anchor, state.direction, goal), goal, 0)

        def step(d: jax.Array, x: jax.Array, anchor: jax.Array, first: jax.Array) -> jax.Array:
            dtype = inputs.wide(d.dtype, loss.dtype)
            d, x, anchor, first = (leaf.astype(dtype) for leaf in (d, x, anchor, first))
            taken = jnp.where(rate == 0, 0, rate.astype(dtype) * d)
            to_goal = anchor + goal.astype(dtype) * first - x
            return jnp.where(moving, taken, to_goal)

        moves = jax.tree.map(step, direction, params, state.anchor, state.direction)
        moves = jax.tree.map(lambda move, d: move.astype(d.dtype), moves, direction)
        return moves, after

    return optax.GradientTransformationExtraArgs(init, update)


def _whole(name: str, value: Any) -> Any:
    """A whole number of trials. `optax.inject_hyperparams` makes floats of them, or traces them."""
    if isinstance(value, jax.core.Tracer):
        return value
    number = validation.number_in(name, value, 0, MAX_TRIALS)
    if number != int(number):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return number


def _holds(anchor: Any, direction: Any, rate: jax.Array) -> jax.Array:
    """Whether the parameters' dtypes can hold a trial point, and its updates the way there."""

    def held(x: jax.Array, d: jax.Array) -> jax.Array:
        dtype = inputs.wide(d.dtype, rate.dtype)
        move = rate.astype(dtype) * d.astype(dtype)
        point = (x.astype(dtype) + move).astype(x.dtype)
        # Twice as far: points are rounded, and from one to another must not be too far either.
        return jnp.isfinite(point) & jnp.isfinite((2 * move).astype(d.dtype))

    flags = [jnp.all(flag) for flag in jax.tree.leaves(jax.tree.map(held, anchor, direction))]
    return functools.reduce(jnp.logical_and, flags, jnp.ones((), bool))


def _search(
    state: CatapultWarmupState, fell: jax.Array, target: jax.Array, halvings: Any
) -> CatapultWarmupState:
    """The search after a trial, of which is known whether the loss there has not risen."""
    low = jnp.where(fell, state.trial, state.low)
    high = jnp.where(fell | (state.trial == 0), state.high, state.trial)
    between = (low > 0) & jnp.isfinite(high)
    # The trial that closed the bracket is not one between its ends.
    was_between = (state.low > 0) & jnp.isfinite(state.high)
    halved = state.halvings + was_between.astype(jnp.int32)
    trials = jnp.asarray(optax.safe_increment(state.trials))
    found = (
        (between & (halved >= jnp.asarray(halvings, jnp.int32)))
        | (low >= target)
        | (trials > MAX_TRIALS)
    )
    further = jnp.where(fell, jnp.minimum(FACTOR * low, target), high / FACTOR)
    middle = jnp.sqrt(low) * jnp.sqrt(jnp.where(between, high, 1))
    # A search in vain goes back to its start in two moves: one from far away is rounded.
    returns = (low == 0) & (trials >= MAX_TRIALS)
    return state._replace(
        trial=jnp.where(returns, 0, jnp.where(between, middle, further)),
        low=low,
        high=high,
        trials=trials,
        halvings=halved,
        found=found,
    )


def _where(condition: jax.Array, tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), tree, other)
