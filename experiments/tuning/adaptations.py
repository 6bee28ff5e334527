"""Changes of supervised tasks: other targets, or another division of the examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.mlp import MLP
from experiments.tasks import Part, Task, subsample

BOTTLENECK = 12
EVALUATED = 1_000  # images of each held-out part


class Autoencoder(nnx.Module):
    """An MLP through a bottleneck whose outputs, between 0 and 1, have the inputs' size."""

    def __init__(self, size: int, *, rngs: nnx.Rngs):
        self.mlp = MLP([size, 64, BOTTLENECK, 64, size], rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps f32[batch, size] to f32[batch, size]."""
        return jax.nn.sigmoid(self.mlp(x))


def autoencoding(task: Task) -> Task:
    """Returns the task of reproducing images of bytes: the squared error of pixels in [0, 1]."""
    size = int(np.prod(task.train.arrays.inputs.shape[1:]))

    def build(rngs: nnx.Rngs) -> Autoencoder:
        return Autoencoder(size, rngs=rngs)

    def prepare(examples: Any) -> jax.Array:
        return examples.inputs.reshape(len(examples.inputs), size).astype(jnp.float32) / 255

    def scores(model: Any, batch: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        del key
        return {"loss": jnp.mean((model(batch) - batch) ** 2, -1)}

    def fewer(part: Part) -> Part:
        return part._replace(evaluation_indices=subsample(part.evaluation_indices, EVALUATED))

    held_out = {"validation": fewer(task.validation), "test": fewer(task.test)}
    return task._replace(build=build, prepare=prepare, scores=scores, **held_out)


def shuffled(task: Task) -> Task:
    """Returns the task with all examples divided at random, for a stream whose time is ignored."""
    parts = (task.train, task.validation, task.test)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(p.arrays for p in parts))
    order = np.random.default_rng(0).permutation(sum(part.examples for part in parts))
    ends = np.cumsum([part.examples for part in parts])
    chosen = np.split(order, ends[:-1])
    train, validation, test = (
        Part(
            jax.tree.map(lambda leaf, i=indices: leaf[i], joined),
            len(indices),
            part.evaluation_indices,
        )
        for part, indices in zip(parts, chosen, strict=True)
    )
    return task._replace(train=train, validation=validation, test=test)
