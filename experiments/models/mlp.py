"""A multilayer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
from flax import nnx

from experiments.models import checks
from experiments.models.precision import at_least_float32


class MLP(nnx.Module):
    """Linear layers with an activation between layers.

    Args:
      sizes: sizes of the input, the hidden layers and the output; at least two.
      activation: applied after every layer except the last.
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.

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
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least two numbers, got {sizes!r}")
        sizes = [checks.integer("sizes", size) for size in sizes]
        dtype = checks.dtype("dtype", dtype)
        self.layers = nnx.List(
            [nnx.Linear(m, n, dtype=dtype, rngs=rngs) for m, n in pairwise(sizes)]
        )
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps f32[..., sizes[0]] to f32[..., sizes[-1]]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return at_least_float32(last(x))
