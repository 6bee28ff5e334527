"""ScheduleFree+: Schedule-Free AdamW with a Polyak step size (A. Defazio 2026, arXiv:2605.19095).

    beta = b_sf, or annealed from b_sf to b_max over T steps, geometrically in 1 - beta
    p    = max(0, f + beta <g, z - x>) / (sqrt(pi/2) |g|_1)     f and g at y; |g|_1 may be averaged
    a    = learning_rate p
    z    = z - a^2 decay y - a m / (sqrt(v) + eps)              m, v as in Adam, corrected
    x    = (1 - c) x + c z      c = w / sum of w    w = t^r (largest a so far)^2; 1 in a warmup
    y    = beta x + (1 - beta) z

The step size supposes that the least loss is 0. y is where gradients are taken; evaluate at x.

The constants are the defaults of the author's reference implementation: learning_rate 1, Adam's
betas 0.9 and 0.95, b_sf 0.9, eps 1e-8, no weight decay, r 0, no average of |g|_1, no warmup of c,
no annealing (b_max 0.965 where there is one). The implementation suggests r = 2 for long runs,
and to warm c up for once or twice as many steps as the learning rate. We have not found which
values of r, T and of the warmup the paper's own runs have, so the league runs the defaults.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation


class ScheduleFreePlusState(NamedTuple):
    """State of `schedule_free_plus`.

    Attributes:
      x: the averaged parameters, at which a model is evaluated.
      z: the parameters that Adam's steps change.
      mean, square: Adam's m and v, without correction.
      count: i32[], number of steps.
      size: f[], the moving average of |g|_1, without correction.
      largest: f[], the largest step size so far.
      weights: f[], the sum of the weights w.
    """

    x: Any
    z: Any
    mean: Any
    square: Any
    count: jax.Array
    size: jax.Array
    largest: jax.Array
    weights: jax.Array


def schedule_free_plus(
    learning_rate: float = 1.0,
    *,
    b1: float = 0.9,
    b2: float = 0.95,
    b_sf: float = 0.9,
    b_max: float = 0.965,
    anneal_steps: int = 0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    r: float = 0.0,
    b_size: float = 0.0,
    average_from: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Returns ScheduleFree+, whose update needs the parameters and the loss `value`.

    Args:
      learning_rate: factor of the Polyak step size.
      b1: decay of Adam's mean.
      b2: decay of Adam's mean square.
      b_sf: weight of x in y.
      b_max: weight of x in y after the annealing.
      anneal_steps: length T of the annealing; 0 for none.
      eps: Adam's; also the initial value of the largest step size.
      weight_decay: of z, times the square of the step size.
      r: power of the step's number in the weight of the average.
      b_size: decay of the average of |g|_1.
      average_from: number of steps during which x is z.
    """

    def init(params: Any) -> ScheduleFreePlusState:
        zeros = optax.tree.zeros_like(params)
        # Copies, because a training loop may donate both.
        x, z = (jax.tree.map(jnp.copy, params) for _ in range(2))
        count, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
        return ScheduleFreePlusState(x, z, zeros, zeros, count, zero, jnp.asarray(eps), zero)

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, ScheduleFreePlusState]:
        del extra
        validation.check_params_and_loss(params, value)
        grads = updates
        size = optax.tree.norm(grads, ord=1) * math.sqrt(math.pi / 2)
        k = state.count.astype(size.dtype)
        beta = jnp.asarray(b_sf)
        if anneal_steps:
            progress = jnp.minimum(k / anneal_steps, 1)
            logs = math.log(1 - b_sf), math.log(1 - b_max)
            beta = 1 - jnp.exp(logs[0] * (1 - progress) + logs[1] * progress)

        inner = beta * optax.tree.vdot(grads, optax.tree.sub(state.z, state.x))
        size = b_size * state.size + (1 - b_size) * size
        corrected = size / (1 - b_size ** (k + 1))
        # A zero gradient makes no step.
        polyak = jnp.maximum(value + inner, 0) / jnp.where(corrected > 0, corrected, jnp.inf)
        rate = learning_rate * polyak
        largest = jnp.maximum(state.largest, rate)
        weight = (k + 1.0) ** r * largest**2
        averaging = k >= average_from
        weights = state.weights + jnp.where(averaging, weight, 0)
        c = jnp.where(averaging, weight / weights, 1)

        mean = optax.tree.update_moment(grads, state.mean, b1, 1)
        square = optax.tree.update_moment(grads, state.square, b2, 2)
        corrected_mean = optax.tree.bias_correction(mean, b1, k + 1)
        corrected_square = optax.tree.bias_correction(square, b2, k + 1)

        def step(z: Any, y: Any, m: Any, v: Any) -> Any:
            decayed = z - rate**2 * weight_decay * y
            return (decayed - rate * m / (jnp.sqrt(v) + eps)).astype(z.dtype)

        z = jax.tree.map(step, state.z, params, corrected_mean, corrected_square)
        x = jax.tree.map(lambda x, z: ((1 - c) * x + c * z).astype(x.dtype), state.x, z)
        moves = jax.tree.map(
            lambda x, z, y: (beta * x + (1 - beta) * z - y).astype(y.dtype), x, z, params
        )
        return moves, ScheduleFreePlusState(
            x, z, mean, square, state.count + 1, size, largest, weights
        )

    return optax.GradientTransformationExtraArgs(init, update)
