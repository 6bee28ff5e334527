"""Evaluations are counted in both ways, within the box, up to the target or the budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.studies.hybrid.evaluations import Finished, Objective


def squares(x):
    return jnp.sum(x**2)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def objective(budget=100, target=-1.0):
    return Objective(jd.Problem(squares, -np.ones(2), 2 * np.ones(2)), budget, target)


def test_a_gradient_costs_three_and_shares_the_evaluation_of_its_value():
    counted = objective()
    value, grad = counted.value_and_grad(np.array([0.5, 1.0]))
    assert (value, grad.tolist()) == (1.25, [1.0, 2.0])
    assert (counted.evaluations, counted.cost) == (1, 3)

    x = np.array([0.25, -0.5])
    assert counted.value(x) == 0.3125
    assert (counted.evaluations, counted.cost) == (2, 4)
    assert counted.grad(x).tolist() == [0.5, -1.0]
    assert (counted.evaluations, counted.cost) == (2, 6)
    assert counted.grad(x).tolist() == [0.5, -1.0]  # a second time it is computed again
    assert (counted.evaluations, counted.cost) == (3, 9)


def test_points_outside_the_box_are_evaluated_at_its_border():
    counted = objective()
    assert counted.value(np.array([-7.0, 9.0])) == 5.0
    assert counted.values(np.array([[-7.0, 9.0], [0.0, 1.0]])).tolist() == [5.0, 1.0]
    assert counted.finish().point.tolist() == [0.0, 1.0]


def test_a_budget_ends_a_search_before_the_evaluation_beyond_it():
    counted = objective(budget=3)
    counted.values(np.ones((2, 2)))
    with pytest.raises(Finished):
        counted.values(np.array([[0.5, 0.0], [0.0, 0.0]]))  # only the first is within the budget
    assert counted.evaluations == 3
    assert counted.best_value == 0.25
    for evaluate in (counted.value, counted.value_and_grad, counted.grad):
        with pytest.raises(Finished):
            evaluate(np.zeros(2))
    search = counted.finish()
    assert (search.evaluations, search.cost, search.to_target) == (3, 3, 0)


def test_the_first_value_below_the_target_ends_a_search_also_within_a_generation():
    counted = objective(target=0.1)
    counted.value_and_grad(np.ones(2))
    generation = np.array([[1.0, 0.0], [0.3, 0.0], [0.0, 0.0], [0.0, 0.1]])
    with pytest.raises(Finished):
        counted.values(generation)
    search = counted.finish()
    assert search.point.tolist() == [0.3, 0.0]
    assert search == (search.point, 3, 5, 3, 5)


def test_values_that_are_not_finite_are_never_the_best():
    counted = Objective(jd.Problem(lambda x: jnp.log(x[0]), -np.ones(1), np.ones(1)), 9, -100.0)
    assert np.isnan(counted.values(np.array([[-1.0], [1.0]]))[0])
    assert counted.best_value == 0.0
    assert np.isnan(counted.value(np.array([-0.5])))
    assert counted.best_value == 0.0
