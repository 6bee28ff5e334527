"""Random crops and flips of training images, as for residual networks on CIFAR-10.

Source: K. He, X. Zhang, S. Ren, J. Sun 2015, arXiv:1512.03385, section 4.2: 4 pixels are padded on
each side, and a random crop of the padded image or its mirror image is taken.
"""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.data import Split
from experiments.tasks import Task

PADDING = 4


def augmented(task: Task) -> Task:
    """Returns the task with random crops and flips in training, and none in evaluations."""

    def scores(model: Any, batch: Split, key: jax.Array | None) -> dict[str, jax.Array]:
        if key is None:
            return task.scores(model, batch, None)
        crops, others = jax.random.split(key)
        return task.scores(model, batch._replace(inputs=crop_and_flip(crops, batch.inputs)), others)

    return task._replace(scores=scores)


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Returns each image moved by up to `PADDING` pixels, with zeros at its edges, half mirrored.

    Args:
      key: random key.
      images: [n, height, width, channels], normalized, so that zero is the mean.
    """
    padding = (PADDING, PADDING)
    padded = jnp.pad(images, ((0, 0), padding, padding, (0, 0)))

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        places, side = jax.random.split(key)
        row, column = jax.random.randint(places, (2,), 0, 2 * PADDING + 1)
        crop = jax.lax.dynamic_slice(image, (row, column, 0), images.shape[1:])
        return jnp.where(jax.random.bernoulli(side), crop[:, ::-1], crop)

    return jax.vmap(one)(jax.random.split(key, len(images)), padded)
