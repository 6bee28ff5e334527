"""Permuted images, abruptly or gradually."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import Dataset, digits, mnist
from experiments.studies.plasticity.settings import Settings


class Images(NamedTuple):
    """The images of all tasks.

    Attributes:
      pixels: f32[images, pixels], from 0 to 1.
      labels: i32[images], from 0 to 9.
      source: where they are from.
    """

    pixels: np.ndarray
    labels: np.ndarray
    source: str


def load(settings: Settings) -> Images:
    """Loads images at random from the training and validation parts, the same in every run.

    Raises:
      DataError: a file is missing.
      ValueError: there are fewer images than the settings ask for.
    """
    data: Dataset
    if settings.data == "mnist":
        data, scale = mnist.load(settings.data_dir), 255.0
    else:
        data, scale = digits.load(), 1.0
    parts = data.train, data.validation
    pixels = np.concatenate([np.asarray(part.inputs) for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    if settings.images > len(labels):
        raise ValueError(
            f"--images must be at most {len(labels)} with {settings.data}, got {settings.images}"
        )
    chosen = np.random.default_rng(0).permutation(len(labels))[: settings.images]
    pixels = pixels[chosen].reshape(len(chosen), -1).astype(np.float32) / scale
    return Images(pixels, labels[chosen].astype(np.int32), data.source)


class Order(NamedTuple):
    """The pixels and examples of one task.

    Attributes:
      old: i32[pixels], the permutation at the beginning.
      new: i32[pixels], the permutation at the end.
      turn: f32[pixels], in [0, 1), the part of the task after which an input has the new pixel.
      examples: i32[steps, batch_size], the images of each batch.
    """

    old: jax.Array
    new: jax.Array
    turn: jax.Array
    examples: jax.Array


def draw_order(
    key: jax.Array,
    task: jax.Array,
    gradual: jax.Array,
    images: int,
    pixels: int,
    batch_size: int,
) -> Order:
    """Draws a task from its number. An abrupt task has one permutation from its first batch on."""

    def permutation(number: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, number), pixels)

    old, new = permutation(task), permutation(task + 1)
    turn_key, example_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), task))
    turn = jax.random.permutation(turn_key, pixels) / pixels
    steps = images // batch_size
    examples = jax.random.permutation(example_key, images)[: steps * batch_size]
    new = jnp.where(gradual, new, old)
    return Order(old, new, turn, examples.reshape(steps, batch_size))


def inputs_at(order: Order, part: jax.Array) -> jax.Array:
    """Returns i32[pixels], the pixel of each input after a part of the task."""
    return jnp.where(order.turn < part, order.new, order.old)
