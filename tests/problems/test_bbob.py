"""BBOB: COCO's numbers, finite gradients, published minima."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.benchmarks import bbob as benchmark
from jaxdescent.problems.coco import generator

every_function = pytest.mark.parametrize("number", range(1, 25))
INSTANCES = range(1, 16)
RUGGED = {7, 16, 23}  # piecewise constant, or with waves of length 1e-6 and less

# One program for each function, dimension and dtype.
_evaluate = jax.jit(jax.vmap(jax.vmap(jd.Problem.value_and_grad, (None, 0))))
_value = jax.jit(jax.vmap(jax.vmap(jd.Problem.value, (None, 0))))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module")
def cocoex():
    return pytest.importorskip("cocoex", reason="the extra bbob is not installed")


def instances(number, n, **options):
    return benchmark.stacked([jd.problems.bbob(number, n, i, **options) for i in INSTANCES])


def evaluate(problems, points):
    """Returns values and gradients. Points are padded to 24, so that a function compiles once."""
    count = points.shape[1]
    rows = np.resize(np.moveaxis(points, 1, 0), (24, *np.delete(points.shape, 1)))
    values, grads = _evaluate(problems, jnp.moveaxis(jnp.asarray(rows), 0, 1))
    return np.asarray(values)[:, :count], np.asarray(grads)[:, :count]


def uniform(n, count, reach=5.0):
    return np.random.default_rng(n).uniform(-reach, reach, (len(INSTANCES), count, n))


def values_only(problems, points):
    return np.asarray(_value(problems, points))


@pytest.mark.parametrize(("n", "values_of"), [(2, values_only), (5, lambda *a: evaluate(*a)[0])])
@every_function
def test_values_equal_coco(cocoex, number, n, values_of):
    problems = instances(number, n)
    # Inside the box and outside, where penalties apply.
    points = np.concatenate([uniform(n, 12), uniform(n, 12, reach=7.0)], axis=1)
    values = values_of(problems, points)
    expected = benchmark.reference(number, n, INSTANCES, points)
    error = np.abs(values - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-10


@every_function
def test_minimizers_and_minima_equal_coco(cocoex, number):
    problems = instances(number, 5)
    values = evaluate(problems, problems.optima)[0][:, 0]
    np.testing.assert_allclose(values, problems.minimum, rtol=0, atol=1e-12)
    found = benchmark.reference(number, 5, INSTANCES, np.asarray(problems.optima))[:, 0]
    np.testing.assert_allclose(found, problems.minimum, rtol=0, atol=1e-12)


@every_function
def test_no_value_is_below_the_minimum(number):
    problems = instances(number, 5, offset=False)
    near = np.asarray(problems.optima) + 1e-3 * uniform(5, 8)
    points = np.concatenate([near, uniform(5, 8), uniform(5, 8, reach=50.0)], axis=1)
    values, _ = evaluate(problems, points)
    assert values.min() >= 0
    np.testing.assert_allclose(evaluate(problems, problems.optima)[0], 0, atol=1e-18)


@every_function
def test_gradients_are_finite(number):
    problems = instances(number, 5)
    optima = np.asarray(problems.optima)
    axes = np.eye(5) * np.array([1e-300, 1e-160, 1e-20, 1e-8, 1.0])[:, None]
    points = [
        optima,
        optima + axes,
        np.zeros_like(optima),
        np.broadcast_to(axes, (len(INSTANCES), 5, 5)),
        5.0 * np.sign(uniform(5, 6)),
        uniform(5, 6),
    ]
    values, grads = evaluate(problems, np.concatenate(points, axis=1))
    assert np.isfinite(values).all()
    assert np.isfinite(grads).all()


@every_function
def test_nan_inputs_give_nan_values(number):
    points = uniform(5, 5)
    points[:, np.arange(5), np.arange(5)] = np.nan
    assert np.isnan(evaluate(instances(number, 5), points)[0]).all()


@pytest.mark.parametrize("number", sorted(set(range(1, 25)) - RUGGED))
def test_gradients_equal_finite_differences(number):
    problems = instances(number, 5, offset=False)
    reach = 0.02 if number == 19 else 5.0  # its waves are short far from the minimizer
    points = np.asarray(problems.optima) * (reach < 5) + uniform(5, 4, reach)
    _, grads = evaluate(problems, points)
    along = np.random.default_rng(1).standard_normal(points.shape)
    step = 1e-7
    (after, _), (before, _) = (evaluate(problems, points + s * step * along) for s in (1, -1))
    slopes = (after - before) / (2 * step)
    expected = np.sum(grads * along, axis=-1)
    # The tolerance includes the rounding error, f * 2^-53 / step.
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=2e-8 * after.max() + 1e-4)


def test_a_staircase_has_gradient_0_in_the_box_only():
    problem = jd.problems.bbob(7, 3)
    points = jnp.array([[3.0, 3.0, -3.0], [6.0, 0.0, -5.5]])
    grads = jax.jit(jax.vmap(problem.value_and_grad))(points)[1]
    np.testing.assert_allclose(grads, [[0, 0, 0], [2, 0, -1]])


@pytest.mark.parametrize(
    ("number", "minimum"),
    [(1, 79.48), (2, -209.88), (3, -462.09), (8, 149.15), (10, -54.94), (17, -16.94), (24, 102.61)],
)
def test_minima_of_the_first_instance_equal_the_published_minima(number, minimum):
    assert float(jd.problems.bbob(number).minimum) == minimum


def test_rotations_are_orthogonal():
    matrix = generator.rotation(40, 1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(40), atol=1e-13)


def test_without_offset_small_values_are_accurate_in_float32():
    with jax.enable_x64(False):
        bare, full = (jd.problems.bbob(8, 10, offset=offset) for offset in (False, True))
        moved = bare.optima[0] + 1e-3
        value_at = jax.jit(jd.Problem.value)
        value, lossy = value_at(bare, moved), value_at(full, moved) - full.minimum
        assert value.dtype == jnp.float32
        assert value_at(bare, bare.optima[0]) == bare.minimum == 0
    moved = np.asarray(moved, float) - np.asarray(bare.optima[0], float)
    double = jd.problems.bbob(8, 10, offset=False)
    exact = float(value_at(double, double.optima[0] + moved))
    assert abs(float(value) - exact) < 1e-5 * exact < abs(float(lossy) - exact)


def test_instances_share_one_compiled_program():
    chex.clear_trace_counter()
    value = jax.jit(chex.assert_max_traces(lambda problem, x: problem.value(x), 1))
    values = [value(jd.problems.bbob(21, 3, i), jnp.ones(3)) for i in (1, 2, 3)]
    assert len(set(map(float, values))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 0}, r"number must be an integer in \[1, 24\], got 0"),
        ({"number": 25}, r"number must be an integer in \[1, 24\], got 25"),
        ({"number": 1, "dimension": 1}, r"dimension must be an integer in \[2, 40\], got 1"),
        ({"number": 1, "dimension": 41}, r"dimension must be an integer in \[2, 40\], got 41"),
        ({"number": 1, "instance": 0}, "instance must be an integer at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        jd.problems.bbob(**arguments)
