"""Parts of jd.hybrid can be switched off, and a sweep is followed by a descent."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from jaxdescent.global_search import coordinate_search, islands
from jaxdescent.global_search.hybrid import Limits, search
from jaxdescent.global_search.parts import Parts

SIDE = 6  # coordinates of the function with holes


def holes(x):
    """A plateau with a narrow hole in each coordinate, -1 at 0.3 in all of them."""
    return -jnp.mean(jnp.exp(-((60 * (x - 0.3)) ** 2)))


def search_holes(max_evaluations, **parts):
    problem = jd.Problem(holes, jnp.zeros(SIDE), jnp.ones(SIDE))
    limits = Limits.of(max_evaluations, target=None, patience=None)
    return search(problem, jax.random.key(0), limits, lanes=16, parts=Parts(**parts))


def test_after_a_sweep_that_improves_the_next_round_descends_from_the_new_best_point():
    # Only descents after sweeps have gradients, and all generations have the same size.
    # Points from a fixed Gaussian are never in the holes of all coordinates.
    result = search_holes(
        7_000,
        first_descent=False,
        minima=False,
        adaptation=False,
        population_sizes=False,
        last_descents=False,
    )
    size = islands.POPULATION[islands.POINTS] * 9  # 4 + 3 log 6
    cost = coordinate_search.cost(SIDE)
    before = math.ceil(cost / coordinate_search.SHARE / size) * size
    assert result.value == -1  # to all digits, which no sweep finds
    assert result.gradients == result.gradients_to_best > 0
    assert result.evaluations_to_best - result.gradients == before + cost
    np.testing.assert_allclose(result.params, 0.3, atol=1e-4)


def test_without_points_sweeps_and_restarts_a_run_of_descents_is_all():
    result = search_holes(50_000, points=False, sweeps=False, restarts=False)
    assert result.gradients == result.evaluations < 10_000
    assert result.restarts.tolist() == [1, 0]
    assert jd.StopReason(int(result.stop_reason)).name == "CONVERGED"


def test_without_adaptation_the_gaussian_stays_as_it_was():
    first = islands.begin(jnp.full(3, 0.5), islands.POINTS)
    points = jax.random.uniform(jax.random.key(0), (32, 3))
    sampled = islands._Samples(points, jnp.sum(points, 1), jnp.ones(32, jnp.int32))

    def update(adaptation):
        parts = Parts(adaptation=adaptation)
        return islands._updated(first, jnp.zeros((), bool), sampled, parts).gaussian

    still, moved = jax.jit(lambda: (update(False), update(True)))()
    np.testing.assert_array_equal(still.mean, first.gaussian.mean)
    np.testing.assert_array_equal(still.covariance, first.gaussian.covariance)
    assert still.generation == moved.generation == 1
    assert jnp.all(moved.mean < still.mean)


def test_with_one_population_size_runs_are_like_the_first():
    first = islands.begin(jnp.full(3, 0.5), islands.POINTS)._replace(evaluations=jnp.int32(500))
    row = jnp.int32(islands.POINTS)
    new = islands._restarted(first, row, jax.random.key(0), Parts(population_sizes=False))
    assert new.population_size == first.population_size
    assert new.gaussian.sigma == first.gaussian.sigma
    assert new.restarts == 1
    other = islands._restarted(first, row, jax.random.key(0), Parts())
    assert other.gaussian.sigma < first.gaussian.sigma  # the small regime
