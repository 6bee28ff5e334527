"""The network of the quickstart, a multilayer perceptron, its loss and its data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.data import Split, digits
from experiments.models.mlp import MLP

SIZES = (64, 64, 10)


class Parts(NamedTuple):
    """The images of 8 x 8 pixels, f32[n, 64], and their labels, i32[n], on the device."""

    train: Split
    validation: Split
    test: Split


def load() -> Parts:
    """Loads the handwritten digits."""
    data = digits.load()
    return jax.device_put(Parts(data.train, data.validation, data.test))


def init(key: jax.Array) -> Any:
    """Returns the initial parameters of a network."""
    return nnx.split(MLP(SIZES, rngs=nnx.Rngs(key)))[1]


def loss(params: Any, examples: Split) -> jax.Array:
    """Returns the mean cross entropy, f32[]."""
    logits = _logits(params, examples)
    return optax.softmax_cross_entropy_with_integer_labels(logits, examples.targets).mean()


def accuracy(params: Any, examples: Split) -> jax.Array:
    """Returns the accuracy in percent, f32[]; 0 if the network's outputs are not finite."""
    logits = _logits(params, examples)
    right = (logits.argmax(-1) == examples.targets) & jnp.isfinite(logits).all(-1)
    return 100 * right.mean()


def _logits(params: Any, examples: Split) -> jax.Array:
    graph = nnx.graphdef(nnx.eval_shape(lambda: MLP(SIZES, rngs=nnx.Rngs(0))))
    return nnx.merge(graph, params)(examples.inputs)
