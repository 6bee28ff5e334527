"""The residual network for CIFAR of He et al. (2015, arXiv:1512.03385, section 4.2).

    x -> conv 3x3, 16 -> n blocks of 16 -> n of 32 -> n of 64 -> mean over pixels -> linear
    a block: relu(shortcut(x) + BN(conv(relu(BN(conv(x))))))

The depth is 6n + 2. The first block of the second and third stage has stride 2. Its shortcut is
option A of the paper: every second pixel, zeros in the new channels, no parameters. Convolutions
have no bias. Weights are normal with variance 2 / fan-in (He et al. 2015, arXiv:1502.01852).
ResNet-20 has 269,722 parameters (published: 0.27M) and a published error of 8.75% on CIFAR-10.

Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167) keeps its running statistics
in `nnx.BatchStat`, in float32: `running = momentum * running + (1 - momentum) * batch`,
so that 0.9 here is 0.1 in PyTorch. The variance is divided by n, not n - 1.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from experiments.models.convolution import convolve
from experiments.models.precision import at_least_float32

_STAGES = (16, 32, 64)
_HE = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class ResNet(nnx.Module):
    """A residual network for small images.

    `train()`, the default, normalizes by the batch and updates the running statistics; `eval()`
    normalizes by the running statistics. In functional code the statistics are state that a
    loss returns beside its value, with an agent axis under `jax.vmap`. `copy=True` is required
    because Flax forbids writes to outer variables inside a gradient:

      >>> model = ResNet(8, rngs=nnx.Rngs(0))
      >>> graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
      >>> def loss(params, statistics, images):
      ...     model = nnx.merge(graph, params, statistics, copy=True)
      ...     return model(images).mean(), nnx.state(model, nnx.BatchStat)
      >>> slope = jax.jit(jax.grad(loss, has_aux=True))
      >>> grads, statistics = slope(params, statistics, jnp.zeros((5, 8, 8, 3)))

    Args:
      depth: 6n + 2: 20, 32, 44, 56 or 110 in the paper.
      channels: channels of the images.
      classes: number of logits.
      momentum: decay of the running statistics per step, in [0, 1).
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.
    """

    def __init__(
        self,
        depth: int = 20,
        *,
        channels: int = 3,
        classes: int = 10,
        momentum: float = 0.9,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        blocks, rest = divmod(checks.integer("depth", depth) - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 2 with n in [1, inf), got {depth!r}")
        checks.integer("channels", channels)
        checks.integer("classes", classes)
        momentum = checks.rate("momentum", momentum)
        dtype = checks.dtype("dtype", dtype)
        self.stem = _NormedConvolution(
            channels, _STAGES[0], momentum=momentum, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List([])
        last = _STAGES[0]
        for width in _STAGES:
            for _ in range(blocks):
                block = _Block(last, width, momentum=momentum, dtype=dtype, rngs=rngs)
                self.blocks.append(block)
                last = width
        self.head = nnx.Linear(last, classes, dtype=dtype, kernel_init=_HE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images f32[batch, height, width, channels] to logits f32[batch, classes]."""
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return at_least_float32(self.head(x.mean((1, 2))))


class _Block(nnx.Module):
    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        momentum: float,
        dtype: jax.typing.DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.stride = 1 if inputs == width else 2
        self.first = _NormedConvolution(
            inputs, width, stride=self.stride, momentum=momentum, dtype=dtype, rngs=rngs
        )
        self.second = _NormedConvolution(width, width, momentum=momentum, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(shortcut(x, y.shape[-1], self.stride) + y)


def shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
    """Option A of the paper: subsamples pixels and pads channels with zeros.

    Args:
      x: f[batch, height, width, channels].
      width: number of output channels.
      stride: distance between the pixels that are kept.

    Example:
      >>> shortcut(jnp.ones((1, 4, 4, 2)), 3, 2)[0, 0, 0]
      Array([1., 1., 0.], dtype=float32)
    """
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, [(0, 0)] * 3 + [(0, width - x.shape[-1])])


class _NormedConvolution(nnx.Module):
    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int = 1,
        momentum: float,
        dtype: jax.typing.DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        # With stride 2, "SAME" would pad an even image at one edge only.
        self.convolution = nnx.Conv(
            inputs,
            width,
            (3, 3),
            stride,
            padding=1,
            use_bias=False,
            dtype=dtype,
            kernel_init=_HE,
            conv_general_dilated=convolve,
            rngs=rngs,
        )
        # Without dtype: Flax would round the running statistics to it.
        self.norm = nnx.BatchNorm(width, momentum=momentum, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.convolution(x)
        return self.norm(y).astype(y.dtype)
