"""Clipped gradient descent on a quadratic under heavy-tailed noise.

    F(x) = |x - 1|^2 / 2    gradients x - 1 + noise    steps 4 / (t + 1)

The loss is evaluated at the weighted average of the iterates, with weights t + 1.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.clipping.settings import DIMENSIONS, THRESHOLD

NO_CLIPPING, GROWING_NORM, GLOBAL_NORM = "none", "norm at t^(1/p)", "clip_by_global_norm"
COORDINATE, BLOCK_RMS, ADAPTIVE = "clip", "clip_by_block_rms", "adaptive_grad_clip"


class Noise(NamedTuple):
    """Heavy-tailed noise: a Pareto variable with a random sign, or minus its mean.

    Attributes:
      p: the tail index; moments of order p and above are infinite.
      skewed: True if the variable has no random sign.
    """

    p: Any
    skewed: bool = False

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{'skewed' if self.skewed else 'symmetric'} p = {self.p:g}"

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws independent numbers; the Pareto variable has P(1 + x > s) = s^-p."""
        sizes, signs = jax.random.split(key)
        uniform = 1 - jax.random.uniform(sizes, shape, float)  # in (0, 1]
        pareto = uniform ** (-1 / self.p) - 1
        if self.skewed:
            return pareto - 1 / (self.p - 1)
        return pareto * jax.random.rademacher(signs, shape, float)


NOISES = (Noise(1.0), Noise(1.2), Noise(1.5), Noise(1.8), Noise(1.5, skewed=True))


def clippings(p: Any) -> dict[str, optax.GradientTransformation]:
    """Returns the clipping transformations by name."""

    def growing_norm(count: Any) -> Any:
        return (count + 1.0) ** (1 / p)

    norm = THRESHOLD * np.sqrt(DIMENSIONS)
    return {
        NO_CLIPPING: optax.identity(),
        GROWING_NORM: optax.inject_hyperparams(optax.clip_by_global_norm)(max_norm=growing_norm),
        GLOBAL_NORM: optax.clip_by_global_norm(norm),
        COORDINATE: optax.clip(THRESHOLD),
        BLOCK_RMS: optax.clip_by_block_rms(THRESHOLD),
        ADAPTIVE: optax.adaptive_grad_clip(THRESHOLD),
    }


class NoisyLosses(NamedTuple):
    """Losses of all methods under one noise.

    Attributes:
      losses: f64[methods, grid, seeds].
    """

    losses: np.ndarray


def descend(key: jax.Array, noise: Noise, grid: tuple[int, ...], seeds: int) -> NoisyLosses:
    """Runs all methods; see `compute_losses`."""
    return NoisyLosses(np.asarray(compute_losses(key, noise.p, noise.skewed, grid, seeds)))


@partial(jax.jit, static_argnums=(2, 3, 4))
def compute_losses(
    key: jax.Array, p: jax.Array, skewed: bool, grid: tuple[int, ...], seeds: int
) -> jax.Array:
    """Computes the losses after each number of steps; all methods get the same noise.

    Args:
      key: the key of the noise.
      p: f64[], the tail index of the noise.
      skewed: True for skewed noise.
      grid: increasing numbers of steps.
      seeds: the number of runs.

    Returns:
      f64[methods, grid, seeds].
    """
    noise = Noise(p, skewed)
    methods = [optax.chain(clip, optax.sgd(_step_size)) for clip in clippings(noise.p).values()]

    def step(t: jax.Array, carry: Any) -> Any:
        drawn = noise.draw(jax.random.fold_in(key, t), (seeds, DIMENSIONS))

        def step_method(tx: Any, x: jax.Array, average: jax.Array, state: Any) -> Any:
            average += 2 / (t + 2) * (x - average)  # x_t has weight t + 1

            def step_seed(x: jax.Array, state: Any, drawn: jax.Array) -> Any:
                updates, state = tx.update(x - 1 + drawn, state, x)
                return optax.apply_updates(x, updates), state

            x, state = jax.vmap(step_seed)(x, state, drawn)
            return x, average, state

        return [step_method(tx, *each) for tx, each in zip(methods, carry, strict=True)]

    def run_segment(carry: Any, ends: Any) -> Any:
        carry = jax.lax.fori_loop(ends[0], ends[1], step, carry)
        return carry, jnp.stack([jnp.sum((y - 1) ** 2, -1) / 2 for _, y, _ in carry])

    start = jnp.full((seeds, DIMENSIONS), 1 + 1 / np.sqrt(DIMENSIONS))
    carry = [(start, start, jax.vmap(tx.init)(start)) for tx in methods]
    ends = jnp.asarray([0, *grid[:-1]]), jnp.asarray(grid)
    return jnp.moveaxis(jax.lax.scan(run_segment, carry, ends)[1], 0, 1)


def _step_size(count: Any) -> Any:
    return 4.0 / (count + 2.0)
