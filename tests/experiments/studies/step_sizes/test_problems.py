"""The twenty problems are convex, as smooth as they say, and their minima are minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.step_sizes import problems as convex

pytestmark = pytest.mark.usefixtures("quick_to_compile")

PROBLEMS = {problem.name: problem for problem in convex.problems()}


def at(problem, scale, seed):
    return problem.start + scale * np.random.default_rng(seed).normal(size=problem.start.shape)


def test_there_are_twenty_and_they_are_always_the_same():
    assert len(PROBLEMS) == 20
    for again in convex.problems():
        for a, b in zip(
            jax.tree.leaves(again.data), jax.tree.leaves(PROBLEMS[again.name].data), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_pair_of_points_shows_more_than_the_smoothness(name):
    """|g - g'|^2 <= 2 L (f - f' - <g', x - x'>), which needs convexity, too."""
    problem = PROBLEMS[name]
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
        x, y = at(problem, 0.3, 0), at(problem, 0.3, 1)
        (f, g), (h, k) = (value_and_grad(jnp.asarray(z), problem.data) for z in (x, y))
        for gap in (f - h - k @ (x - y), h - f - g @ (y - x)):
            assert float(jnp.sum((g - k) ** 2)) <= 2 * problem.smoothness * float(gap) * (1 + 1e-9)


@pytest.mark.parametrize(
    "name", ["least squares, diabetes", "quadratic, spectrum i^-1", "Nesterov's slowest"]
)
def test_quadratics_are_as_smooth_as_they_say_and_no_smoother(name):
    problem = PROBLEMS[name]
    with jax.enable_x64(True):
        hessian = jax.jit(jax.hessian(problem.loss))
        values = np.linalg.eigvalsh(hessian(jnp.asarray(problem.start), problem.data))
    assert values[-1] == pytest.approx(problem.smoothness, rel=1e-9)


def test_minima_are_those_that_are_known():
    with jax.enable_x64(True):
        squares = PROBLEMS["least squares, diabetes"]
        x, y = squares.data
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        assert convex.minimum(squares) == pytest.approx(np.mean(residual**2) / 2, rel=1e-12)
        slowest = PROBLEMS["Nesterov's slowest"]
        known = -(1 - 1 / (len(slowest.start) + 1)) / 8
        assert convex.minimum(slowest) == pytest.approx(known, rel=1e-9)


def test_a_minimum_that_is_not_found_is_said():
    problem = PROBLEMS["logistic, breast cancer"]
    with jax.enable_x64(True), pytest.raises(RuntimeError, match="breast cancer: no minimum found"):
        convex.minimum(problem, iterations=2)
