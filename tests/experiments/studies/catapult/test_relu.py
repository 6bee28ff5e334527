"""The sharpness of the ReLU network is the Gauss-Newton matrix's."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.catapult import relu


def test_sharpness_is_the_top_eigenvalue_of_the_dense_gauss_newton_matrix():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        shapes = ((3, 2), (3, 3), (3,), (4, 2))
        *params, x = (
            jax.random.normal(key, shape, float) for key, shape in zip(keys, shapes, strict=True)
        )
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        jacobian = jax.jit(jax.jacobian(lambda flat: relu.apply_network(unravel(flat), x)))(flat)
        top = jnp.linalg.eigvalsh(jacobian.T @ jacobian / 4)[-1]
        np.testing.assert_allclose(jax.jit(relu.sharpness)(params, x), top, rtol=1e-10)
