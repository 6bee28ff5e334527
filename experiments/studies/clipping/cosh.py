"""Noise-free gradient descent on cosh, whose curvature grows with its slope.

The curvature is at most 1 + |slope|. Clipped steps are compared with the best constant step size.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.clipping.settings import TARGET_SLOPE

MAX_STEPS = 10_000_000


class StepCounts(NamedTuple):
    """Number of steps to a small slope, the maximum over ten starts.

    Attributes:
      start: the largest start; the smallest is half of it.
      clipped: the steps with step size min(1, 1 / |slope|), by optax.
      constant: the steps with the best constant step size of a grid.
      best: that step size.
    """

    start: float
    clipped: int
    constant: int
    best: float


def count_steps(start: float) -> StepCounts:
    """Counts the steps of clipped descent and of the best constant step size.

    There are ten starts because a step size tuned for a single one could reach the minimum from
    there in one step.
    """
    starts = jnp.linspace(start / 2, start, 10)
    limit = 2 * start / np.sinh(start)  # above it the first step moves away from the minimum
    constants = limit * np.linspace(0.05, 0.99, 20)
    steps = np.asarray(descend(optax.sgd, starts, jnp.asarray(constants))).max(0)
    clipped = int(jnp.max(descend(clipped_sgd, starts, jnp.ones(1))))
    best = int(np.argmin(steps))
    return StepCounts(start, clipped, int(steps[best]), float(constants[best]))


def clipped_sgd(learning_rate: Any) -> optax.GradientTransformation:
    """Gradient descent with gradients clipped to a norm of 1."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate))


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, 0, None))
@partial(jax.vmap, in_axes=(None, None, 0))
def descend(factory: Any, start: Any, learning_rate: Any) -> Any:
    """Returns the number of steps until the slope of cosh is small, at most `MAX_STEPS`."""
    tx = factory(learning_rate)

    def unfinished(carry: Any) -> jax.Array:
        x, _, count = carry
        return ~(jnp.abs(jnp.sinh(x)) <= TARGET_SLOPE) & (count < MAX_STEPS)

    def step(carry: Any) -> Any:
        x, state, count = carry
        updates, state = tx.update(jnp.sinh(x), state, x)
        return optax.apply_updates(x, updates), state, count + 1

    return jax.lax.while_loop(unfinished, step, (start, tx.init(start), 0))[2]
