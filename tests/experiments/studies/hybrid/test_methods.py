"""Each method keeps to its budget and to the box, and knows when it reached the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import jaxdescent as jd
from experiments.studies.hybrid import evaluations, methods
from experiments.studies.hybrid.settings import METHODS

BUDGET = 2_560  # ten gradients for each of the starts of halving


def waves(x, scale):
    """A function with many minima; the lowest is 0, at .7."""
    y = x - 0.7
    return scale * jnp.sum(y**2 + 0.02 * (1 - jnp.cos(40 * y)))


@pytest.fixture(autouse=True)
def _as_in_the_study():
    with jax.enable_x64(True), threadpool_limits(1):
        yield


@pytest.fixture
def computed(monkeypatch):
    """The points that methods outside of JAX evaluated."""
    points = []
    programs = evaluations._programs

    def recorded(value_fn):
        one, many = programs(value_fn)

        def record_one(x, data):
            points.append(np.array(x))
            return one(x, data)

        return record_one, many

    monkeypatch.setattr(evaluations, "_programs", recorded)
    return points


def problem(scale=1.0):
    return jd.Problem(waves, np.zeros(2), np.array([1.0, 2.0]), data=(jnp.asarray(scale),))


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_to_the_budget_and_count_up_to_the_target(name, computed):
    if not methods.is_installed(name):
        pytest.skip("cma, of the extra bbob, is not installed")
    search = methods.METHODS[name].search
    key = jax.random.key(1)

    spent = search(problem(), key, BUDGET, -1.0)  # a target that no value reaches
    assert BUDGET - 300 <= spent.evaluations <= BUDGET
    assert spent.evaluations <= spent.cost <= evaluations.GRADIENT_COST * spent.evaluations
    assert (spent.to_target, spent.cost_to_target) == (0, 0)
    assert np.all((spent.point >= 0) & (spent.point <= [1.0, 2.0]))
    if computed:
        assert len(computed) == spent.evaluations
        assert np.all((np.array(computed) >= 0) & (np.array(computed) <= [1.0, 2.0]))

    reached = search(problem(1e-6), key, BUDGET, 1.0)  # any value is below this target
    # Populations know values at the ends of rungs only.
    latest = {"halving": BUDGET // 10, "de_adam": BUDGET}.get(name, 1)
    assert 1 <= reached.to_target <= latest
    uses_gradients = methods.METHODS[name].uses_gradients and name != "dual_annealing"
    cost = evaluations.GRADIENT_COST if uses_gradients else 1
    assert reached.cost_to_target == cost * reached.to_target


def test_adam_reaches_a_target_on_a_slope_after_the_sum_of_its_steps():
    def slope(x):
        return x[0]

    # The steps of Adam on a constant gradient are its learning rates.
    budget, key = 200, jax.random.key(3)
    start = float(jax.random.uniform(key, (1,))[0])
    rates = methods.ADAM_RATE * (1 + np.cos(np.pi * np.arange(budget) / budget)) / 2
    target = start - 20.5 * methods.ADAM_RATE
    expected = 1 + int(np.argmax(start - np.cumsum(rates) < target)) + 1
    line = jd.Problem(slope, -np.ones(1) + 1, np.ones(1))
    assert methods.adam(line, key, budget, target).to_target == expected


def test_the_random_state_of_numpy_is_left_alone():
    if not methods.is_installed("bipop_cma"):
        pytest.skip("cma, of the extra bbob, is not installed")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    methods.bipop_cma(problem(), jax.random.key(0), 50, -1.0)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
