"""The twenty problems are convex, their L bounds the curvature, and their minima are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.step_sizes.problems import load_problems, minimum

PROBLEMS = {problem.name: problem for problem in load_problems()}


def near_start(problem, scale, seed):
    return problem.start + scale * np.random.default_rng(seed).normal(size=problem.start.shape)


def test_twenty_problems_are_drawn_deterministically():
    assert len(PROBLEMS) == 20
    for again in load_problems():
        for a, b in zip(
            jax.tree.leaves(again.data), jax.tree.leaves(PROBLEMS[again.name].data), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_convex_and_smooth(name):
    """|g - g'|^2 <= 2 L (f - f' - <g', x - x'>) holds for convex L-smooth functions only."""
    problem = PROBLEMS[name]
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
        x, y = near_start(problem, 0.3, 0), near_start(problem, 0.3, 1)
        (f, g), (h, k) = (value_and_grad(jnp.asarray(z), problem.data) for z in (x, y))
        for gap in (f - h - k @ (x - y), h - f - g @ (y - x)):
            assert float(jnp.sum((g - k) ** 2)) <= 2 * problem.smoothness * float(gap) * (1 + 1e-9)


@pytest.mark.parametrize(
    "name", ["least squares, diabetes", "quadratic, spectrum i^-1", "Nesterov's slowest"]
)
def test_l_is_the_top_eigenvalue_of_quadratics(name):
    problem = PROBLEMS[name]
    with jax.enable_x64(True):
        hessian = jax.jit(jax.hessian(problem.loss))
        values = np.linalg.eigvalsh(hessian(jnp.asarray(problem.start), problem.data))
    assert values[-1] == pytest.approx(problem.smoothness, rel=1e-9)


def test_minima_have_their_closed_forms():
    with jax.enable_x64(True):
        squares = PROBLEMS["least squares, diabetes"]
        x, y = squares.data
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        assert minimum(squares) == pytest.approx(np.mean(residual**2) / 2, rel=1e-12)
        slowest = PROBLEMS["Nesterov's slowest"]
        known = -(1 - 1 / (len(slowest.start) + 1)) / 8
        assert minimum(slowest) == pytest.approx(known, rel=1e-9)


def test_minimum_raises_if_newton_does_not_converge():
    problem = PROBLEMS["logistic, breast cancer"]
    with jax.enable_x64(True), pytest.raises(RuntimeError, match="breast cancer: no minimum found"):
        minimum(problem, iterations=2)
