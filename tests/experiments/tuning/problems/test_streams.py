"""Streams: scores are the expected losses of the moment, and targets move as described."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tuning.generated import Moment
from experiments.tuning.problems import streams


def at(progress):
    return Moment(jnp.int32(0), jnp.float32(progress))


def best_params(problem, progress, batches=100):
    """Returns the least-squares coefficients of many batches of a regression."""
    observe = jax.vmap(lambda key: problem.observe(None, (), key, at(progress))[0])
    x, y = observe(jax.random.split(jax.random.key(0), batches))
    return np.linalg.lstsq(np.reshape(x, (-1, 20)), np.ravel(y))[0]


@pytest.mark.parametrize("make", [streams.drifting_regression, streams.jumping_regression])
def test_the_score_of_a_regression_is_the_mean_loss_of_many_batches(make):
    problem = make()
    params = jax.random.normal(jax.random.key(1), (20,))

    def loss(key):
        return problem.loss(params, problem.observe(params, (), key, at(0.3))[0])

    losses = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(2), 4000))
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - problem.score(params, at(0.3))) < 4 * error


def test_the_least_score_of_a_regression_is_the_variance_of_the_noise():
    problem = streams.drifting_regression()
    found = best_params(problem, 0.7)
    assert 0.25 <= problem.score(jnp.asarray(found, jnp.float32), at(0.7)) < 0.27
    assert problem.score(jnp.asarray(found, jnp.float32), at(0.2)) > 1.0


def test_coefficients_jump_at_fifths_and_stay_between():
    problem = streams.jumping_regression()
    score = partial(problem.score, jnp.zeros(20))
    values = [float(score(at((i + 0.5) / 50))) for i in range(50)]
    assert len({*np.round(values, 3)}) == 5
    assert all(len({*np.round(values[i : i + 10], 3)}) == 1 for i in range(0, 50, 10))
    assert values[15] > 3 * values[5]


def test_permuted_digits_have_the_same_pixels_in_another_order_in_each_sixth():
    problem = streams.permuted_digits()
    (first, labels), _ = problem.observe(None, (), jax.random.key(0), at(0.01))
    (same, _), _ = problem.observe(None, (), jax.random.key(0), at(0.16))
    (second, labels_again), _ = problem.observe(None, (), jax.random.key(0), at(0.17))
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(labels, labels_again)
    np.testing.assert_array_equal(np.sort(first, 1), np.sort(second, 1))
    assert (first != second).any()


def test_rotating_classes_have_centers_of_length_two_that_move():
    problem = streams.rotating_classes(batch_size=20_000)
    centers = []
    for progress in (0.0, 0.1):
        (x, y), _ = problem.observe(None, (), jax.random.key(3), at(progress))
        centers.append(np.array([x[y == label].mean(0) for label in range(5)]))
    np.testing.assert_allclose(np.linalg.norm(centers, axis=-1), 2.0, atol=0.1)
    cosines = np.sum(centers[0] * centers[1], -1) / 4
    np.testing.assert_allclose(
        cosines, np.cos(2 * np.pi * 0.1 / np.geomspace(0.25, 1, 5)), atol=0.06
    )
