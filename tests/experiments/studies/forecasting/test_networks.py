"""Tasks of networks have the losses of their names, and predict in the units of the series."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from experiments import tasks
from experiments.data import Split
from experiments.studies.forecasting import losses
from experiments.studies.forecasting.examples import make_examples
from experiments.studies.forecasting.folds import walk_forward
from experiments.studies.forecasting.networks import HEADS, make_task, predictions
from tests.experiments.studies.forecasting.test_folds import drawn

SERIES = drawn(200)
EXAMPLES = make_examples(
    SERIES, walk_forward(200, 1, test=0.2, validation=0.2)[0], window=4, horizons=(1, 3)
)
MEAN, STD = EXAMPLES.dataset.target_mean, EXAMPLES.dataset.target_std


def task_with_outputs(loss, outputs):
    """Returns a task, and a model whose outputs are given, f32[n, horizons * outputs]."""
    task = make_task(EXAMPLES, loss, tasks.ModelConfig("mlp", width=4))
    return task, lambda inputs: jnp.asarray(outputs, jnp.float32)


def batch(count):
    inputs, targets = EXAMPLES.dataset.test
    return Split(inputs[:count], (targets[:count] - MEAN) / STD)


@pytest.mark.parametrize("loss", HEADS)
def test_the_loss_in_training_is_the_loss_of_predictions_up_to_the_units(loss):
    """The quantile loss of each horizon is divided by its scale, and the likelihood shifted."""
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(12, 2, HEADS[loss].outputs))
    if loss == "quantiles":
        outputs.sort(-1)
    task, model = task_with_outputs(loss, outputs.reshape(12, -1))
    found = task.scores(model, batch(12), None)["loss"]
    inputs, targets = (np.asarray(x[:12], np.float64) for x in EXAMPLES.dataset.test)
    forecasts = np.asarray(task.predict(model, inputs), np.float64)
    in_units = losses.LOSSES[loss].evaluate(targets, forecasts)
    scaled = {
        "squared error": in_units / STD**2,
        "quantiles": in_units / STD,
        "Gaussian": in_units - np.log(STD),
    }[loss]
    np.testing.assert_allclose(found, scaled.mean(-1), rtol=2e-4)


def test_predictions_are_in_the_units_of_the_series():
    outputs = np.array([[0.5, -1.0]])
    task, model = task_with_outputs("squared error", outputs)
    found = task.predict(model, EXAMPLES.dataset.test.inputs[:1])
    np.testing.assert_allclose(found, outputs * STD + MEAN, rtol=1e-6)
    moments = np.array([[[0.5, np.log(2)], [-1.0, np.log(3)]]])
    task, model = task_with_outputs("Gaussian", moments.reshape(1, 4))
    found = task.predict(model, EXAMPLES.dataset.test.inputs[:1])
    np.testing.assert_allclose(found[..., 0], moments[..., 0] * STD + MEAN, rtol=1e-6)
    np.testing.assert_allclose(found[..., 1], np.array([[2.0, 3.0]]) * STD, rtol=1e-6)


def test_predictions_of_several_networks_are_theirs():
    task = make_task(EXAMPLES, "Gaussian", tasks.ModelConfig("mlp", width=4))
    networks = [task.build(nnx.Rngs(seed)) for seed in (0, 1)]
    states = [nnx.split(network, nnx.Param, ...)[1:] for network in networks]
    found = predictions(task, *jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    for each, network in zip(found, networks, strict=True):
        expected = task.predict(network, EXAMPLES.dataset.test.inputs)
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-7)


def test_crossing_quantiles_are_sorted_which_does_not_raise_the_loss():
    outputs = np.random.default_rng(1).normal(size=(12, 2, 7))
    task, model = task_with_outputs("quantiles", outputs.reshape(12, 14))
    found = np.asarray(task.predict(model, EXAMPLES.dataset.test.inputs[:12]))
    assert (np.diff(found, axis=-1) >= 0).all()
    targets = EXAMPLES.dataset.test.targets[:12]
    crossing = outputs * STD[:, None] + MEAN[:, None]
    after, before = (losses.quantile_loss(targets, each) for each in (found, crossing))
    assert (after <= before + 1e-7).all()
    assert after.mean() < before.mean()


@pytest.mark.parametrize("name", ["lstm", "tcn"])
def test_models_of_sequences_forecast_from_the_last_time(name):
    task = make_task(EXAMPLES, "Gaussian", tasks.ModelConfig(name, width=4, depth=1))
    found = task.predict(task.build(nnx.Rngs(0)), EXAMPLES.dataset.test.inputs)
    assert found.shape == (*EXAMPLES.dataset.test.targets.shape, 2)


def test_the_gaussian_loss_is_least_at_the_sample_moments():
    targets = EXAMPLES.dataset.train.targets[:, :1].astype(np.float64)
    mean, std = targets.mean(), targets.std()
    best = losses.gaussian_nll(targets, np.tile([mean, std], (len(targets), 1, 1))).mean()
    assert best == pytest.approx(-stats.norm.logpdf(targets, mean, std).mean())
