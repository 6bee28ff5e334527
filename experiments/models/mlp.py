"""A multilayer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
from flax import nnx


class MLP(nnx.Module):
    """Linear layers with an activation between them.

    Args:
      sizes: of the input, the hidden layers and the output.
      activation: between layers; none after the last.
      rngs: where the weights are drawn from.

    Example:
      >>> import jax.numpy as jnp
      >>> MLP([64, 32, 10], rngs=nnx.Rngs(0))(jnp.zeros((5, 64))).shape
      (5, 10)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        rngs: nnx.Rngs,
    ):
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in pairwise(sizes)])
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """From f32[..., sizes[0]] to f32[..., sizes[-1]]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)
