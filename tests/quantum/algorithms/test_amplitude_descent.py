"""Amplitude-encoded descent is projected gradient descent, with the costs of hardware counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.quantum.algorithms.amplitude_descent import descent_matrix


def symmetric(n, degree, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(n**degree, n**degree))
    return (matrix + matrix.T) / 2


def polynomial(matrix, degree):
    def value(x):
        product = x
        for _ in range(degree - 1):
            product = jnp.kron(product, x)
        return product @ matrix @ product / 2

    return value


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_matrix_times_x_is_the_gradient(degree):
    with jax.enable_x64(True):
        matrix = jnp.asarray(symmetric(3, degree))
        x = jnp.array([0.3, -1.2, 0.7])
        found = descent_matrix(matrix.reshape((3,) * (2 * degree)), x)
        np.testing.assert_allclose(found, found.T, atol=1e-12)
        np.testing.assert_allclose(found @ x, jax.grad(polynomial(matrix, degree))(x), rtol=1e-10)


@pytest.mark.parametrize("degree", [1, 2])
def test_steps_are_normalized_gradient_descent(degree):
    matrix, start, rate = symmetric(3, degree), np.array([1.0, 2.0, -1.0]), 0.05
    with jax.enable_x64(True):
        result = jd.quantum.amplitude_descent(matrix, start, learning_rate=rate, steps=4)
        value = polynomial(jnp.asarray(matrix), degree)
        x = start / np.linalg.norm(start)
        copies = 1.0
        for step in range(4):
            np.testing.assert_allclose(result.path[step], x, rtol=1e-9)
            assert result.values[step] == pytest.approx(float(value(x)))
            moved = x - rate * np.asarray(jax.grad(value)(x))
            tensor = jnp.asarray(matrix).reshape((3,) * (2 * degree))
            largest = np.linalg.norm(np.asarray(descent_matrix(tensor, jnp.asarray(x))), 2)
            length = np.linalg.norm(moved)
            probability = (length / (1 + rate * largest)) ** 2
            assert result.step_probability[step] == pytest.approx(probability)
            copies *= 5 / probability
            assert result.log10_copies[step] == pytest.approx(np.log10(copies))
            x = moved / length
    np.testing.assert_allclose(result.params, x, rtol=1e-9)
    assert result.qubits == 2
    assert np.all(np.diff(result.values) < 0)


def test_a_quadratic_form_leads_to_its_lowest_eigenvector():
    matrix = symmetric(8, 1, seed=3)
    result = jd.quantum.amplitude_descent(matrix, jnp.ones(8), learning_rate=0.15, steps=300)
    values, vectors = np.linalg.eigh(matrix)
    assert result.values[-1] == pytest.approx(values[0] / 2, abs=1e-5)
    assert abs(result.params @ vectors[:, 0]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(result.path, axis=1), 1, rtol=1e-6)
    assert result.qubits == 3
    assert np.all((result.step_probability > 0) & (result.step_probability <= 1))
    assert np.all(np.isfinite(result.log10_copies))
    assert result.log10_copies[-1] > 300 * np.log10(5)


GOOD = {"coefficients": np.eye(4), "x": np.ones(2), "learning_rate": 0.1, "steps": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficients": np.eye(3)}, r"coefficients must be a square matrix of 2\^p rows"),
        ({"coefficients": np.ones((2, 4))}, r"coefficients must be a square matrix .*\(2, 4\)"),
        ({"coefficients": np.triu(np.ones((4, 4)))}, "coefficients must be symmetric"),
        ({"coefficients": np.full((4, 4), np.nan)}, "coefficients must be finite"),
        ({"x": np.ones(1)}, "x must be a vector of at least 2 numbers"),
        ({"x": np.zeros(2)}, "x must not be 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a number in"),
        ({"steps": 0}, "steps must be an integer at least 1"),
        ({"copies_per_step": 0}, "copies_per_step must be an integer at least 1"),
        ({"x": "ab"}, "x must be a real number or an array of them"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jd.quantum.amplitude_descent(**{**GOOD, **options})
