"""Evaluates networks of a task on its validation and its test part."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks

STATISTICS_EXAMPLES, STATISTICS_BATCH = 2_048, 256  # to re-estimate statistics of BatchNorm


def model_of(state: runner.TrainState) -> dict[str, Any]:
    """Returns "params" and "model_state" of all networks, without the optimizer's state."""
    return {"params": state.params, "model_state": state.model_state}


class Evaluator:
    """Evaluates the validation and the test part. Returns NumPy arrays `f32[seeds]` by name.

    Args:
      trainer: evaluates networks on examples.
      task: has the data.
      max_count: the most examples of a part to evaluate on; by default all.
      mesh: of the networks; by default they are on one device.

    Attributes:
      seconds: time spent in evaluations by this process.
    """

    def __init__(
        self,
        trainer: runner.Trainer,
        task: tasks.Task,
        max_count: int | None = None,
        mesh: runner.Mesh | None = None,
    ):
        self._evaluate, self.seconds = trainer.evaluate, 0.0
        self._model_state_after = trainer.model_state_after
        # The arrays are moved to the device once, not in each evaluation.
        self._parts = {
            id(part): (
                jax.device_put(part.arrays, mesh and mesh.replicated),
                tasks.subsample(part.evaluation_indices, max_count),
            )
            for part in (task.validation, task.test)
        }

        examples = tasks.subsample(np.arange(task.train.examples), STATISTICS_EXAMPLES)
        self._examples = partial(task.pick, task.train.arrays, examples)
        count = -(-len(examples) // STATISTICS_BATCH)
        self._batches = np.array_split(np.arange(len(examples), dtype=np.int32), count)

    def model_of(
        self, state: runner.TrainState, averages: Callable[[Any, Any], Any] | None
    ) -> dict[str, Any]:
        """Returns the models to evaluate: at the average of the parameters, if there is one.

        Statistics of a batch normalization are re-estimated at the average: the running statistics
        are of the last parameters, and of those that a restart has undone.

        Args:
          state: of the training.
          averages: called as `averages(opt_state, params)` with the states of all networks;
            returns their averages. By default networks are evaluated at their parameters.
        """
        model = model_of(state)
        if averages is None:
            return model
        params = averages(state.opt_state, state.params)
        if not jax.tree.leaves(nnx.filter_state(state.model_state, nnx.BatchStat)):
            return {**model, "params": params}
        began = time.perf_counter()
        arrays = jax.device_put(self._examples())
        model_state = jd.reestimate_statistics(
            self._model_state_after,
            params,
            state.model_state,
            [(arrays, indices) for indices in self._batches],
        )
        self.seconds += time.perf_counter() - began
        return {"params": params, "model_state": model_state}

    def __call__(self, part: tasks.Part, params: Any, model_state: Any) -> dict[str, np.ndarray]:
        """Returns the scores of the networks, or an empty dict if the part is empty."""
        if not len(part.evaluation_indices):
            return {}
        began = time.perf_counter()
        scores = jax.device_get(self._evaluate(params, model_state, *self._parts[id(part)]))
        self.seconds += time.perf_counter() - began
        return scores

    def count(self, part: tasks.Part) -> int:
        """Returns the number of examples that an evaluation of the part uses."""
        return len(self._parts[id(part)][1])
