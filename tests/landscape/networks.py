"""A small ReLU network, its data, and rescaled copies that compute the same function."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

WIDTHS = (5, 8, 6, 3)


def params(seed=0, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return [
        {
            "kernel": jnp.asarray(draw.normal(size=(m, n)) / np.sqrt(m), dtype),
            "bias": jnp.asarray(0.3 * draw.normal(size=n), dtype),
        }
        for m, n in pairwise(WIDTHS)
    ]


def batch(dtype=np.float32):
    draw = np.random.default_rng(9)
    return jnp.asarray(draw.normal(size=(20, WIDTHS[0])), dtype), jnp.asarray(
        draw.integers(0, WIDTHS[-1], 20), jnp.int32
    )


def loss(params, batch):
    x, labels = batch
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = x @ last["kernel"] + last["bias"]
    scores = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -jnp.mean(scores)


def rescaled(params, factor):
    """Multiplies the first layer by a factor and divides the second by it: the same function."""
    first, second, third = params
    return [
        jax.tree.map(lambda leaf: factor * leaf, first),
        {**second, "kernel": second["kernel"] / factor},
        third,
    ]
