"""A tanh network on plain pytrees, trained on the squared error: for studies of stability.

With layers of 200 units it is the network of J. Cohen et al. 2021 (arXiv:2103.00065; `gd.py
cifar10-5k fc-tanh mse` in github.com/locuslab/edge-of-stability), except that biases start at
zero. Weights have PyTorch's default distribution.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Layers = list[dict[str, jax.Array]]
"""The parameters: "kernel" `f32[inputs, outputs]` and "bias" `f32[outputs]` of each layer."""


def init_params(key: jax.Array, sizes: Sequence[int]) -> Layers:
    """Draws weights uniformly within +-1 / sqrt(inputs); biases are zero.

    Args:
      key: the random key.
      sizes: of the input, the hidden layers and the output.

    Example:
      >>> params = init_params(jax.random.key(0), (64, 200, 10))
      >>> [layer["kernel"].shape for layer in params]
      [(64, 200), (200, 10)]
    """

    def init_layer(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
        bound = 1 / np.sqrt(inputs)
        kernel = jax.random.uniform(key, (inputs, outputs), minval=-bound, maxval=bound)
        return {"kernel": kernel, "bias": jnp.zeros(outputs)}

    keys = jax.random.split(key, len(sizes) - 1)
    return [init_layer(key, m, n) for key, (m, n) in zip(keys, pairwise(sizes), strict=True)]


def squared_error(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns half the squared error, summed over outputs, averaged over examples.

    Args:
      params: the layers.
      batch: inputs `f32[examples, inputs]` and targets `f32[examples, outputs]`.
    """
    x, targets = batch
    *hidden, last = params
    for layer in hidden:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    errors = x @ last["kernel"] + last["bias"] - targets
    return 0.5 * jnp.mean(jnp.sum(errors**2, axis=-1))
