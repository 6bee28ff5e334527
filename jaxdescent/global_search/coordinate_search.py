"""Search along the coordinates, one after another, from the best point.

Each coordinate is set to the best of many values across the box, if one is better than the present
value. A function that is a sum of functions of one coordinate is solved by one sweep, however many
local minima the sum has; other functions lose few evaluations by a sweep.

Source of the idea: I. Loshchilov, M. Schoenauer, M. Sebag, 2013, GECCO
workshop on BBOB (HCMA; its searches in one dimension are adaptive).
"""

import jax
import jax.numpy as jnp

from jaxdescent.global_search.unit_box import Function

SAMPLES = 100
"""Number of values of each coordinate."""

SHARE = 0.1
"""Largest share of the evaluations for sweeps."""


def cost(dimension: int) -> int:
    """Returns the number of evaluations of a sweep."""
    return SAMPLES * dimension


def sweep(
    point: jax.Array, value: jax.Array, function: Function, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the point and its value after a search along each coordinate.

    Args:
      point: f[n].
      value: f[], the value there.
      function: what to minimize.
      key: random key; samples are uniform in strata of equal width.
    """
    n, dtype = point.size, point.dtype
    # A bound may be infinite; the box of starts is [0, 1].
    lower = jnp.where(jnp.isfinite(function.lower), function.lower, 0).astype(dtype)
    upper = jnp.where(jnp.isfinite(function.upper), function.upper, 1).astype(dtype)
    order = jax.random.permutation(key, n)

    def search(i: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        point, value = best
        axis = order[i]
        draws = jax.random.uniform(jax.random.fold_in(key, axis), (SAMPLES,), dtype)
        places = (jnp.arange(SAMPLES, dtype=dtype) + draws) / SAMPLES
        places = lower[axis] + places * (upper[axis] - lower[axis])
        points = jnp.tile(point, (SAMPLES, 1)).at[:, axis].set(places)
        values = jax.vmap(function.value)(points)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        k = jnp.argmin(values)
        is_better = values[k] < value
        return jnp.where(is_better, points[k], point), jnp.where(is_better, values[k], value)

    return jax.lax.fori_loop(0, n, search, (point, value))
