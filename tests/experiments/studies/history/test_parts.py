"""Landscapes have the stated minima, the network's grid is judged, and the animation is whole."""

import json
import re

import jax
import numpy as np
import pytest

from experiments.studies.history import animation, figures, landscapes, network
from experiments.studies.history.descent import Path
from experiments.studies.history.methods import METHODS
from experiments.studies.history.settings import SETUPS, half_decades

LANDSCAPES = landscapes.make_landscapes()


@pytest.mark.parametrize("name", LANDSCAPES)
def test_no_point_near_an_optimum_is_lower(name):
    landscape = LANDSCAPES[name]
    value = jax.jit(jax.vmap(landscape.problem.value))
    np.testing.assert_allclose(value(landscape.optima), 0, atol=1e-5)
    rng = np.random.default_rng(0)
    for optimum in landscape.optima:
        near = optimum + rng.normal(0, 0.05, (64, *optimum.shape)).astype(np.float32)
        assert np.all(np.asarray(value(near)) > 0)
    (left, low), (right, high) = landscape.window
    for x, y in landscape.to_plane(np.stack([landscape.start, *landscape.optima])):
        assert left < x < right
        assert low < y < high


def test_the_matrix_has_the_curvatures_of_its_singular_directions():
    matrix = LANDSCAPES["matrix"]
    hessian = jax.hessian(lambda point: matrix.problem.value(matrix.from_plane(point)))
    found = hessian(np.zeros(2, np.float32))
    np.testing.assert_allclose(found, np.diag([1.0, 100.0]), atol=1e-3)


def test_methods_are_in_the_order_of_their_years_and_have_colors():
    years = [method.year for method in METHODS.values()]
    assert years == sorted(years)
    assert figures.COLORS.keys() == METHODS.keys()
    assert len(set(figures.COLORS.values())) == len(METHODS)


def test_the_network_has_nine_half_decades():
    setup = SETUPS["small"]
    assert setup.network_rates("adam") == half_decades(-4, 0)
    assert len(setup.network_rates("lion")) == 9
    assert setup.network_rates("tower") == (0.0,)


def test_the_best_training_is_chosen_by_validation_and_costs_the_grid():
    validation = np.array(
        [
            [[9, 9], [9.0, 9.0], [9, 9]],
            [[0.5, 0.6], [0.1, np.nan], [0.3, 0.4]],
            [[0.5, 0.6], [np.nan, 8.0], [0.7, 0.2]],
        ]
    )
    scores = network.Scores(validation, 10 * validation, 100 * validation)
    best = network.best_training(scores, (0.1, 0.2, 0.3), np.array([0, 16, 32]))
    assert best.learning_rate == 0.3
    assert best.at_end
    np.testing.assert_allclose(best.test, [3, 2])  # each seed at its own best epoch
    np.testing.assert_allclose(best.accuracies, [30, 20])
    np.testing.assert_array_equal(best.gradients, [0, 48, 96])
    alone = network.best_training(jax.tree.map(lambda x: x[:, :1], scores), (0.0,), np.arange(3))
    assert np.isnan(alone.learning_rate)
    assert not alone.at_end


def path_of(points, excess):
    count = len(points)
    return Path(
        points=np.array(points, np.float32),
        excess=np.array(excess),
        evaluations=np.arange(count),
        learning_rate=np.array(0.1),
        reached=np.array(-1),
        tuned=np.array(-1),
        agents=np.full((count, 2, 2), np.nan, np.float32),
    )


def test_the_animation_has_the_points_up_to_the_solved_one():
    landscape = LANDSCAPES["ravine"]
    low, high = landscape.window
    path = path_of([low, high, high, low], [1.0, np.inf, 1e-5, 1.0])
    data = animation.path_data(landscape, path)
    assert data["t"] == [0, 1, 2]
    assert (data["x"], data["y"]) == ([0, 1000, 1000], [0, 1000, 1000])
    assert data["v"] == [1.0, None, 1e-5]
    assert data["solved"]
    assert data["agents"] == [[], [], []]


def test_the_animation_needs_no_other_file():
    paths = {"adam": path_of([[0, 0], [1, 1]], [1.0, 0.5])}
    html = animation.animation_html(LANDSCAPES, {"ravine": paths}, 100)
    assert not re.search(r"https?:|src=|import |fetch\(", html)
    data = json.loads(re.search(r"const data = (.*);\n", html)[1])
    assert data["frames"][-1] == 100
    assert data["landscapes"]["ravine"]["paths"]["adam"]["rate"] == "rate 0.1"


def test_labels_of_points_are_moved_apart_about_their_mean():
    spread = figures.spread_out(np.array([0.0, 0.1, 0.2, 5.0]), 1.0)
    np.testing.assert_allclose(spread, [-0.9, 0.1, 1.1, 5.0])
    np.testing.assert_allclose(
        figures.spread_out(np.array([0.0, 0.0, 1.0]), 1.0), [-2 / 3, 1 / 3, 4 / 3]
    )


def test_long_paths_are_thinned_out():
    kept = animation.kept_points(10_000)
    np.testing.assert_array_equal(kept[: animation.EVERY], np.arange(animation.EVERY))
    assert kept[-1] == 9_999
    assert len(kept) <= animation.POINTS + 1
    np.testing.assert_array_equal(animation.kept_points(3), [0, 1, 2])
