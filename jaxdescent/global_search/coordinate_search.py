"""Search along the coordinates, one after another, from the best point.

Each coordinate is set to the best of many values, if one is better than the present value: first
across the box, then near the best of these. This is for sums of functions of one coordinate, whose
local minima are as many as the product of their numbers along the coordinates.

Source of the idea: I. Loshchilov, M. Schoenauer, M. Sebag, 2013, GECCO workshop on BBOB (HCMA; its
searches in one dimension are adaptive).
"""

import jax
import jax.numpy as jnp

from jaxdescent.global_search.unit_box import Function

SAMPLES = 60
"""Number of values of each coordinate across the box, in strata of equal width."""

NEAR, CLOSER = 4, 10
"""Number of the best of these, and of further values near each."""

SHARE = 0.1
"""Largest share of the evaluations for sweeps."""


def cost(dimension: int) -> int:
    """Returns the number of evaluations of a sweep."""
    return (SAMPLES + NEAR * CLOSER) * dimension


def sweep(
    point: jax.Array, value: jax.Array, function: Function, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the point and its value after a search along each coordinate.

    Args:
      point: f[n].
      value: f[], the value there.
      function: what to minimize.
      key: random key.
    """
    n, dtype = point.size, point.dtype
    # A bound may be infinite; the box of starts is [0, 1].
    lower = jnp.where(jnp.isfinite(function.lower), function.lower, 0).astype(dtype)
    upper = jnp.where(jnp.isfinite(function.upper), function.upper, 1).astype(dtype)
    order = jax.random.permutation(key, n)

    def values_at(point: jax.Array, axis: jax.Array, places: jax.Array) -> jax.Array:
        points = jnp.tile(point, (places.size, 1)).at[:, axis].set(places)
        values = jax.vmap(function.value)(points)
        return jnp.where(jnp.isnan(values), jnp.inf, values)

    def search(i: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        point, value = best
        axis = order[i]
        draws = jax.random.uniform(jax.random.fold_in(key, axis), (2, SAMPLES), dtype)
        width = (upper[axis] - lower[axis]) / SAMPLES
        strata = lower[axis] + width * (jnp.arange(SAMPLES, dtype=dtype) + draws[0])
        found = values_at(point, axis, strata)
        low = strata[jnp.argsort(found)[:NEAR]]
        near = low[:, None] + width * (2 * draws[1][: NEAR * CLOSER].reshape(NEAR, CLOSER) - 1)
        near = jnp.clip(near.ravel(), lower[axis], upper[axis])
        places = jnp.concatenate([strata, near])
        values = jnp.concatenate([found, values_at(point, axis, near)])
        k = jnp.argmin(values)
        is_better = values[k] < value
        return jnp.where(is_better, point.at[axis].set(places[k]), point), jnp.where(
            is_better, values[k], value
        )

    return jax.lax.fori_loop(0, n, search, (point, value))
