"""Searches along coordinates solve sums of functions of one coordinate."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.global_search import coordinate_search
from jaxdescent.global_search.unit_box import Function

N = 6
CENTERS = np.linspace(0.1, 0.9, N)


def rastrigin(x):
    y = 10 * (x - CENTERS)
    return jnp.sum(y**2 - 10 * jnp.cos(2 * jnp.pi * y) + 10)


def sweep(function, start, lower=0.0, upper=1.0):
    bounds = jnp.full(N, lower), jnp.full(N, upper)
    start = jnp.asarray(start, jnp.float32)
    problem = Function(function, jax.value_and_grad(function), *bounds)
    return jax.jit(
        lambda start: coordinate_search.sweep(start, function(start), problem, jax.random.key(0))
    )(start)


def test_every_coordinate_of_a_sum_reaches_the_basin_of_the_global_minimum():
    point, value = sweep(rastrigin, np.full(N, 0.5))
    np.testing.assert_allclose(point, CENTERS, atol=0.01)  # basins are 0.1 apart
    assert value == rastrigin(point)


def test_the_value_never_rises_and_a_minimum_stays():
    point, value = sweep(rastrigin, CENTERS)
    np.testing.assert_array_equal(point, CENTERS.astype(np.float32))
    assert value <= rastrigin(jnp.asarray(CENTERS, jnp.float32))


def test_samples_fill_the_bounds_and_undefined_values_lose():
    def edge(x):
        return jnp.where(jnp.any(x > 0.8), jnp.nan, -jnp.sum(x))

    point, _ = sweep(edge, np.zeros(N), lower=-1.0, upper=2.0)
    assert np.all((point > 0.8 - 0.1) & (point <= 0.8))  # strata of 0.05
    point, _ = sweep(lambda x: jnp.sum(x), np.full(N, 0.5), lower=-jnp.inf, upper=jnp.inf)
    assert np.all((point >= 0) & (point < 1 / 60))  # the box of starts
