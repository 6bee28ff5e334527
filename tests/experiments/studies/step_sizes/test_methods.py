"""Methods do what their authors wrote, and every gradient is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments.studies.step_sizes import methods as descent
from experiments.studies.step_sizes.problems import Convex

pytestmark = pytest.mark.usefixtures("quick_to_compile")

SPECTRUM = np.array([1.0, 0.3, 0.01])
START = np.array([1.0, 2.0, 3.0])


def quadratic(x, spectrum):
    return jnp.sum(spectrum * x**2) / 2


PROBLEM = Convex("quadratic", quadratic, SPECTRUM, START, 1.0)
FIRST = float(np.sum(SPECTRUM * START**2) / 2)


def goal(gap=1e-3, budget=1000):
    return descent.Goal(least=0.0, first=FIRST, gap=gap, budget=budget, margin=1.1)


def count(points, gap=1e-3):
    """After how many of the points the gap is met; each costs a gradient."""
    gaps = np.sum(SPECTRUM * np.array(points) ** 2, axis=1) / 2 / FIRST
    return int(np.argmax(gaps <= gap)) + 1


@pytest.fixture
def run(x64):
    return lambda method, **other: descent.descend(PROBLEM, method, goal(**other))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_constant_steps_take_what_they_take(run):
    points = [START * (1 - SPECTRUM) ** n for n in range(1000)]
    assert run(descent.scheduled(optax.constant_schedule(1.0))).gradients == count(points)


def test_nesterov_s_method_is_as_he_wrote_it(run):
    x = y = START
    t, points = 1.0, []
    for _ in range(200):
        points.append(y)
        x_next = y - SPECTRUM * y
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = x_next + (t - 1) / t_next * (x_next - x)
        x, t = x_next, t_next
    assert run(descent.nesterov(restart=False)).gradients == count(points)


def test_the_restart_is_no_slower_on_a_quadratic(run):
    plain, restarted = (run(descent.nesterov(restart=r), gap=1e-9) for r in (False, True))
    assert restarted.gradients < plain.gradients


def test_the_optimized_gradient_method_is_as_its_authors_wrote_it(run):
    """The next x is y + (t - 1) / t' (y - y_before) + t / t' (y - x), y = x - g / L."""
    x = y = START
    t, points = 1.0, []
    for _ in range(200):
        points.append(x)
        y_next = x - SPECTRUM * x
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        x = y_next + (t - 1) / t_next * (y_next - y) + t / t_next * (y_next - x)
        y, t = y_next, t_next
    assert run(descent.optimized_gradient()).gradients == count(points)


def test_products_count_as_two_and_their_smoothness_is_used(run):
    done = run(descent.measured(jd.step_sizes.silver(1.0)))
    steps = np.asarray(jax.vmap(jd.step_sizes.silver(1.1))(jnp.arange(63)))
    points = [START * np.prod(1 - steps[:n, None] * SPECTRUM, axis=0) for n in range(63)]
    assert done.products > 0
    assert done.refuted == 0
    assert done.gradients == count(points) + 2 * done.products


def test_it_is_measured_again_when_due(run):
    once = run(descent.measured(optax.constant_schedule(1.0)), budget=60)
    again = run(descent.measured(optax.constant_schedule(1.0)), gap=1e-2)
    assert np.isinf(once.gradients)
    points = [START * (1 - SPECTRUM / 1.1) ** n for n in range(127)]
    assert 63 < count(points, gap=1e-2) < 127
    assert again.gradients == count(points, gap=1e-2) + 2 * again.products
    assert again.products > once.products


def test_what_is_not_met_is_infinite_and_the_curve_ends_at_the_budget(run):
    done = run(descent.scheduled(optax.constant_schedule(1.0)), budget=20)
    assert np.isinf(done.gradients)
    gaps = [np.sum(SPECTRUM * (START * (1 - SPECTRUM) ** n) ** 2) / 2 / FIRST for n in range(20)]
    best = np.fmin.accumulate(done.curve)
    np.testing.assert_allclose(best[-1], gaps[-1], rtol=1e-9)
    assert best[0] == pytest.approx(1.0)


def test_l_bfgs_counts_evaluations(x64):
    done = descent.lbfgs(PROBLEM, goal())
    assert 2 <= done.gradients <= 30
    assert done.curve[-1] <= 1e-3
    short = descent.lbfgs(PROBLEM, goal(budget=2))
    assert np.isinf(short.gradients)
