"""Tracked subspaces against dense eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.stability.flows.subspace_tracking import track


def spectrum(values, seed=0):
    rng = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return (vectors * values) @ vectors.T, vectors


VALUES = np.array([10.0, 9.0, 6.0, 3.0, 1.0, 0.5, -2.0, -4.0])


def test_residuals_are_within_the_tolerance_and_bound_the_error():
    with jax.enable_x64(True):
        M, vectors = spectrum(VALUES)
        start = vectors[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(8, 2))
        found = track(lambda x: M @ x, jnp.asarray(start), tolerance=1e-3, max_rounds=20)
        image = M @ found.vectors
        np.testing.assert_allclose(found.image, image, atol=1e-12)
        residuals = np.linalg.norm(image - found.values * found.vectors, axis=0)
        np.testing.assert_allclose(found.residuals, residuals, atol=1e-12)
        assert np.all(residuals < 1e-3)
        np.testing.assert_allclose(found.values, VALUES[:2], atol=1e-5)
        np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_residuals_have_the_units_of_the_matrix(unit):
    M, vectors = spectrum(VALUES)
    M, start = jnp.float32(M), jnp.float32(vectors[:, :2] + 0.1)
    plain, scaled = (
        track(lambda x, M=M: M @ x, start, tolerance=0.0, max_rounds=0) for M in (M, unit * M)
    )
    np.testing.assert_allclose(scaled.residuals / unit, plain.residuals, rtol=1e-2)


def test_an_exact_start_needs_no_round():
    M, vectors = spectrum(VALUES)
    found = track(lambda x: M @ x, jnp.asarray(vectors[:, :2]), tolerance=1e-3)
    assert found.rounds == 0


def test_a_minimum_number_of_rounds_finds_a_larger_eigenvalue():
    M, vectors = spectrum(VALUES)
    hidden = 1e-3 * vectors[:, :1] + vectors[:, 1:2]  # nearly an eigenvector, but not the top one
    still = track(lambda x: M @ x, jnp.asarray(hidden), tolerance=0.1)
    np.testing.assert_allclose(still.values, [9.0], atol=1e-3)
    found = track(lambda x: M @ x, jnp.asarray(hidden), tolerance=0.1, min_rounds=1)
    assert found.values[0] > 9.9
