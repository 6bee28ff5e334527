"""Gradient descent on a two-layer linear network with one output, with its exact sharpness."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.catapult.settings import CONVERGED


def loss(params: Any) -> jax.Array:
    """Returns half the square of the network's output."""
    u, v = params
    return 0.5 * (u @ v) ** 2 / u.size


def sharpness(params: Any) -> jax.Array:
    """Returns the top eigenvalue of the loss's Hessian.

    In the coordinates (u + v) / sqrt(2) and (u - v) / sqrt(2) the Hessian acts in a plane, with
    trace k = (|u|^2 + |v|^2) / m and determinant -3 f^2 / m, and is +-f / sqrt(m) elsewhere.
    """
    u, v = params
    kernel = (u @ u + v @ v) / u.size
    return kernel / 2 + jnp.sqrt(kernel**2 / 4 + 3 * (u @ v) ** 2 / u.size**2)


class TrainingCurves(NamedTuple):
    """Training curves of all seeds.

    Attributes:
      losses: f64[seeds, steps + 1].
      sharpnesses: f64[seeds, steps + 1].
      learning_rates: f64[seeds], the final learning rates.
      warmup_starts: f64[seeds], the learning rates at which the warmup starts; nan without one.
    """

    losses: np.ndarray
    sharpnesses: np.ndarray
    learning_rates: np.ndarray
    warmup_starts: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """bool[seeds], True if the final loss is far below the initial one; False for nan."""
        return self.losses[:, -1] < CONVERGED * self.losses[:, 0]

    @property
    def steps(self) -> np.ndarray:
        """f64[seeds], the number of steps until the loss stays converged; inf if it does not."""
        above = ~(self.losses < CONVERGED * self.losses[:, :1])
        last = above.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
        return np.where(self.converged, last + 1.0, np.inf)


def train(params: Any, learning_rates: Any, steps: int, warmup: int = 0) -> TrainingCurves:
    """Trains all seeds with a constant learning rate each, or with a warmup to it."""
    return TrainingCurves(*map(np.asarray, _train(params, learning_rates, steps, warmup)))


@partial(jax.jit, static_argnums=(2, 3))
@partial(jax.vmap, in_axes=(0, 0, None, None))
def _train(params: Any, learning_rate: jax.Array, steps: int, warmup: int) -> Any:
    tx = optax.with_extra_args_support(optax.sgd(learning_rate))
    if warmup:
        tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), learning_rate, steps=warmup, halvings=6)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        new_params = optax.apply_updates(params, updates)
        return (new_params, state), (value, sharpness(params))

    carry, curves = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    params, state = carry
    start = state.low if isinstance(state, jd.step_sizes.CatapultWarmupState) else jnp.nan
    curves = jax.tree.map(jnp.append, curves, (loss(params), sharpness(params)))
    return *curves, learning_rate, start
