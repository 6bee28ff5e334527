"""Small networks on plain pytrees."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax

Layers = list[tuple[jax.Array, jax.Array]]
"""Pairs of a weight `f32[inputs, outputs]` and a bias `f32[outputs]`."""


def init_layers(key: jax.Array, sizes: Sequence[int], gain: float = 2.0) -> Layers:
    """Draws normal weights with variance gain / inputs, 1 / inputs in the last layer.

    Args:
      key: the random key.
      sizes: of the input, the hidden layers and the output.
      gain: 2 for ReLU (He et al. 2015, arXiv:1502.01852), 1 for tanh.
    """
    gains = [gain] * (len(sizes) - 2) + [1.0]
    keys = jax.random.split(key, len(gains))
    return [
        (jnp.sqrt(g / m) * jax.random.normal(k, (m, n)), jnp.zeros(n))
        for k, g, (m, n) in zip(keys, gains, pairwise(sizes), strict=True)
    ]


def apply_layers(
    layers: Layers, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
) -> jax.Array:
    """Maps f32[..., inputs] to f32[..., outputs]; no activation after the last layer."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = activation(x @ w + b)
    return x @ weight + bias


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean cross entropy of logits f32[..., classes] and labels i32[...]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(
    loss: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    key: jax.Array,
    steps: int,
    learning_rate: float = 3e-3,
) -> Any:
    """Returns the parameters after steps of Adam, for a network that is fine-tuned later.

    Args:
      loss: Called as `loss(params, key)`; returns the loss of a batch that the key draws.
      params: the initial parameters.
      key: the random key.
      steps: the number of steps.
      learning_rate: of Adam.
    """
    tx = optax.adam(learning_rate)

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, key), state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(key, steps)
    return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]
