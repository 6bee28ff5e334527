"""Graduated descent follows the minimum of a smoothed function while the smoothing decreases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.global_search.graduated_descent import _advance, _mirrored, _Options, _State
from jaxdescent.global_search.unit_box import Function

BOX = jnp.full(10, 30.0)


def ackley(x, shift=7.0):
    waves = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * (x - shift))))
    return 20 + jnp.e - 20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean((x - shift) ** 2))) - waves


SIDE = jnp.full(10, 5.12)


def rastrigin_near_border(x):
    """The minimizer is a ninth of the box's width from the border."""
    return jnp.sum((x - 4.0) ** 2 + 20 * jnp.sin(jnp.pi * x) ** 2)


def slope(x):
    return jnp.sum(x)


def run(function, lower=-BOX, upper=BOX, max_evaluations=20_000, **options):
    return jd.graduated_descent(
        function, bounds=(lower, upper), max_evaluations=max_evaluations, **options
    )


def test_a_function_with_local_minima_along_a_trend_is_solved():
    result = run(ackley, max_evaluations=60_000, centers=2)
    assert result.value < 1e-3
    assert result.value == pytest.approx(float(ackley(result.params)), abs=1e-4)
    assert result.evaluations <= 60_000
    assert jnp.all(jnp.isfinite(result.centers))
    assert result.centers.shape == (2, 10)


def test_the_step_is_relative_to_the_standard_error_of_the_mean_gradient():
    infinite, center = jnp.full(2, jnp.inf), jnp.array([0.3, -0.1])
    state = _State(center, jnp.zeros(2), center, jnp.asarray(jnp.inf))
    options = _Options(np.int32(10), np.float32(0.5))
    key, width = jax.random.key(0), jnp.asarray(0.2)

    def cubic(x):
        return jnp.sum(x**3)

    new = _advance(
        Function(cubic, jax.value_and_grad(cubic), -infinite, infinite),
        state,
        key,
        jnp.int32(0),
        width,
        options,
        16,
    )
    half = np.asarray(jax.random.normal(key, (8, 2)))
    x, z = np.asarray(center), 0.2 * half
    pairs = (3 * (x + z) ** 2 + 3 * (x - z) ** 2) / 2
    mean, error = pairs.mean(0), pairs.std(0, ddof=1) / 8**0.5
    expected = x - 0.5 * 0.2 * mean / np.sqrt(mean**2 + error**2)
    np.testing.assert_allclose(new.center, expected, rtol=1e-4)
    np.testing.assert_allclose(new.momentum, mean / 2, rtol=1e-4)
    points = np.concatenate([x + z, x - z])
    values = (points**3).sum(1)
    np.testing.assert_allclose(new.best, points[values.argmin()], rtol=1e-5)
    np.testing.assert_allclose(new.best_value, values.min(), rtol=1e-5)


def test_points_beyond_a_bound_are_mirrored_at_it():
    lower, upper = jnp.array([0.0, -jnp.inf]), jnp.array([1.0, jnp.inf])
    points = jnp.array([[-0.25, -3.0], [1.5, 3.0], [2.5, 0.0], [0.5, 0.5]])
    inside = _mirrored(points, lower, upper)
    np.testing.assert_allclose(inside, [[0.25, -3], [0.5, 3], [0, 0], [0.5, 0.5]])


def test_the_kernel_is_narrower_near_a_bound():
    center, infinite = jnp.array([0.1, 0.0, 0.5]), jnp.asarray(jnp.inf)
    state = _State(center, jnp.zeros(3), center, infinite)
    lower, upper = jnp.array([0.0, 0.0, -jnp.inf]), jnp.array([1.0, 1.0, jnp.inf])
    function = Function(slope, jax.value_and_grad(slope), lower, upper)
    options, width = _Options(np.int32(10), np.float32(0.5)), jnp.asarray(0.2)
    new = _advance(function, state, jax.random.key(0), jnp.int32(0), width, options, 16)
    np.testing.assert_allclose(new.momentum, 0.5)
    # A third of the distance to the bound, clipped at the bound, and the whole width.
    np.testing.assert_allclose(center - new.center, [0.5 * 0.1 / 3, 0, 0.5 * 0.2], rtol=1e-5)


@pytest.mark.parametrize("bounds", ["project", None])
def test_a_minimum_near_the_border_is_found_with_and_without_bounds(bounds):
    problem = jd.Problem(rastrigin_near_border, -SIDE, SIDE, bounds=bounds)
    result = jd.graduated_descent(problem, max_evaluations=100_000)
    assert result.value < 1e-4


def test_without_bounds_the_minimum_may_be_outside_of_the_box():
    def shifted(x):
        return rastrigin_near_border(x - 6.0)

    result = jd.graduated_descent(
        jd.Problem(shifted, -SIDE, SIDE, bounds=None), max_evaluations=100_000
    )
    np.testing.assert_allclose(result.params, 10.0, atol=1e-3)


def test_points_stay_within_the_bounds():
    upper = jnp.array([1.0, 2.0])
    result = run(slope, -jnp.ones(2), upper, 2_000)
    np.testing.assert_array_equal(result.params, [-1, -1])
    assert result.value == -2


def test_a_problem_of_trees_with_undefined_regions_is_solved():
    def value(x):
        return jnp.where(x["b"] < -1, jnp.nan, jnp.sum((x["a"] - 1) ** 2) + (x["b"] - 1) ** 2)

    upper = {"a": jnp.full((2, 2), 3.0), "b": jnp.asarray(3.0)}
    lower = jax.tree.map(jnp.negative, upper)
    result = run(value, lower, upper, 3_000)
    assert result.value < 1e-6
    assert result.params["a"].shape == (2, 2)


def test_a_function_without_finite_values_is_reported():
    result = run(lambda x: jnp.nan * jnp.sum(x), -jnp.ones(2), jnp.ones(2), 1_000)
    assert result.value == jnp.inf
    assert jnp.all(jnp.isfinite(result.params))


@pytest.mark.parametrize("exponent", [-60, 60])
def test_units_of_the_box_and_of_values_do_not_matter(exponent):
    def scaled(x, s):
        return s * ackley(x / s, 0.3)

    def problem(s):
        side = s * np.ones(2, np.float32)
        return jd.Problem(scaled, -side, side, data=(s,))

    one, other = np.float32(1), np.float32(2.0**exponent)
    plain, rescaled = (
        jd.graduated_descent(problem(s), max_evaluations=2_000) for s in (one, other)
    )
    np.testing.assert_allclose(plain.params, rescaled.params / other, atol=1e-4)


def test_another_budget_and_other_numbers_share_one_program():
    def counted(x):
        traces.append(None)
        return jnp.sum(x**2)

    traces = []
    problem = jd.Problem(counted, -jnp.ones(2), jnp.ones(2))
    jd.graduated_descent(problem, max_evaluations=1_000)
    first = len(traces)
    options = {"step": 0.1, "key": jax.random.key(3)}
    jd.graduated_descent(problem, max_evaluations=1_500, **options)
    assert len(traces) <= first + 1  # the check of the value's shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 5}, "samples must be even, for antithetic pairs, got 5"),
        ({"samples": 2}, "samples must be"),
        ({"centers": 0}, "centers must be"),
        ({"step": 0.0}, r"step must be in \(0, 1\], got 0"),
        ({"max_evaluations": 100}, r"max_evaluations must be at least 165, .* got 100"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(slope, **options)


def test_a_box_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="lower and upper must be finite"):
        run(slope, -jnp.ones(2), jnp.array([1.0, jnp.inf]))
    with pytest.raises(ValueError, match=r"bounds must be \(lower, upper\)"):
        jd.graduated_descent(slope)
