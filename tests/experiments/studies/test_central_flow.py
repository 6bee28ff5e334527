"""The central flow study runs, and its ratios and verdicts are exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.models.tanh_network import squared_error
from experiments.studies.central_flow.measurement import (
    History,
    Step,
    init_params,
    split_oscillation,
    summarize,
)
from experiments.studies.central_flow.report import verdicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["central_flow", "--scale", "smoke", "--optimizers", "gd", "--runs", str(runs)])
    (folder,) = (runs / "central_flow").iterdir()
    return folder


def test_a_run_has_its_numbers_and_its_figure(folder):
    description = json.loads((folder / "run.json").read_text())
    found = description["results"]["GD, rate .15"]
    assert found["steps"] == 30
    assert found["loss_ratio"] == pytest.approx(1, abs=0.05)
    assert found["residual"] < 1e-5
    (row,) = description["table"]["rows"]
    assert row[0] == "GD, rate .15"
    assert (folder / "central_flow.png").read_bytes().startswith(b"\x89PNG")


def history(**changes):
    """Returns 400 steps, at the edge from 100 on; loss and variance alternate between 1 and 3."""
    steps = np.arange(400)
    measured = np.where(steps % 2, 1.0, 3.0)
    at_edge = steps >= 100
    columns = {
        "loss": measured,
        "predicted_loss": np.full(400, 1.94),
        "flow_loss": np.full(400, 1.8),
        "stable_loss": np.full(400, 1.5),
        "variance": measured,
        "predicted_variance": np.where(at_edge, 2.2, 0.0),
        "deviation": np.full(400, 4.4),
        "eigenvalues": np.zeros((400, 1)),
        "at_edge": np.where(at_edge, 2, 0),
        "residual": np.full(400, 1e-6),
        "distance": np.full(400, 0.5),
        "stable_distance": np.full(400, 2.0),
    }
    return History(Step(**{**columns, **changes}), np.zeros((4, 1)))


def test_ratios_are_of_means_over_the_documented_steps():
    found = summarize(history())
    assert (found.steps, found.edge, found.at_edge, found.most) == (400, 100, 2, 2)
    assert found.loss_ratio == pytest.approx(0.97)
    assert found.loss_ratio_edge == pytest.approx(0.97)
    assert found.without == pytest.approx(0.9)
    assert found.stable_ratio == pytest.approx(0.75)
    assert found.variance_ratio == pytest.approx(1.1)
    assert found.variance_ratio_all == pytest.approx(2.2 * 300 / (2 * 398 + 1 + 1), rel=1e-2)
    assert found.variance_ratio_range == pytest.approx((1.1, 1.1))
    assert found.deviation_ratio == pytest.approx(0.5)
    assert (found.distance, found.stable_distance) == (0.5, 2.0)


def test_without_an_edge_the_variance_ratio_is_nan():
    found = summarize(history(at_edge=np.zeros(400, int)))
    assert found.edge == 400
    assert np.isnan(found.variance_ratio)
    assert verdicts(["calm"], [found])[1].endswith("not for calm (nan).")


def test_the_ratio_after_the_edge_excludes_earlier_steps():
    early = np.where(np.arange(400) < 100, 50.0, 2.0)
    found = summarize(history(loss=early, predicted_loss=np.full(400, 2.2)))
    assert found.loss_ratio_edge == pytest.approx(1.1)
    assert found.loss_ratio == pytest.approx(2.2 / 14)


def test_a_verdict_names_the_optimizers_it_fails_for():
    good = summarize(history())
    bad = good._replace(loss_ratio=1.06, variance_ratio=0.8)
    loss, variance = verdicts(["good", "bad"], [good, bad])
    assert loss == (
        "The time-averaged loss is predicted within 5% for 1 of 2 optimizers; not for bad (1.060)."
    )
    assert variance == (
        "The oscillation's variance is predicted within 15% for 1 of 2 optimizers; "
        "not for bad (0.800)."
    )


def test_the_alternating_part_is_separated_from_the_mean():
    """The iterates w = t + (-1)^t / 2 have the mean t and the variance 1 / 4."""
    path = [jnp.asarray(t + 0.5 * (-1) ** t) for t in range(3)]
    mean, oscillation = split_oscillation(*path)
    assert float(mean) == 1
    assert float(oscillation) ** 2 == pytest.approx(0.25)


def test_initial_parameters_have_the_right_range_and_depend_on_the_seed_only():
    layers = init_params([64, 6, 10], seed=3)
    again = init_params([64, 6, 10], seed=3)
    jax.tree.map(np.testing.assert_array_equal, layers, again)
    assert np.abs(layers[0]["kernel"]).max() <= 1 / 8
    assert np.std(layers[0]["kernel"]) == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    batch = (jnp.zeros((2, 64)), jnp.ones((2, 10)))
    assert float(squared_error(layers, batch)) == pytest.approx(5)
