"""The central flow study runs from end to end, and its ratios and verdicts are exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.models.tanh_network import squared_error
from experiments.studies.central_flow import study as central_flow

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["central_flow", "--scale", "smoke", "--optimizers", "gd", "--runs", str(runs)])
    (folder,) = (runs / "central_flow").iterdir()
    return folder


def test_a_run_has_its_numbers_and_its_picture(folder):
    description = json.loads((folder / "run.json").read_text())
    found = description["results"]["GD, rate .15"]
    assert found["steps"] == 30
    assert found["loss_ratio"] == pytest.approx(1, abs=0.05)
    assert found["residual"] < 1e-5
    (row,) = description["table"]["rows"]
    assert row[0] == "GD, rate .15"
    assert (folder / "central_flow.png").read_bytes().startswith(b"\x89PNG")


def trace(**changes):
    """400 steps, at the edge from 100 on, with 1 and 3 in turn for what is measured."""
    steps = np.arange(400)
    measured = np.where(steps % 2, 1.0, 3.0)
    there = steps >= 100
    rows = {
        "loss": measured,
        "predicted_loss": np.full(400, 1.94),
        "flow_loss": np.full(400, 1.8),
        "stable_loss": np.full(400, 1.5),
        "variance": measured,
        "predicted_variance": np.where(there, 2.2, 0.0),
        "deviation": np.full(400, 4.4),
        "at_edge": np.where(there, 2, 0),
        "residual": np.full(400, 1e-6),
        "distance": np.full(400, 0.5),
        "stable_distance": np.full(400, 2.0),
    }
    return {**rows, **changes}


def test_ratios_are_of_means_over_the_steps_that_are_said():
    found = central_flow.summary(trace())
    assert (found.steps, found.edge, found.at_edge, found.most) == (400, 100, 2, 2)
    assert found.loss_ratio == pytest.approx(0.97)
    assert found.loss_ratio_edge == pytest.approx(0.97)
    assert found.without == pytest.approx(0.9)
    assert found.stable_ratio == pytest.approx(0.75)
    assert found.variance_ratio == pytest.approx(1.1)
    assert found.variance_ratio_whole == pytest.approx(2.2 * 300 / (2 * 398 + 1 + 1), rel=1e-2)
    assert found.swings == pytest.approx((1.1, 1.1))
    assert found.deviation_ratio == pytest.approx(0.5)
    assert (found.distance, found.stable_distance) == (0.5, 2.0)


def test_a_run_that_never_gets_there_says_so_by_no_number():
    found = central_flow.summary(trace(at_edge=np.zeros(400, int)))
    assert found.edge == 400
    assert np.isnan(found.variance_ratio)
    assert central_flow.verdicts({"calm": found})[1].endswith("not for calm (nan).")


def test_the_ratio_since_the_edge_leaves_out_what_was_before():
    early = np.where(np.arange(400) < 100, 50.0, 2.0)
    found = central_flow.summary(trace(loss=early, predicted_loss=np.full(400, 2.2)))
    assert found.loss_ratio_edge == pytest.approx(1.1)
    assert found.loss_ratio == pytest.approx(2.2 / 14)


def test_a_verdict_names_what_breaks_a_promise():
    good = central_flow.summary(trace())
    bad = good._replace(loss_ratio=1.06, variance_ratio=0.8)
    loss, variance = central_flow.verdicts({"good": good, "bad": bad})
    assert loss == (
        "The time-averaged loss is predicted within 5% for 1 of 2 optimizers; not for bad (1.060)."
    )
    assert variance == (
        "The oscillation's variance is predicted within 15% for 1 of 2 optimizers; "
        "not for bad (0.800)."
    )


def test_what_alternates_is_told_from_what_drifts():
    """Of w = t + (-1)^t / 2 in one parameter, the variance is 1 / 4 and the mean path t."""
    path = [jnp.asarray(t + 0.5 * (-1) ** t) for t in range(3)]
    mean, swing = central_flow.alternation(*path)
    assert float(mean) == 1
    assert float(swing) ** 2 == pytest.approx(0.25)


def test_the_network_is_as_wide_as_it_should_be_and_the_same_for_a_seed():
    layers = central_flow.network([64, 6, 10], seed=3)
    again = central_flow.network([64, 6, 10], seed=3)
    jax.tree.map(np.testing.assert_array_equal, layers, again)
    assert np.abs(layers[0]["kernel"]).max() <= 1 / 8
    assert np.std(layers[0]["kernel"]) == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    batch = (jnp.zeros((2, 64)), jnp.ones((2, 10)))
    assert float(squared_error(layers, batch)) == pytest.approx(5)
