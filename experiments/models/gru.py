"""A layer of gated recurrent units (Cho et al. 2014, arXiv:1406.1078, section 2.3).

    r = sigmoid(W_r x + U_r h + b_r)
    z = sigmoid(W_z x + U_z h + b_z)
    h <- z * h + (1 - z) * tanh(W x + U (r * h) + b)

The paper leaves biases out of its equations "to make them less cluttered"; here each of the three
equations has one, which gives 3 (inputs + width + 1) width parameters. PyTorch and cuDNN compute
r * (U h + b') instead, with a second bias. As in Keras, W is initialized from Glorot's uniform
distribution, each U is orthogonal, and biases are zero.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from experiments.models.lstm import orthogonal_gates
from experiments.models.precision import at_least_float32


class GRU(nnx.Module):
    """One recurrent layer.

    Args:
      inputs: number of input features.
      width: number of state and output features.
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> outputs, hidden = GRU(3, 8, rngs=nnx.Rngs(0))(jnp.zeros((5, 20, 3)))
      >>> outputs.shape, hidden.shape
      ((5, 20, 8), (5, 8))
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        checks.integer("inputs", inputs)
        self.width = checks.integer("width", width)
        self.dtype = checks.dtype("dtype", dtype)
        self.inputs = nnx.Linear(
            inputs,
            3 * width,
            dtype=self.dtype,
            kernel_init=nnx.initializers.glorot_uniform(),
            rngs=rngs,
        )
        self.gates, self.candidate = (
            nnx.Linear(
                width,
                columns,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=orthogonal_gates,
                rngs=rngs,
            )
            for columns in (2 * width, width)
        )

    def start(self, batch: int) -> jax.Array:
        """Returns the state before the first step: f32[batch, width] of zeros."""
        return jnp.zeros((batch, self.width), jnp.float32)

    def __call__(
        self, x: jax.Array, hidden: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Maps f[batch, time, inputs] to f[batch, time, width] and the state at the end.

        Args:
          x: inputs.
          hidden: f32[batch, width], the state at the start, or None for zeros.
        """

        def step(hidden: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
            to_gates, to_candidate = jnp.split(projected, [2 * self.width], axis=-1)
            gates = nnx.sigmoid(at_least_float32(to_gates + self.gates(hidden)))
            r, z = jnp.split(gates, 2, axis=-1)
            candidate = jnp.tanh(at_least_float32(to_candidate + self.candidate(r * hidden)))
            # Kept in float32: where z is near 1, the new state is a small step from the old.
            hidden = z * hidden + (1 - z) * candidate
            return hidden, hidden.astype(projected.dtype)

        if hidden is None:
            hidden = self.start(len(x))
        # The inputs' part does not wait for the state: one product for all times.
        projected = jnp.moveaxis(self.inputs(x), 1, 0)
        wide = jnp.promote_types(projected.dtype, jnp.float32)
        hidden, outputs = jax.lax.scan(step, hidden.astype(wide), projected)
        return jnp.moveaxis(outputs, 0, 1), hidden
