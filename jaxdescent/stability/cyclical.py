"""A step size that goes up and down in straight lines.

    eta_t = low + (high - low) s_t per_cycle^(t // (2 half)) per_step^t

with s_t rising from 0 to 1 over `half` steps and falling back to 0 over as many: `triangular`
with both factors 1, `triangular2` with per_cycle = 1 / 2 and `exp_range` with per_step < 1, as
its author calls them. Cosines that restart are `optax.sgdr_schedule`, and a single cycle is
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
    """A triangular wave between two step sizes, whose height may shrink.

    Args:
      low: where it starts, in (0, inf).
      high: the first peak, after `half_period` steps, in [low, inf).
      half_period: steps from `low` to `high`, in [1, 2^30 - 1].
      per_cycle: by what the height is multiplied after each period, in (0, 1].
      per_step: the same after each step.

    Returns:
      A schedule: from the count of steps to f32[...] of the arguments' common shape.

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

    def schedule(count: ArrayLike) -> jax.Array:
        dtype = jnp.result_type(float)
        cast = lambda x: jnp.asarray(x, dtype)
        count = jnp.asarray(count)
        # In whole numbers: a float32 count would lose its place after 2^24 steps.
        place = count % period
        wave = cast(jnp.minimum(place, period - place)) / half
        powers: Any = (cast(count // period), cast(count))
        height = [cast(factor) ** power for factor, power in zip(shrink, powers, strict=True)]
        return cast(low) + (cast(high) - cast(low)) * wave * height[0] * height[1]

    return schedule
