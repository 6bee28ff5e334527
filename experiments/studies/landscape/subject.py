"""The subject of a landscape: a trained network, its losses and its trajectory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import runner, tasks
from experiments.studies.landscape.settings import EXAMPLES, Settings
from experiments.studies.train import saved_runs


class Subject(NamedTuple):
    """A network of a saved run, with its losses.

    Attributes:
      saved: the run.
      loss_fn: Called as `loss_fn(params, batch)`; returns the mean loss.
      metric_fn: Called as `metric_fn(params, batch)`; returns the accuracy in percent. `None` if
        the task has no accuracy.
      batch: arrays, indices `i32[examples]` and the model's other state.
      last: the last parameters of the first network.
      steps: `i64[n]`, the steps of the trajectory, ascending; `last` is the last one.
      trajectory: the parameters at `steps`, with a leading axis.
    """

    saved: saved_runs.SavedRun
    loss_fn: Any
    metric_fn: Any
    batch: Any
    last: Any
    steps: np.ndarray
    trajectory: Any


def load_subject(settings: Settings) -> Subject:
    """Loads the run, with a trajectory from the initial parameters to the newest checkpoint.

    Raises:
      RunError: the last parameters are not finite.
    """
    saved = saved_runs.load(settings.saved, data_dir=settings.data_dir)
    max_count = settings.examples or EXAMPLES[settings.scale]
    examples = np.arange(saved.task.train.examples)
    indices = tasks.subsample(examples, max_count).astype(np.int32)
    last = saved.network(0)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(last["params"])):
        raise runner.RunError(
            f"{settings.saved} diverged: its parameters at step {saved.step:,} are not finite"
        )
    batch = jax.device_put((saved.task.train.arrays, indices, last["model_state"]))
    mean_scores = _mean_scores(saved.task, settings.statistics)

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        return mean_scores(params, batch)["loss"]

    def accuracy_fn(params: Any, batch: Any) -> jax.Array:
        return mean_scores(params, batch)["accuracy"]

    has_accuracy = "accuracy" in jax.eval_shape(mean_scores, last["params"], batch)
    networks = dict(zip(saved.trajectory.steps.tolist(), saved.trajectory.trees, strict=True))
    if saved.initial is not None and 0 not in networks:
        networks[0] = jax.tree.map(lambda leaf: leaf[0], saved.initial)
    networks[saved.step] = last
    steps = sorted(networks)
    return Subject(
        saved,
        loss_fn,
        accuracy_fn if has_accuracy else None,
        batch,
        jax.device_put(last["params"]),
        np.array(steps),
        jax.device_put(saved_runs.stack([networks[step]["params"] for step in steps])),
    )


def _mean_scores(task: tasks.Task, statistics: str) -> Any:
    """Returns a function of (params, batch) that averages the task's scores over the batch."""
    shapes = nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    graph = nnx.split(shapes, nnx.Param, ...)[0]

    def mean_scores(params: Any, batch: Any) -> dict[str, jax.Array]:
        arrays, indices, model_state = batch
        # A copy, because variables of an outer trace cannot be written to in this one.
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        if statistics == "batch":
            model.set_attributes(use_running_average=False, raise_if_not_found=False)
        scores = task.scores(model, task.batch_of(arrays, indices), None)
        return jax.tree.map(jnp.mean, scores)

    return mean_scores
