"""The linear network has the exact sharpness and follows the published recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.catapult import linear


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_the_top_eigenvalue_of_the_dense_hessian(seed):
    with jax.enable_x64(True):
        params = jax.random.normal(jax.random.key(seed), (2, 5), float)
        dense = jax.jit(jax.hessian(lambda flat: linear.loss(flat.reshape(2, 5))))(params.ravel())
        top = jnp.linalg.eigvalsh(dense)[-1]
        np.testing.assert_allclose(linear.sharpness(params), top, rtol=1e-10)


def test_training_follows_the_published_recursion():
    """With k the kernel: f <- f (1 - r k + r^2 f^2 / m), k <- k + r f^2 / m (r k - 4)."""
    m, rate = 50, 1.1
    with jax.enable_x64(True):
        u, v = np.asarray(jax.random.normal(jax.random.key(1), (2, m), float))
        curves = linear.train((u[None], v[None]), np.array([rate]), 30)
    f, kernel = u @ v / np.sqrt(m), (u @ u + v @ v) / m
    losses = []
    for _ in range(31):
        losses.append(f**2 / 2)
        f, kernel = (
            f * (1 - rate * kernel + rate**2 * f**2 / m),
            kernel + rate * f**2 / m * (rate * kernel - 4),
        )
    np.testing.assert_allclose(curves.losses[0], losses, rtol=1e-9, atol=1e-12)


def test_convergence_and_its_number_of_steps():
    losses = np.array(
        [[1.0, 1e-7, 1.0, 1e-7, 1e-8], [1.0, 2.0, 0.1, 0.1, 0.1], [1.0] + [np.nan] * 4]
    )
    curves = linear.TrainingCurves(losses, losses, np.ones(3), np.ones(3))
    np.testing.assert_array_equal(curves.converged, [True, False, False])
    np.testing.assert_array_equal(curves.steps, [3, np.inf, np.inf])
