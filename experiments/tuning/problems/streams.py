"""Streams whose targets drift or jump, so that what was learned becomes wrong."""

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem

FEATURES, NOISE = 20, 0.5


def drifting_regression(batch_size: int = 8) -> Problem:
    """Returns linear regression whose 20 coefficients oscillate with periods of their own.

    The inputs are standard normal, the targets have noise of standard deviation 0.5, and the
    coefficients are sines with periods of 2/15 to 1 of the run. The score is the exact expected
    squared error, at least 0.25.
    """
    phases = 2 * jnp.pi * jax.random.uniform(jax.random.key(1), (FEATURES,))
    periods = jnp.geomspace(2 / 15, 1.0, FEATURES)

    def coefficients(moment: Moment) -> jax.Array:
        return jnp.sin(2 * jnp.pi * moment.progress / periods + phases)

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(FEATURES)

    def observe(params: jax.Array, env: tuple[()], key: jax.Array, moment: Moment):
        del params
        for_inputs, for_noise = jax.random.split(key)
        x = jax.random.normal(for_inputs, (batch_size, FEATURES))
        noise = NOISE * jax.random.normal(for_noise, (batch_size,))
        return (x, x @ coefficients(moment) + noise), env

    def loss(params: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, y = batch
        return jnp.mean((x @ params - y) ** 2)

    def score(params: jax.Array, moment: Moment) -> jax.Array:
        return jnp.sum((params - coefficients(moment)) ** 2) + NOISE**2

    return Problem(init, observe, loss, score)
