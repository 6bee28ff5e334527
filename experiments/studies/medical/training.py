"""Training of a network with a self-tuning optimizer, and its predictions on the held-out parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks
from experiments.data.batches import Batches, data_seeds
from experiments.studies.medical.settings import BATCH_SIZES, Settings

BATCH = 500  # examples of a prediction
STATISTICS_BATCH, STATISTICS_EXAMPLES = 256, 2_048  # to re-estimate statistics of BatchNorm


class Trained(NamedTuple):
    """The network with the lowest validation loss of a training.

    Attributes:
      validation: f32[n, 2], its probabilities of the classes on the validation part.
      test: f32[m, 2], its probabilities on the test part.
      step: i64[], the number of steps after which it was taken.
      loss: f64[], its validation loss, as it was trained.
    """

    validation: np.ndarray
    test: np.ndarray
    step: np.ndarray
    loss: np.ndarray


def train(
    settings: Settings, run: runner.Run, task: tasks.Task, series: str, progress: runner.Progress
) -> Trained:
    """Trains, and evaluates the average of the parameters after each chunk."""
    length = settings.length
    trainer = runner.trainer(
        task.build,
        task.batch_of,
        task.scores,
        jd.self_tuning(optax.adamw),
        side_by_side=task.side_by_side,
    )
    batch_size = BATCH_SIZES[settings.data_name]
    seeds = data_seeds(settings.seed, 1)
    batches = Batches(task.train.examples, batch_size, seeds=seeds)
    state = trainer.start(jax.random.split(jax.random.key(settings.seed), 1))
    program = runner.Program(
        trainer.chunk,
        state,
        steps_per_chunk=length.every,
        feed=batches.chunk(0, length.every),
        constants=(task.train.arrays,),
        calls=length.every if task.side_by_side == "unrolled" else 1,
    )
    loop = runner.Loop(
        run,
        series,
        program,
        state,
        chunks=length.evaluations,
        batches=batches,
        progress=progress,
    )
    arrays = jax.device_put(task.validation.arrays)
    for chunk in loop:
        model = _averaged(trainer, task, chunk.carry)
        found = trainer.evaluate(
            model["params"], model["model_state"], arrays, task.validation.evaluation_indices
        )
        loss = float(found["loss"][0])
        loop.log(loss=chunk.metrics.mean(), validation_loss=loss)
        loop.update_best(loss, keep=model)
    last = _averaged(trainer, task, loop.carry)
    network = jax.tree.map(lambda leaf: leaf[0], loop.best(last) or last)
    probabilities = predictor(task, **network)
    return Trained(
        probabilities(task.validation.arrays.inputs),
        probabilities(task.test.arrays.inputs),
        np.asarray(loop.best_step),
        np.asarray(loop.best_value),
    )


def predictor(
    task: tasks.Task, params: Any, model_state: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that gives the probabilities f32[n, classes] of inputs as stored."""
    graph = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))), nnx.Param, ...)[0]

    @jax.jit
    def predict(inputs: jax.Array) -> jax.Array:
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        return task.predict(model, inputs)

    def probabilities(inputs: np.ndarray) -> np.ndarray:
        count, size = len(inputs), min(BATCH, len(inputs))
        padded = inputs[np.resize(np.arange(count), -(-count // size) * size)]  # one program
        batches = padded.reshape(-1, size, *inputs.shape[1:])
        return np.concatenate([np.asarray(predict(each)) for each in batches])[:count]

    return probabilities


def _averaged(trainer: runner.Trainer, task: tasks.Task, state: runner.TrainState) -> Any:
    """Returns "params" and "model_state" at the average of the parameters."""
    params, model_state = jd.averaged_params(state.opt_state, state.params), state.model_state
    if jax.tree.leaves(nnx.filter_state(model_state, nnx.BatchStat)):
        examples = tasks.subsample(np.arange(task.train.examples), STATISTICS_EXAMPLES)
        arrays = jax.device_put(task.pick(task.train.arrays, examples))
        count = -(-len(examples) // STATISTICS_BATCH)
        parts = np.array_split(np.arange(len(examples), dtype=np.int32), count)
        model_state = jd.reestimate_statistics(
            trainer.model_state_after, params, model_state, [(arrays, each) for each in parts]
        )
    return {"params": params, "model_state": model_state}
