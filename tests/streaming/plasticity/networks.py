"""A network of two hidden layers for the tests, and a task that it trains on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd

SIZES = (5, 8, 6, 3)
LAYERS = (
    jd.streaming.HiddenLayer("0/kernel", "1/kernel", "0/bias", "1/bias"),
    jd.streaming.HiddenLayer("1/kernel", "2/kernel", "1/bias", "2/bias"),
)


def network(seed=0, dtype=np.float32):
    """Returns parameters of three dense layers."""
    random = np.random.default_rng(seed)
    return [
        {
            "bias": jnp.asarray(random.normal(size=outputs) / 4, dtype),
            "kernel": jnp.asarray(
                random.normal(size=(inputs, outputs)) / np.sqrt(inputs / 2), dtype
            ),
        }
        for inputs, outputs in itertools.pairwise(SIZES)
    ]


def forward(params, x):
    """Returns outputs and the activations of the hidden layers."""
    activations = []
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        activations.append(x)
    return x @ params[-1]["kernel"] + params[-1]["bias"], activations


def batches(steps, seed=0, dtype=np.float32):
    """Returns inputs f[steps, 4, 5]."""
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(steps, 4, SIZES[0])), dtype)


def loss(params, x):
    outputs, activations = forward(params, x)
    return jnp.mean((outputs - jnp.sin(x[:, :3])) ** 2), activations


def step(tx, params, state, x):
    """Returns the parameters and the state after one update."""
    grads, activations = jax.grad(loss, has_aux=True)(params, x)
    updates, state = tx.update(grads, state, params, activations=activations)
    return jax.tree.map(jnp.add, params, updates), state


def train(tx, params, state, inputs):
    """Returns parameters and state after one update per batch, in one scan."""

    def body(carry, x):
        return step(tx, *carry, x), None

    return jax.lax.scan(body, (params, state), inputs)[0]
