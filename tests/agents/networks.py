"""A small network and its data, for tests of `fit`."""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)
EXAMPLES = 22
DATA = {
    "x": RNG.normal(size=(EXAMPLES, 3)).astype(np.float32),
    "y": RNG.normal(size=EXAMPLES).astype(np.float32),
}
VALIDATION = {
    "x": RNG.normal(size=(7, 3)).astype(np.float32),
    "y": RNG.normal(size=7).astype(np.float32),
}


def starts(agents, seed=0, dtype=np.float32):
    """Returns parameters of networks of 3, 5 and 1 units, with a leading axis of agents."""
    draw = np.random.default_rng(seed).normal
    return {
        "a": draw(size=(agents, 3, 5)).astype(dtype),
        "b": draw(size=(agents, 5)).astype(dtype),
    }


def predictions(params, x):
    """Returns the predictions, f[examples]."""
    return jnp.tanh(x @ params["a"]) @ params["b"]


def loss(params, batch):
    """Returns the mean squared error."""
    return jnp.mean((predictions(params, batch["x"]) - batch["y"]) ** 2)


def noisy(params, batch, key=None):
    """Returns `loss` with dropout of the inputs; without a key, exactly `loss`."""
    if key is None:
        return loss(params, batch), {}
    kept = jax.random.bernoulli(key, 0.8, batch["x"].shape)
    drawn = jax.random.uniform(jax.random.fold_in(key, 1))
    return loss(params, {**batch, "x": batch["x"] * kept / 0.8}), {"drawn": drawn}
