"""A layer of long short-term memory (Hochreiter & Schmidhuber 1997, 10.1162/neco.1997.9.8.1735).

In the form of Zaremba et al. 2014 (arXiv:1409.2329): with forget gates, without peepholes,

    i, f, g, o = split(W x + U h + b)
    c <- sigmoid(f) * c + sigmoid(i) * tanh(g)
    h <- sigmoid(o) * tanh(c)

Each gate has one bias, which gives 4 (inputs + width + 1) width parameters; PyTorch and cuDNN add a
redundant second bias. The bias of the forget gate is initialized to 1 (Gers et al. 2000,
10.1162/089976600300015015; Jozefowicz et al. 2015). As in Keras, W is initialized from Glorot's
uniform distribution, and U of each gate is orthogonal.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from experiments.models.precision import at_least_float32
from jaxdescent import validation


class LSTMCarry(NamedTuple):
    """State of a layer between time steps.

    Attributes:
      hidden: f[batch, width], in the dtype of the computation.
      cell: f32[batch, width]; a sum over time, for which bfloat16 is too coarse.
    """

    hidden: jax.Array
    cell: jax.Array


class LSTM(nnx.Module):
    """One recurrent layer.

    Args:
      inputs: number of input features.
      width: number of state and output features.
      forget_bias: initial bias of the forget gate.
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> outputs, carry = LSTM(3, 8, rngs=nnx.Rngs(0))(jnp.zeros((5, 20, 3)))
      >>> outputs.shape, carry.cell.shape
      ((5, 20, 8), (5, 8))
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        forget_bias: float = 1.0,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        checks.integer("inputs", inputs)
        self.width = checks.integer("width", width)
        self.dtype = checks.dtype("dtype", dtype)
        forget_bias = float(validation.finite_array("forget_bias", forget_bias))
        self.inputs = nnx.Linear(
            inputs,
            4 * width,
            dtype=self.dtype,
            kernel_init=nnx.initializers.glorot_uniform(),
            bias_init=partial(_bias, forget_bias),
            rngs=rngs,
        )
        self.recurrent = nnx.Linear(
            width,
            4 * width,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=orthogonal_gates,
            rngs=rngs,
        )

    def start(self, batch: int) -> LSTMCarry:
        """Returns the state before the first step: zeros."""
        shape = batch, self.width
        # Not zeros' own default, which is float64 where that is enabled.
        dtype = self.dtype or self.inputs.kernel[...].dtype
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, jnp.float32))

    def __call__(self, x: jax.Array, carry: LSTMCarry | None = None) -> tuple[jax.Array, LSTMCarry]:
        """Maps f[batch, time, inputs] to f[batch, time, width] and the state at the end.

        Args:
          x: inputs.
          carry: initial state, or None for zeros.
        """

        def step(carry: LSTMCarry, projected: jax.Array) -> tuple[LSTMCarry, jax.Array]:
            gates = at_least_float32(projected + self.recurrent(carry.hidden))
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            cell = nnx.sigmoid(f) * carry.cell + nnx.sigmoid(i) * jnp.tanh(g)
            hidden = (nnx.sigmoid(o) * jnp.tanh(cell)).astype(projected.dtype)
            return LSTMCarry(hidden, cell), hidden

        # The input projection does not depend on the state: one product for all times.
        projected = jnp.moveaxis(self.inputs(x), 1, 0)
        wide = jnp.promote_types(projected.dtype, jnp.float32)
        hidden, cell = self.start(len(x)) if carry is None else carry
        carry = LSTMCarry(hidden.astype(projected.dtype), cell.astype(wide))
        carry, outputs = jax.lax.scan(step, carry, projected)
        return jnp.moveaxis(outputs, 0, 1), carry


def _bias(
    forget_bias: float, key: jax.Array, shape: tuple[int], dtype: jax.typing.DTypeLike
) -> jax.Array:
    del key
    return jnp.zeros((4, shape[0] // 4), dtype).at[1].set(forget_bias).ravel()


def orthogonal_gates(
    key: jax.Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike
) -> jax.Array:
    """Returns f[width, gates * width], one orthogonal matrix per gate.

    Example:
      >>> kernel = orthogonal_gates(jax.random.key(0), (4, 8), jnp.float32)
      >>> second = kernel[:, 4:]
      >>> bool(jnp.allclose(second.T @ second, jnp.eye(4), atol=1e-6))
      True
    """
    width, columns = shape
    gates = jax.random.orthogonal(key, width, (columns // width,), dtype)
    return jnp.concatenate(list(gates), axis=1)
