"""The temporal convolution network of Bai, Kolter & Koltun (2018, arXiv:1803.01271).

    x -> block with dilation 1 -> block with dilation 2 -> 4 -> ... -> linear, at each time
    block: relu(x + y), where y applies [causal convolution, ReLU, dropout] twice

Convolutions are causal and weight-normalized (Salimans & Kingma 2016, arXiv:1602.07868):
w = g v / |v|, with one gain g per output channel. If a block changes the number of channels, its
shortcut is a convolution of one time step. With kernels of k steps and L blocks, an output depends
on the last 1 + 2 (k - 1) (2^L - 1) inputs.

The authors' model for MNIST as a sequence of pixels, 8 blocks of 25 channels with k = 7, has 66,910
parameters including gains (published: 70K). Dropout drops whole channels, as in the paper; the
authors' code drops single numbers. As in that code, v is initialized uniformly with variance
1 / (3 fan-in), and g to |v|, so that w equals v initially.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from experiments.models import checks
from experiments.models.convolution import convolve
from experiments.models.dropout import Dropout, split
from experiments.models.precision import at_least_float32

_UNIFORM = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class TCN(nnx.Module):
    """A causal convolutional network for series.

    Args:
      features: number of features per time step.
      channels: channels of each block; block i has dilation 2**i.
      outputs: number of outputs per time step.
      kernel: number of time steps of a convolution.
      dropout: dropout rate after each convolution, in [0, 1).
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> model = TCN(3, [8, 8], 1, kernel=3, rngs=nnx.Rngs(0))
      >>> model(jnp.zeros((5, 20, 3))).shape
      (5, 20, 1)
      >>> model.receptive_field
      13
    """

    def __init__(
        self,
        features: int,
        channels: Sequence[int],
        outputs: int,
        *,
        kernel: int = 7,
        dropout: float = 0.0,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        last = checks.integer("features", features)
        self.kernel = checks.integer("kernel", kernel)
        dtype = checks.dtype("dtype", dtype)
        if not channels:
            raise ValueError(f"channels must hold at least one number, got {channels!r}")
        self.blocks = nnx.List([])
        for i, width in enumerate(channels):
            checks.integer("channels", width)
            block = _Block(last, width, self.kernel, 2**i, dropout=dropout, dtype=dtype, rngs=rngs)
            self.blocks.append(block)
            last = width
        self.head = nnx.Linear(last, checks.integer("outputs", outputs), dtype=dtype, rngs=rngs)

    @property
    def receptive_field(self) -> int:
        """Number of time steps that an output depends on, its own included."""
        return 1 + 2 * (self.kernel - 1) * (2 ** len(self.blocks) - 1)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps f32[batch, time, features] to f32[batch, time, outputs].

        Args:
          x: series.
          key: random key of dropout; required in training if the dropout rate is not zero.
        """
        for block, own in zip(self.blocks, split(key, len(self.blocks)), strict=True):
            x = block(x, own)
        return at_least_float32(self.head(x))


class _Block(nnx.Module):
    def __init__(
        self,
        inputs: int,
        width: int,
        kernel: int,
        dilation: int,
        *,
        dropout: float,
        dtype: jax.typing.DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.first, self.second = (
            CausalConvolution(size, width, kernel, dilation=dilation, dtype=dtype, rngs=rngs)
            for size in (inputs, width)
        )
        self.dropout = Dropout(dropout, broadcast_dims=(-2,))
        small = nnx.initializers.normal(0.01)
        self.shortcut = (
            None
            if inputs == width
            else nnx.Linear(inputs, width, dtype=dtype, kernel_init=small, rngs=rngs)
        )

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        y = x
        for convolution, own in zip((self.first, self.second), split(key, 2), strict=True):
            y = self.dropout(nnx.relu(convolution(y)), own)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return nnx.relu(shortcut + y)


class CausalConvolution(nnx.Module):
    """A causal convolution with weight normalization.

    Args:
      inputs: number of input channels.
      outputs: number of output channels.
      kernel: number of time steps.
      dilation: distance between the time steps.
      dtype: dtype of the computation; None for the dtype of inputs and parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> layer = CausalConvolution(1, 1, 2, dilation=3, rngs=nnx.Rngs(0))
      >>> (layer(jnp.eye(1, 6)[..., None]) != 0)[0, :, 0]
      Array([ True, False, False,  True, False, False], dtype=bool)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        for name, value in {"inputs": inputs, "outputs": outputs, "kernel": kernel}.items():
            checks.integer(name, value)
        self.dilation = checks.integer("dilation", dilation)
        self.past = (kernel - 1) * dilation
        self.dtype = checks.dtype("dtype", dtype)
        self.direction = nnx.Param(_UNIFORM(rngs.params(), (kernel, inputs, outputs)))
        self.gain = nnx.Param(_norm(self.direction[...]))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps f[batch, time, inputs] to f[batch, time, outputs]."""
        direction = self.direction[...]
        weight = self.gain[...] * direction / _norm(direction)
        x, weight, bias = promote_dtype((x, weight, self.bias[...]), dtype=self.dtype)
        convolved = convolve(x, weight, (1,), [(self.past, 0)], rhs_dilation=(self.dilation,))
        return convolved + bias


def _norm(direction: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(direction).sum((0, 1)))
