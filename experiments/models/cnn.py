"""A small convolutional classifier: Keras's "Simple MNIST convnet".

    x -> [conv 3x3, ReLU, max-pool 2x2] for each of `channels` -> dropout -> linear

Convolutions use "valid" padding, and pools drop odd rows and columns. With 28x28 gray images,
channels (32, 64) and 10 classes, this is the published model, with 34,826 parameters and 99% test
accuracy on MNIST in 15 epochs
(F. Chollet 2015, keras.io/examples/vision/mnist_convnet, where dropout is 0.5).
"""

from collections.abc import Sequence

import jax
from flax import nnx

from experiments.models import checks
from experiments.models.convolution import convolve
from experiments.models.dropout import Dropout
from experiments.models.precision import at_least_float32

_GLOROT = nnx.initializers.glorot_uniform()


class CNN(nnx.Module):
    """Convolutions with pooling, then one linear layer.

    Args:
      shape: (height, width, channels) of an image, large enough to leave one pixel at the end.
      channels: output channels of each convolution.
      classes: number of logits.
      dropout: dropout rate before the last layer, in [0, 1).
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights: Glorot uniform as in Keras, with zero biases.

    Example:
      >>> import jax.numpy as jnp
      >>> CNN(rngs=nnx.Rngs(0))(jnp.zeros((5, 28, 28, 1))).shape
      (5, 10)
    """

    def __init__(
        self,
        shape: Sequence[int] = (28, 28, 1),
        channels: Sequence[int] = (32, 64),
        classes: int = 10,
        *,
        dropout: float = 0.0,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        if len(shape) != 3:
            raise ValueError(f"shape must be (height, width, channels), got {shape!r}")
        height, width, last = (checks.integer("shape", size) for size in shape)
        dtype = checks.dtype("dtype", dtype)
        self.convolutions = nnx.List([])
        for size in channels:
            convolution = nnx.Conv(
                last,
                checks.integer("channels", size),
                (3, 3),
                padding="VALID",
                dtype=dtype,
                conv_general_dilated=convolve,
                kernel_init=_GLOROT,
                rngs=rngs,
            )
            self.convolutions.append(convolution)
            height, width, last = (height - 2) // 2, (width - 2) // 2, size
        if min(height, width) < 1:
            smallest = 3 * 2 ** len(channels) - 2
            raise ValueError(
                f"shape must have sides in [{smallest}, inf) for {len(channels)} convolutions, "
                f"got {shape!r}"
            )
        self.dropout = Dropout(dropout)
        self.head = nnx.Linear(
            height * width * last,
            checks.integer("classes", classes),
            dtype=dtype,
            kernel_init=_GLOROT,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps images f32[batch, *shape] to logits f32[batch, classes].

        Args:
          x: images.
          key: random key of dropout; required in training if the dropout rate is not zero.
        """
        for convolution in self.convolutions:
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), (2, 2))
        x = self.dropout(x.reshape(len(x), -1), key)
        return at_least_float32(self.head(x))
