"""Paths agree with closed forms, and the best learning rate of a grid is found."""

import numpy as np
import pytest

from experiments.studies.history import descent, landscapes
from experiments.studies.history.descent import Traces

RATES, STEPS = (0.003, 0.01, 0.03), 80
RAVINE = landscapes.make_landscapes()["ravine"]
MATRIX = landscapes.make_landscapes()["matrix"]
EIGENVALUES = np.array([1.0, landscapes.CONDITION])


@pytest.fixture(scope="module")
def traces():
    return descent.descend(RAVINE, ("gradient_descent", "momentum", "muon"), RATES, STEPS)


def along_axes(points):
    """Returns points of the ravine in the coordinates of its eigenvectors, from the minimum."""
    return (np.asarray(points, np.float64) - landscapes.CENTER) @ landscapes.AXES


def powers(matrix, start):
    """Returns start, matrix start, matrix^2 start, ..."""
    found = [start]
    for _ in range(STEPS):
        found.append(matrix @ found[-1])
    return np.array(found)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_paths_on_a_quadratic_agree_with_powers_of_the_iteration_matrix(traces, momentum):
    name = "momentum" if momentum else "gradient_descent"
    start = along_axes(RAVINE.start)
    for column, rate in enumerate(RATES[:2]):
        for axis, curvature in enumerate(EIGENVALUES):
            iteration = np.array([[1 + momentum - rate * curvature, -momentum], [1, 0]])
            expected = powers(iteration, np.full(2, start[axis]))[:, 0]
            found = along_axes(traces[name].params[:, column])[:, axis]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_grid_picks_the_best_rate_and_counts_its_gradients(traces):
    start = along_axes(RAVINE.start)
    count = np.arange(10_000)[:, None]
    reached = []
    for rate in RATES[:2]:
        excess = (EIGENVALUES * ((1 - rate * EIGENVALUES) ** count * start) ** 2).sum(1) / 2
        reached.append(int(np.flatnonzero(excess < 1e-4)[0]))
    assert reached[1] < reached[0]  # the third learning rate, above 2 / 100, diverges
    longer = descent.descend(RAVINE, ("gradient_descent",), RATES, reached[1] + 9)
    path = descent.best_path(RAVINE, longer["gradient_descent"], RATES)
    assert path.learning_rate == 0.01
    assert path.reached == reached[1]
    assert path.tuned == 3 * reached[1]
    assert path.evaluations[path.reached] == reached[1]
    unsolved = descent.best_path(RAVINE, traces["gradient_descent"], RATES)
    assert (unsolved.learning_rate, unsolved.reached, unsolved.tuned) == (0.01, -1, -1)


def test_values_that_pass_by_do_not_count():
    values = np.ones((40, 4))
    values[5, 0] = 0  # low at one point only
    values[9:, 1] = 0  # low from here on
    values[7:, 2] = 0  # low from here on, earlier
    values[:, 3] = np.nan
    traces = Traces(np.zeros((40, 4, 2), np.float32), values)
    path = descent.best_path(RAVINE, traces, (0.1, 0.2, 0.3, 0.4))
    assert (path.learning_rate, path.reached, path.tuned) == (0.3, 7, 28)
    alone = descent.best_path(RAVINE, Traces(traces.params[:, :1], values[:, :1]), (0.1,))
    assert alone.reached == -1
    broken = descent.best_path(RAVINE, Traces(traces.params[:, 3:], values[:, 3:]), (0.4,))
    assert np.isinf(broken.least).all()


def test_muon_moves_a_vector_by_steps_of_constant_length(traces):
    steps = np.diff(traces["muon"].params, axis=0)
    lengths = np.linalg.norm(steps, axis=-1)
    np.testing.assert_allclose(lengths, lengths[:1] * np.ones((STEPS, 1)), rtol=1e-3)
    np.testing.assert_allclose(lengths[0] / lengths[0, 0], np.array(RATES) / RATES[0], rtol=1e-3)


def test_muon_stays_in_the_plane_of_the_matrix_and_adam_leaves_it():
    traces = descent.descend(MATRIX, ("muon", "adam"), (0.1,), 40)
    distance = {}
    for name, trace in traces.items():
        turned = np.einsum("ai,kab,bj->kij", landscapes.LEFT, trace.params[:, 0], landscapes.RIGHT)
        distance[name] = np.abs(turned * (1 - np.eye(2))).max()
        np.testing.assert_allclose(
            MATRIX.to_plane(trace.params[:, 0]), np.diagonal(turned, 0, 1, 2), atol=1e-6
        )
    assert distance["muon"] < 1e-3
    assert distance["adam"] > 0.05
