"""The task: handwritten digits, shifted by up to one pixel in each direction, and a small network.

Each of the nine shifts of a scan is an example. The shifts of one scan are all in the same part.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import Split, digits
from experiments.studies.pbt.settings import HIDDEN_UNITS

SIDE, CLASSES = 8, 10


class Parts(NamedTuple):
    """The scans at all shifts, f32[n, 64], and their labels, i32[n], on the device."""

    train: Split
    validation: Split
    test: Split


def load() -> Parts:
    """Loads the digits at all shifts."""
    data = digits.load()
    return jax.device_put(Parts(*map(shifted, (data.train, data.validation, data.test))))


def shifted(part: Split) -> Split:
    """Returns the nine shifts of each scan, with zeros at the borders.

    Example:
      >>> scans = np.zeros((2, 64), np.float32)
      >>> scans[1, 0] = 1.0
      >>> moved = shifted(Split(scans, np.array([3, 7])))
      >>> moved.inputs.shape, moved.inputs[moved.targets == 7].sum()
      ((18, 64), np.float32(4.0))
    """
    images = part.inputs.reshape(-1, SIDE, SIDE)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moved = [
        padded[:, row : row + SIDE, column : column + SIDE].reshape(-1, SIDE * SIDE)
        for row in range(3)
        for column in range(3)
    ]
    return Split(np.concatenate(moved), np.tile(part.targets, len(moved)))


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Returns the initial parameters of a network."""
    first, second = jax.random.split(key)
    return {
        "a": jax.random.normal(first, (SIDE * SIDE, HIDDEN_UNITS)) / SIDE,
        "b": jnp.zeros(HIDDEN_UNITS),
        "c": jax.random.normal(second, (HIDDEN_UNITS, CLASSES)) / HIDDEN_UNITS**0.5,
        "d": jnp.zeros(CLASSES),
    }


def loss(params: Any, examples: Split) -> jax.Array:
    """Returns the mean cross entropy in nats, f32[]."""
    logits = _logits(params, examples)
    return optax.softmax_cross_entropy_with_integer_labels(logits, examples.targets).mean()


def accuracy(params: Any, examples: Split) -> jax.Array:
    """Returns the accuracy in percent, f32[]."""
    return 100 * (_logits(params, examples).argmax(-1) == examples.targets).mean()


def _logits(params: Any, examples: Split) -> jax.Array:
    hidden = jax.nn.relu(examples.inputs @ params["a"] + params["b"])
    return hidden @ params["c"] + params["d"]
