"""Training of the networks of a fold, selected by validation loss after each epoch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks
from experiments.data.batches import Batches, data_seeds
from experiments.runner.log import mean_of_finite
from experiments.studies.forecasting.evaluation import Forecasts, SeriesFold
from experiments.studies.forecasting.networks import make_task
from experiments.studies.forecasting.settings import BATCH_SIZE, Settings


class Method(NamedTuple):
    """A way to train.

    Attributes:
      make: returns the optimizer.
      averages: True if the network is evaluated at the average of its parameters.
    """

    make: Callable[[], optax.GradientTransformation]
    averages: bool


METHODS = {
    "network, self-tuning": Method(lambda: jd.self_tuning(optax.adam), True),
    "network, Adam 1e-3": Method(lambda: optax.adam(1e-3), False),
}


class Trained(NamedTuple):
    """The network with the lowest validation loss of all epochs.

    Attributes:
      validation: f32[n, horizons, ...], its predictions on the validation part.
      test: f32[n, horizons, ...], its predictions on the test part.
      loss: f64[], its validation loss.
      epoch: i64[], the epoch from which it is taken.
    """

    validation: np.ndarray
    test: np.ndarray
    loss: np.ndarray
    epoch: np.ndarray


def total_steps(folds: Sequence[SeriesFold], settings: Settings) -> int:
    """Returns the number of steps of all trainings."""
    per_epoch = sum(len(each.examples.origins[0]) // BATCH_SIZE for each in folds)
    return len(settings.size.losses) * len(METHODS) * settings.size.epochs * per_epoch


def network_forecasts(
    run: runner.Run,
    settings: Settings,
    fold: SeriesFold,
    number: int,
    progress: runner.Progress,
) -> Forecasts:
    """Trains all networks of a fold and returns their forecasts of the test part.

    Args:
      run: the run.
      settings: the settings.
      fold: the fold.
      number: its number, from 1, for the log.
      progress: advanced by each epoch.
    """
    found: Forecasts = {}
    for loss in settings.size.losses:
        task = make_task(fold.examples, loss, settings.model_config)
        run.pin(f"data of {fold.series.name}, fold {number}", task.digest())
        found[loss] = {}
        for name, method in METHODS.items():
            series = f"{fold.series.name}, fold {number}, {loss}, {name}"
            trained = run.series(
                series,
                Trained,
                partial(train, run, settings, task, series, method, progress),
                progress=progress,
                steps=settings.size.epochs * (task.train.examples // BATCH_SIZE),
            )
            found[loss][name] = trained.test.astype(np.float64)
    return found


def train(
    run: runner.Run,
    settings: Settings,
    task: tasks.Task,
    name: str,
    method: Method,
    progress: runner.Progress,
) -> Trained:
    """Trains a network and returns its predictions.

    Args:
      run: the run.
      settings: the settings.
      task: the task of a fold.
      name: name of the series in the log.
      method: the way to train.
      progress: advanced by each epoch.
    """
    trainer = runner.trainer(task.build, task.batch_of, task.scores, method.make())
    state = trainer.start(jax.random.split(jax.random.key(settings.seed), 1))
    batches = Batches(task.train.examples, BATCH_SIZE, seeds=data_seeds(settings.seed, 1))
    epoch = batches.per_epoch
    program = runner.Program(
        trainer.chunk,
        state,
        steps_per_chunk=epoch,
        feed=batches.chunk(0, epoch),
        constants=(task.train.arrays,),
    )
    loop = runner.Loop(
        run,
        name,
        program,
        state,
        chunks=settings.size.epochs,
        batches=batches,
        progress=progress,
    )
    arrays = jax.device_put(task.validation.arrays)
    indices = task.validation.evaluation_indices
    for chunk in loop:
        params, model_state = _params(method, chunk.carry), chunk.carry.model_state
        scores = jax.device_get(trainer.evaluate(params, model_state, arrays, indices))
        loss = float(scores["loss"][0])
        loop.log(loss=mean_of_finite(chunk.metrics, axis=0), validation_loss=scores["loss"])
        loop.update_best(loss, keep=(params, model_state))
    last = _params(method, loop.carry), loop.carry.model_state
    best = loop.best(last) or last
    graph = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))), nnx.Param, ...)[0]
    network = nnx.merge(graph, *jax.tree.map(lambda leaf: leaf[0], best))
    network.eval()
    predict = nnx.jit(task.predict)
    return Trained(
        np.asarray(predict(network, task.validation.arrays.inputs)),
        np.asarray(predict(network, task.test.arrays.inputs)),
        np.asarray(loop.best_value),
        np.asarray(loop.best_step // epoch),
    )


def _params(method: Method, state: runner.TrainState) -> Any:
    return jd.averaged_params(state.opt_state, state.params) if method.averages else state.params
