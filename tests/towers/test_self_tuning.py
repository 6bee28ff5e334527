"""The recipe without a learning rate: any start will do, and what goes wrong is undone."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxdescent as jd

FACTORIES = {
    "sgd": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=1e-2),
}


def noisy_regression(key, spread=0.1):
    """A least-squares loss on batches, ill-conditioned by 1 to 30."""
    scales = jnp.geomspace(1.0, 30**0.5, 8)
    solution = jax.random.normal(key, (8,))

    def loss(x, key):
        features = jax.random.normal(key, (16, 8)) * scales
        noise = spread * jax.random.normal(jax.random.fold_in(key, 1), (16,))
        return jnp.mean((features @ (x - solution) - noise) ** 2)

    return loss


def train(tx, loss, x, steps, key=None, start=None):
    key = jax.random.key(3) if key is None else key
    state = tx.init(x)
    if start is not None:
        state = jd.set_hyperparameters(state, {"learning_rate": start})

    def step(carry, key):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x, key)
        updates, state = tx.update(grads, state, x, value=value)
        rate = jd.hyperparameters(state)[0]["learning_rate"]
        return (optax.apply_updates(x, updates), state), (value, rate, state.restarts)

    return jax.lax.scan(step, (x, state), jax.random.split(key, steps))


@pytest.mark.parametrize("name", FACTORIES)
def test_eleven_starts_end_at_the_same_loss(name):
    tx, loss = jd.self_tuning(FACTORIES[name]), noisy_regression(jax.random.key(0))
    x, keys = jnp.zeros(8), jax.random.split(jax.random.key(9), 64)

    @jax.jit
    @jax.vmap
    def final(start):
        (x_end, state), _ = train(tx, loss, x, 800, start=start)
        return jax.vmap(loss, (None, 0))(jd.averaged_params(state, x_end), keys).mean()

    finals = final(jnp.logspace(-8, 2, 11))
    floor = jax.vmap(noisy_regression(jax.random.key(0)), (None, 0))(
        jax.random.normal(jax.random.key(0), (8,)), keys
    ).mean()
    assert finals.max() < 1.2 * finals.min()
    assert finals.max() < 1.3 * floor
