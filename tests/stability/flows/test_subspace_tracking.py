"""The tracked subspace, against dense eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.stability.flows.subspace_tracking import track

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def spectrum(values, seed=0):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return (turn * values) @ turn.T, turn


VALUES = np.array([10.0, 9.0, 6.0, 3.0, 1.0, 0.5, -2.0, -4.0])


def test_residuals_are_met_and_certify_the_values():
    with jax.enable_x64(True):
        M, turn = spectrum(VALUES)
        start = turn[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(8, 2))
        found = track(lambda x: M @ x, jnp.asarray(start), tolerance=1e-3, max_rounds=20)
        image = M @ found.vectors
        np.testing.assert_allclose(found.image, image, atol=1e-12)
        left = np.linalg.norm(image - found.values * found.vectors, axis=0)
        np.testing.assert_allclose(found.residuals, left, atol=1e-12)
        assert np.all(left < 1e-3)
        np.testing.assert_allclose(found.values, VALUES[:2], atol=1e-5)
        np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2), atol=1e-12)


def test_what_is_there_already_costs_no_round():
    M, turn = spectrum(VALUES)
    found = track(lambda x: M @ x, jnp.asarray(turn[:, :2]), tolerance=1e-3)
    assert found.rounds == 0


def test_rounds_that_are_asked_for_find_what_has_overtaken():
    M, turn = spectrum(VALUES)
    hidden = 1e-3 * turn[:, :1] + turn[:, 1:2]  # an eigenvector, almost, but not the top one
    still = track(lambda x: M @ x, jnp.asarray(hidden), tolerance=0.1)
    np.testing.assert_allclose(still.values, [9.0], atol=1e-3)
    found = track(lambda x: M @ x, jnp.asarray(hidden), tolerance=0.1, min_rounds=1)
    assert found.values[0] > 9.9
