"""The catapult study runs from end to end, and its sharpness is the Hessian's."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import catapult

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["catapult", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "catapult").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_line_is_in_the_table_and_the_picture_is_a_png(folder):
    rows = description(folder)["table"]["rows"]
    assert [row[0] for row in rows[:8]] == ["constant"] * 5 + ["catapult warm-up"] * 3
    assert {row[0] for row in rows[8:]} == {"ReLU"}
    assert (folder / "catapult.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_lazy_keeps_its_sharpness_and_what_is_catapulted_loses_it(folder):
    results = description(folder)["results"]
    change = lambda name: np.divide(results[name]["after"], results[name]["before"])
    assert all(results["constant 1.5"]["converged"])
    np.testing.assert_allclose(change("constant 1.5"), 1, rtol=0.05)
    assert all(results["constant 2.2"]["converged"])
    assert np.all(change("constant 2.2") < 0.95)
    assert not any(results["constant 4.5"]["converged"])


def test_the_warm_up_starts_at_2_over_the_sharpness(folder):
    found = description(folder)["results"]["warm-up 3.8"]
    np.testing.assert_allclose(np.multiply(found["found"], found["before"]), 2, rtol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_the_top_eigenvalue_of_the_dense_hessian(seed):
    with jax.enable_x64(True):
        params = jax.random.normal(jax.random.key(seed), (2, 5), float)
        dense = jax.jit(jax.hessian(lambda flat: catapult.loss(flat.reshape(2, 5))))(params.ravel())
        top = jnp.linalg.eigvalsh(dense)[-1]
        np.testing.assert_allclose(catapult.sharpness(params), top, rtol=1e-10)


def test_descent_is_the_published_recursion():
    """With k the kernel: f <- f (1 - r k + r^2 f^2 / m), k <- k + r f^2 / m (r k - 4)."""
    m, rate = 50, 1.1
    with jax.enable_x64(True):
        u, v = np.asarray(jax.random.normal(jax.random.key(1), (2, m), float))
        found = catapult._train((u[None], v[None]), np.array([rate]), 30)
    f, kernel = u @ v / np.sqrt(m), (u @ u + v @ v) / m
    losses = []
    for _ in range(31):
        losses.append(f**2 / 2)
        f, kernel = (
            f * (1 - rate * kernel + rate**2 * f**2 / m),
            kernel + rate * f**2 / m * (rate * kernel - 4),
        )
    np.testing.assert_allclose(found["losses"][0], losses, rtol=1e-9, atol=1e-12)


def test_the_gauss_newton_matrix_has_the_sharpness_of_its_kernel():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        shapes = ((3, 2), (3, 3), (3,), (4, 2))
        *params, x = (
            jax.random.normal(key, shape, float) for key, shape in zip(keys, shapes, strict=True)
        )
        flat, back = jax.flatten_util.ravel_pytree(params)
        slopes = jax.jit(jax.jacobian(lambda flat: catapult.relu_outputs(back(flat), x)))(flat)
        top = jnp.linalg.eigvalsh(slopes.T @ slopes / 4)[-1]
        np.testing.assert_allclose(jax.jit(catapult.relu_sharpness)(params, x), top, rtol=1e-10)


def test_convergence_and_the_steps_it_takes_are_counted():
    losses = np.array(
        [[1.0, 1e-7, 1.0, 1e-7, 1e-8], [1.0, 2.0, 0.1, 0.1, 0.1], [1.0] + [np.nan] * 4]
    )
    outcome = catapult.Outcome(losses, losses, np.ones(3), np.ones(3))
    np.testing.assert_array_equal(outcome.converged, [True, False, False])
    np.testing.assert_array_equal(outcome.steps, [3, np.inf, np.inf])


def test_rows_around_the_limit_are_shown():
    yes, some, no = [True, True], [True, False], [False, False]
    assert catapult._shown(np.array([yes, yes, some, no, no])) == [1, 2, 3]
    assert catapult._shown(np.array([yes, some, yes, no])) == [0, 2, 3]
    share = np.array([yes])
    assert catapult._shown(share) == [0]
    assert catapult._shown(~share) == [0]
