"""Methods agree with their published forms, and every gradient is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments.studies.step_sizes import methods
from experiments.studies.step_sizes.problems import ConvexProblem

SPECTRUM = np.array([1.0, 0.3, 0.01])
START = np.array([1.0, 2.0, 3.0])


def quadratic(x, spectrum):
    return jnp.sum(spectrum * x**2) / 2


PROBLEM = ConvexProblem("quadratic", quadratic, SPECTRUM, START, 1.0)
INITIAL = float(np.sum(SPECTRUM * START**2) / 2)


def goal(gap=1e-3, budget=1000):
    return methods.Goal(methods.ReferenceValues(INITIAL, 0.0), gap, budget, margin=1.1)


def count(points, gap=1e-3):
    """Returns the number of points, a gradient each, until the gap is met."""
    gaps = np.sum(SPECTRUM * np.array(points) ** 2, axis=1) / 2 / INITIAL
    return int(np.argmax(gaps <= gap)) + 1


@pytest.fixture
def run(x64):
    def descend(method, **options):
        return methods.descend(method, PROBLEM, goal(**options))

    return descend


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_constant_steps_match_the_closed_form(run):
    points = [START * (1 - SPECTRUM) ** n for n in range(1000)]
    assert run(methods.scheduled(optax.constant_schedule(1.0))).gradients == count(points)


def test_nesterovs_method_matches_its_definition(run):
    x = y = START
    t, points = 1.0, []
    for _ in range(200):
        points.append(y)
        next_x = y - SPECTRUM * y
        next_t = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = next_x + (t - 1) / next_t * (next_x - x)
        x, t = next_x, next_t
    assert run(methods.nesterov(restart=False)).gradients == count(points)


def test_restarting_is_faster_on_a_quadratic(run):
    plain, restarted = (run(methods.nesterov(restart=r), gap=1e-9) for r in (False, True))
    assert restarted.gradients < plain.gradients


def test_the_optimized_gradient_method_matches_its_definition(run):
    """The next x is y + (t - 1) / t' (y - previous_y) + t / t' (y - x), y = x - g / L."""
    x = y = START
    t, points = 1.0, []
    for _ in range(200):
        points.append(x)
        next_y = x - SPECTRUM * x
        next_t = (1 + np.sqrt(1 + 4 * t * t)) / 2
        x = next_y + (t - 1) / next_t * (next_y - y) + t / next_t * (next_y - x)
        y, t = next_y, next_t
    assert run(methods.optimized_gradient()).gradients == count(points)


def test_products_count_as_two_gradients_and_the_measured_l_is_used(run):
    result = run(methods.measured(jd.step_sizes.silver(1.0)))
    steps = np.asarray(jax.vmap(jd.step_sizes.silver(1.1))(jnp.arange(63)))
    points = [START * np.prod(1 - steps[:n, None] * SPECTRUM, axis=0) for n in range(63)]
    assert result.products > 0
    assert result.refuted == 0
    assert result.gradients == count(points) + 2 * result.products


def test_l_is_measured_again_when_due(run):
    one = run(methods.measured(optax.constant_schedule(1.0)), budget=60)
    repeated = run(methods.measured(optax.constant_schedule(1.0)), gap=1e-2)
    assert np.isinf(one.gradients)
    points = [START * (1 - SPECTRUM / 1.1) ** n for n in range(127)]
    assert 63 < count(points, gap=1e-2) < 127
    assert repeated.gradients == count(points, gap=1e-2) + 2 * repeated.products
    assert repeated.products > one.products


def test_a_missed_target_is_infinite_and_the_curve_ends_at_the_budget(run):
    result = run(methods.scheduled(optax.constant_schedule(1.0)), budget=20)
    assert np.isinf(result.gradients)
    gaps = [np.sum(SPECTRUM * (START * (1 - SPECTRUM) ** n) ** 2) / 2 / INITIAL for n in range(20)]
    best = np.fmin.accumulate(result.curve)
    np.testing.assert_allclose(best[-1], gaps[-1], rtol=1e-9)
    assert best[0] == pytest.approx(1.0)


def test_lbfgs_counts_evaluations(x64):
    result = methods.lbfgs(PROBLEM, goal())
    assert 2 <= result.gradients <= 30
    assert result.curve[-1] <= 1e-3
    short = methods.lbfgs(PROBLEM, goal(budget=2))
    assert np.isinf(short.gradients)
