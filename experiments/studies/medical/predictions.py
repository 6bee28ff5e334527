"""Probabilities of trained networks on the held-out parts, for `methods.Recipe(keep=...)`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments import tasks

BATCH = 500  # examples of a prediction


def predictions(task: tasks.Task) -> Callable[[Any, Any], dict[str, np.ndarray]]:
    """Returns a function that gives the probabilities of the classes on both held-out parts.

    The program is compiled once for all trainings.

    Args:
      task: a classification task.

    Returns:
      Called as `keep(params, model_state)` with networks whose leaves have a leading axis of
      seeds; returns "validation", f32[seeds, n, classes], and "test", f32[seeds, m, classes].
    """
    graph = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))), nnx.Param, ...)[0]

    @jax.jit
    def predict(params: Any, model_state: Any, inputs: jax.Array) -> jax.Array:
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        return task.predict(model, inputs)

    def probabilities(network: Any, inputs: np.ndarray) -> np.ndarray:
        count = len(inputs)
        padded = inputs[np.resize(np.arange(count), -(-count // BATCH) * BATCH)]  # one program
        batches = padded.reshape(-1, BATCH, *inputs.shape[1:])
        return np.concatenate([np.asarray(predict(*network, each)) for each in batches])[:count]

    def keep(params: Any, model_state: Any) -> dict[str, np.ndarray]:
        seeds = len(jax.tree.leaves(params)[0])
        networks = [
            jax.tree.map(lambda leaf, seed=seed: leaf[seed], (params, model_state))
            for seed in range(seeds)
        ]
        parts = {"validation": task.validation, "test": task.test}
        return {
            name: np.stack([probabilities(each, part.arrays.inputs) for each in networks])
            for name, part in parts.items()
        }

    return keep
