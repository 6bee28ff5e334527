"""Catapult warmup: a warmup from the largest step size that does not raise the loss.

    search    trial points w_0 + r d, d the optimizer's first update: r doubles until the loss
              there is above L(w_0), then halves between the last two on a logarithmic scale
    warmup    from the best r of the search, linearly, to the target step size

A warmup moves a network to regions where larger steps are stable. It is not needed below the
smallest step size that increases the loss (for gradient descent 2 over the sharpness, to second
order). This warmup therefore skips the part of a warmup from 0 that is below this step size, and
increases at the same slope.

Source: D. S. Kalra, M. Barkeshli 2024, arXiv:2406.09405. There the search runs before training.
Here it takes the first steps of the training loop, and only its last point is kept.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, numerics, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.stability.step_sizes import arguments

FACTOR = 2.0  # between trials, until the loss rises
# Ends a search without a result. The search changes its first step size by at most a factor of
# 2^60, about 1e18, up or down, and by less after halvings.
MAX_TRIALS = 60


class CatapultWarmupState(NamedTuple):
    """State of `catapult_warmup`.

    Attributes:
      inner: the optimizer's state.
      anchor: w_0, the parameters that trials start from.
      direction: the optimizer's first update at w_0, for a step size of 1.
      value: f32[], the loss at w_0.
      trial: f32[], the step size whose loss is tried next.
      low: f32[], largest step size that did not raise the loss; 0 until there is one.
      high: f32[], smallest step size that raised the loss; infinite until there is one.
      trials: i32[], number of losses in the search; 0 before it starts.
      halvings: i32[], number of trials between `low` and `high`.
      found: bool[], True if the search is over.
      count: i32[], number of warmup steps taken.
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
    """An optimizer with a warmup from the largest step size that does not raise the loss.

    During the search the parameters are the trial points w_0 + r d, where d is the optimizer's
    first update at w_0. All losses of the search must be comparable, so pass the same batch
    until `state.found`. Training then continues from w_0 + low d, and step t of the warmup has
    the size

        min(learning_rate, low + learning_rate t / steps)

    A non-finite loss counts as an increase. So does a trial point that overflows the parameters'
    dtype, which is not visited. If even `learning_rate` does not increase the loss, there is no
    warmup. The search waits until the first update and the loss are finite.

    Args:
      optimizer: for a step size of 1, such as `optax.sgd(1.0)` or `optax.adam(1.0)`.
      learning_rate: the target step size, a number in (0, inf).
      steps: number of steps that a warmup from 0 would take, a number in (0, inf); sets the slope.
      start: the first trial, a number in (0, inf); `learning_rate / 1024` by default. If it
        raises the loss, trials become smaller. The search ends after 60 trials, within a factor
        of 1e18 of its start, and the warmup starts from what it has reached.
      halvings: number of bisections between the last two trials of the search, an integer in [0,
        60]; the result is too low by a factor of at most 2^(1 / 2^halvings).

    Returns:
      A transformation. `update(grads, state, params, *, value, **extra)` needs the parameters
      and the loss `value` at them. The state holds two buffers like the parameters, and the
      optimizer's state.

    Raises:
      TypeError: `optimizer` is not a transformation, or an argument is not a number; in
        `update`, the loss is not a real number.
      ValueError: a number is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> def loss(x):  # with a sharpness of 100
      ...     return 50.0 * jnp.sum(x**2)
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
    halvings = _integer("halvings", halvings)

    def init(params: Any) -> CatapultWarmupState:
        dtype = jnp.result_type(float)
        params = arguments.as_arrays(params)
        target = jnp.asarray(learning_rate, dtype)
        first = target / 1024 if start is None else jnp.asarray(start, dtype)

        def zeros() -> Any:  # sharded as the parameters are
            return jax.tree.map(jnp.zeros_like, params)

        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

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

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, CatapultWarmupState]:
        loss = arguments.loss_value(params, value).astype(state.value.dtype)
        params = arguments.as_arrays(containers.params_like(params, updates))
        updates = arguments.as_arrays(updates)
        target = jnp.asarray(learning_rate, loss.dtype)
        slope = target / jnp.asarray(steps, loss.dtype)
        direction, inner = tx.update(updates, state.inner, params, value=value, **extra)
        usable = jnp.isfinite(loss) & numerics.all_finite(direction)

        begun = state._replace(
            inner=inner,
            anchor=params,
            direction=direction,
            value=loss,
            trials=jnp.ones_like(state.trials),
        )
        begun = optax.tree.where(usable, begun, state)
        visited = _is_representable(state.anchor, state.direction, state.trial)
        searched = _search(state, visited & (loss <= state.value), target, halvings)
        count = jnp.asarray(optax.safe_increment(state.count))
        warmed = state._replace(inner=inner, count=count)
        begins, warms = state.trials == 0, state.found
        new = optax.tree.where(warms, warmed, searched)
        new = optax.tree.where(begins, begun, new)

        rate = jnp.minimum(target, state.low + slope * count.astype(loss.dtype))
        visits = usable & _is_representable(params, direction, state.trial)
        rate = jnp.where(begins, jnp.where(visits, state.trial, 0), rate)
        moving = begins | warms
        goal = jnp.where(searched.found, searched.low, searched.trial)
        goal = jnp.where(_is_representable(state.anchor, state.direction, goal), goal, 0)

        def step(d: jax.Array, x: jax.Array, anchor: jax.Array, first: jax.Array) -> jax.Array:
            dtype = numerics.widest_float((d, loss))
            d, x, anchor, first = (leaf.astype(dtype) for leaf in (d, x, anchor, first))
            taken = jnp.where(rate == 0, 0, rate.astype(dtype) * d)
            to_goal = anchor + goal.astype(dtype) * first - x
            return jnp.where(moving, taken, to_goal)

        moves = jax.tree.map(step, direction, params, state.anchor, state.direction)
        moves = jax.tree.map(lambda move, d: move.astype(d.dtype), moves, direction)
        return moves, new

    return optax.GradientTransformationExtraArgs(init, update)


def _integer(name: str, value: Any) -> Any:
    """Returns an integer number of trials, also if `optax.inject_hyperparams` made it a float."""
    if isinstance(value, jax.core.Tracer):
        return value
    number = validation.number_in(name, value, 0, MAX_TRIALS)
    if number != int(number):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return number


def _is_representable(anchor: Any, direction: Any, rate: jax.Array) -> jax.Array:
    """True if the trial point, and updates on the way to it, are finite in their dtypes."""

    def is_finite(x: jax.Array, d: jax.Array) -> jax.Array:
        dtype = numerics.widest_float((d, rate))
        move = rate.astype(dtype) * d.astype(dtype)
        point = (x.astype(dtype) + move).astype(x.dtype)
        # Twice the distance: updates also lead from one rounded trial point to another.
        return jnp.isfinite(point) & jnp.isfinite((2 * move).astype(d.dtype))

    flags = jax.tree.leaves(jax.tree.map(is_finite, anchor, direction))
    return numerics.all_true([jnp.all(flag) for flag in flags])


def _search(
    state: CatapultWarmupState, fell: jax.Array, target: jax.Array, halvings: Any
) -> CatapultWarmupState:
    """Returns the state of the search after a trial; `fell` is True if the loss did not rise."""
    low = jnp.where(fell, state.trial, state.low)
    high = jnp.where(fell | (state.trial == 0), state.high, state.trial)
    between = (low > 0) & jnp.isfinite(high)
    # The trial that closed the bracket is not counted as a halving.
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
    # A search without a result returns to its start in two moves: a long one would be rounded.
    returns = (low == 0) & (trials >= MAX_TRIALS)
    return state._replace(
        trial=jnp.where(returns, 0, jnp.where(between, middle, further)),
        low=low,
        high=high,
        trials=trials,
        halvings=halved,
        found=found,
    )
