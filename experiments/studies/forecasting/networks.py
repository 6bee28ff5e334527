"""Networks that forecast: a task for each loss, with predictions in the units of the series.

    squared error   one output per horizon, the mean
    quantiles       an output per horizon and level
    Gaussian        two outputs per horizon, the mean m and the logarithm of the deviation s

Training is on targets that are standardized by the training part, per horizon, so that horizons
count alike. Predicted quantiles are sorted: a higher level never has a lower quantile, and sorting
does not raise the loss (V. Chernozhukov, I. Fernandez-Val, A. Galichon, "Quantile and probability
curves without crossing", Econometrica 78, 2010).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxdescent as jd
from experiments import tasks
from experiments.data import Split
from experiments.studies.forecasting.examples import Examples
from experiments.studies.forecasting.losses import LEVELS


class Head(NamedTuple):
    """The meaning of a network's outputs for a horizon.

    Attributes:
      outputs: the number of outputs.
      losses: called with outputs f32[n, horizons, outputs] and standardized targets
        f32[n, horizons]; returns losses f32[n, horizons].
      in_units: called with outputs, and with the mean and the standard deviation of the training
        targets, f32[horizons, 1]; returns the forecasts in the units of the targets.
    """

    outputs: int
    losses: Callable[[jax.Array, jax.Array], jax.Array]
    in_units: Callable[[jax.Array, Any, Any], jax.Array]


def _squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return (outputs[..., 0] - targets) ** 2


def _mean_in_units(outputs: jax.Array, mean: Any, std: Any) -> jax.Array:
    return (outputs * std + mean)[..., 0]


def _quantile_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    same = jnp.broadcast_to(targets[..., None], outputs.shape)
    return jd.losses.quantile_loss(outputs, same, jnp.array(LEVELS)).mean(-1)


def _quantiles_in_units(outputs: jax.Array, mean: Any, std: Any) -> jax.Array:
    return jnp.sort(outputs, axis=-1) * std + mean


def _gaussian_nll(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    means, log_deviations = outputs[..., 0], outputs[..., 1]
    return jd.losses.gaussian_nll_loss(means, targets, jnp.exp(2 * log_deviations), full=True)


def _moments_in_units(outputs: jax.Array, mean: Any, std: Any) -> jax.Array:
    return jnp.concatenate([outputs[..., :1] * std + mean, jnp.exp(outputs[..., 1:]) * std], -1)


HEADS = {
    "squared error": Head(1, _squared_error, _mean_in_units),
    "quantiles": Head(len(LEVELS), _quantile_loss, _quantiles_in_units),
    "Gaussian": Head(2, _gaussian_nll, _moments_in_units),
}
"""Heads by loss, with the names of `losses.LOSSES`."""


def make_task(examples: Examples, loss: str, model: tasks.ModelConfig) -> tasks.Task:
    """Returns the task of a fold with a loss.

    The scores are the "loss" of standardized targets, as a mean over the horizons. `predict`
    returns f32[n, horizons] for the squared error, f32[n, horizons, levels] for quantiles, and
    f32[n, horizons, 2] for the mean and the standard deviation of the Gaussian loss.

    Args:
      examples: the examples of the fold.
      loss: a key of `HEADS`.
      model: the model.

    Raises:
      ValueError: the model does not take windows of a series.

    Example:
      >>> from flax import nnx
      >>> from experiments.data import prices
      >>> from experiments.studies.forecasting.examples import make_examples
      >>> from experiments.studies.forecasting.folds import walk_forward
      >>> series = prices.goog()
      >>> examples = make_examples(series, walk_forward(len(series.values), 1)[0])
      >>> task = make_task(examples, "Gaussian", tasks.ModelConfig("mlp", width=8))
      >>> moments = task.predict(task.build(nnx.Rngs(0)), examples.dataset.test.inputs)
      >>> moments.shape, bool((moments[..., 1] > 0).all())
      ((79, 2, 2), True)
    """
    head, dataset = HEADS[loss], examples.dataset
    horizons, outputs = len(examples.horizons), len(examples.horizons) * HEADS[loss].outputs
    name = f"{dataset.name}, {loss}"
    build, call = tasks.network(model, name, dataset.train.inputs.shape[1:], outputs)

    def by_horizon(model: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        return call(model, inputs, key).reshape(-1, horizons, head.outputs)

    def scores(model: Any, batch: Split, key: jax.Array | None) -> dict[str, jax.Array]:
        losses = head.losses(by_horizon(model, batch.inputs, key), batch.targets)
        return {"loss": losses.mean(-1)}

    def predict(model: Any, inputs: Any) -> jax.Array:
        outputs = by_horizon(model, dataset.normalized_inputs(inputs), None)
        mean, std = dataset.target_mean[:, None], dataset.target_std[:, None]
        return head.in_units(outputs, mean, std)

    # The dataset's baseline is of the squared error.
    return tasks.supervised(dataset, model)._replace(
        name=name, build=build, scores=scores, predict=predict, baseline=None
    )


def predictions(task: tasks.Task, params: Any, model_state: Any) -> np.ndarray:
    """Returns the forecasts of the test part by each network, f32[networks, n, horizons, ...].

    Args:
      task: the task of a fold.
      params: parameters of the networks, with a leading axis of networks.
      model_state: their other state, likewise.
    """
    graph = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))), nnx.Param, ...)[0]

    @jax.jit
    def predict(params: Any, model_state: Any) -> jax.Array:
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        return task.predict(model, task.test.arrays.inputs)

    count = len(jax.tree.leaves(params)[0])
    networks = [
        jax.tree.map(lambda leaf, i=i: leaf[i], (params, model_state)) for i in range(count)
    ]
    return np.stack([np.asarray(predict(*network)) for network in networks])
