"""Triangular waves: step sizes that rise and fall linearly.

    eta_t = low + (high - low) s_t per_cycle^(t // (2 half)) per_step^t

s_t rises from 0 to 1 over `half` steps and falls back to 0 over the next `half`. In the paper,
`triangular` has both factors equal to 1, `triangular2` has per_cycle = 1 / 2, and `exp_range` has
per_step < 1. For cosines with restarts use `optax.sgdr_schedule`, for a single cycle
`optax.cosine_onecycle_schedule` or `optax.linear_onecycle_schedule`.

Source: L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017,
arXiv:1506.01186.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation


def cyclical(
    low: ArrayLike,
    high: ArrayLike,
    half_period: int,
    *,
    per_cycle: ArrayLike = 1.0,
    per_step: ArrayLike = 1.0,
) -> optax.Schedule:
    """A triangular wave between two step sizes, optionally with decreasing height.

    Args:
      low: first step size, in (0, inf).
      high: first peak, after `half_period` steps, in [low, inf).
      half_period: number of steps from `low` to `high`, in [1, 2^30 - 1].
      per_cycle: factor of the height after each period, in (0, 1].
      per_step: factor of the height after each step, in (0, 1].

    Returns:
      A schedule: called with the number of steps taken, returns f32[...] of the arguments'
      common shape.

    Raises:
      TypeError: a step size or factor is not a real number.
      ValueError: an argument is out of range.

    Example:
      >>> step_size = cyclical(0.1, 0.5, 2, per_cycle=0.5)
      >>> [round(float(step_size(t)), 2) for t in range(9)]
      [0.1, 0.3, 0.5, 0.3, 0.1, 0.2, 0.3, 0.2, 0.1]
    """
    low, high = validation.positive("low", low), validation.positive("high", high)
    known = not any(isinstance(x, jax.core.Tracer) for x in (low, high))
    if known and not np.all(low <= high):
        raise ValueError(f"high must be in [low, inf), got {high} with low={low}")
    half = validation.integer_in("half_period", half_period, 1, 2**30 - 1)  # periods are int32
    factors = {"per_cycle": per_cycle, "per_step": per_step}
    shrink = [validation.positive_up_to(name, factor, 1.0) for name, factor in factors.items()]
    period = 2 * half

    def cast(x: ArrayLike) -> jax.Array:
        return jnp.asarray(x, jnp.result_type(float))

    def schedule(count: ArrayLike) -> jax.Array:
        count = jnp.asarray(count)
        # In integers: a float32 count would be rounded after 2^24 steps.
        phase = count % period
        wave = cast(jnp.minimum(phase, period - phase)) / half
        powers: Any = (cast(count // period), cast(count))
        height = [cast(factor) ** power for factor, power in zip(shrink, powers, strict=True)]
        return cast(low) + (cast(high) - cast(low)) * wave * height[0] * height[1]

    return schedule
