"""Jordan's algorithm: outcomes of linear functions are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd


def plane(slopes):
    return lambda x: jnp.dot(jnp.asarray(slopes, x.dtype), x)


def fejer(number, points):
    """Probabilities of the outcomes of a register whose exact number is between two integers."""
    offset = number - np.arange(-points // 2, points // 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (np.sin(np.pi * offset) / (points * np.sin(np.pi * offset / points))) ** 2
    return np.where(offset == 0, 1.0, found)


def test_a_representable_gradient_has_probability_1():
    slopes = [2.5, -1.75, 0.25]
    result = jd.quantum.jordan_gradient(plane(slopes), jnp.zeros(3), qubits=5)
    assert result.gradient.tolist() == slopes
    assert result.probability == pytest.approx(1, abs=1e-4)


def test_outcomes_of_a_plane_are_fejer_kernels():
    slopes, points = [2.633, -1.3], 2**7
    with jax.enable_x64(True):
        result = jd.quantum.jordan_gradient(plane(slopes), jnp.zeros(2))
    kernels = [fejer(slope * points / 8, points) for slope in slopes]
    np.testing.assert_allclose(result.marginals, kernels, atol=1e-9)
    np.testing.assert_allclose(result.slopes, np.arange(-64, 64) / 16)
    assert result.gradient.tolist() == [2.625, -1.3125]
    assert result.probability == pytest.approx(kernels[0].max() * kernels[1].max())
    assert result.probability == pytest.approx(0.83, abs=0.005)


def test_the_gradient_of_a_curved_function_at_a_point_of_a_tree():
    def function(params):
        return jnp.sin(params["a"]) * jnp.exp(params["b"][0]) + 3 * params["b"][1]

    with jax.enable_x64(True):
        x = {"a": jnp.asarray(0.4), "b": jnp.array([0.2, 7.0])}
        result = jd.quantum.jordan_gradient(function, x, qubits=7, length=1e-4)
        expected = jax.grad(function)(x)
        found = np.array([result.gradient["a"], *result.gradient["b"]])
        exact = np.array([expected["a"], *expected["b"]])
    np.testing.assert_allclose(found, exact, atol=8 / 2**7 / 2)
    assert result.marginals.shape == (3, 128)
    np.testing.assert_allclose(np.sum(np.asarray(result.marginals), 1), 1)


def test_slopes_out_of_range_wrap_around():
    result = jd.quantum.jordan_gradient(plane([5.0]), jnp.zeros(1), slope_range=8.0)
    assert result.gradient.tolist() == [-3.0]


def test_points_can_be_vmapped():
    def bowl(x):
        return jnp.sum(x**2) / 2

    points = jnp.array([[1.0, -0.5], [0.25, 2.0]])
    found = jax.vmap(lambda x: jd.quantum.jordan_gradient(bowl, x, qubits=5).gradient)(points)
    np.testing.assert_allclose(found, points, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: (f, jnp.zeros(4), {"qubits": 6}), "qubits must be at most 5 for 4 coordinates"),
        (lambda f: (f, jnp.zeros(30), {"qubits": 1}), "qubits must be at most 0 for 30"),
        (lambda f: (f, jnp.zeros(1), {"qubits": 0}), r"qubits must be an integer in \[1, 22\]"),
        (lambda f: (f, jnp.zeros(1), {"length": 0.0}), "length must be a number in"),
        (lambda f: (f, jnp.zeros(1), {"slope_range": -1.0}), "slope_range must be a number in"),
        (lambda f: (f, jnp.zeros(1, int), {}), "x must have real floating-point leaves"),
        (lambda f: (3, jnp.zeros(1), {}), "function must be callable, got 3"),
        (lambda f: (lambda x: x, jnp.zeros(2), {}), "function must return a real scalar"),
    ],
)
def test_bad_arguments_are_named(call, message):
    function, x, options = call(jnp.sum)
    with pytest.raises((ValueError, TypeError), match=message):
        jd.quantum.jordan_gradient(function, x, **options)
