"""Standardization of features by their running mean and variance (B. P. Welford 1962).

    n     <- n + 1
    d      = x - mean
    mean  <- mean + d / n
    var   <- var + (d (x - mean) - var) / n        with the new mean
    scaled = (x - mean) / sqrt(var), and 0 where var is 0

It is `StandardScaler` of river: the variance divides by n. In a test-then-train loop an example is
tested with the statistics before it and trained on with the statistics after it.

Source: B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
Technometrics 4 (1962).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.streaming import counts


class Scaler(NamedTuple):
    """A preprocessing step that learns from each example, without its label.

    Attributes:
      init: Called as `init(features)` with the array of one example; returns the state.
      update: Called as `update(state, features)`; returns the state after the example.
      transform: Called as `transform(state, features)`; returns features of the same shape. Further
        leading axes are examples.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, jax.Array], Any]
    transform: Callable[[Any, jax.Array], jax.Array]


class StandardScalerState(NamedTuple):
    """State of `standard_scaler`.

    Attributes:
      count: number of examples.
      mean: mean of each feature.
      variance: variance of each feature; the sum of squares is divided by the count.
    """

    count: counts.Count
    mean: jax.Array
    variance: jax.Array


def standard_scaler() -> Scaler:
    """Scales each feature by its running mean and standard deviation.

    Features that have not varied yet become 0. A value whose square overflows does not change the
    statistics of its feature.

    Returns:
      A `Scaler`, for `online_loop(..., scaler=...)`.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> scaler = jd.streaming.standard_scaler()
      >>> state = scaler.init(jnp.zeros(1))
      >>> for x in (1.0, 3.0):
      ...     state = scaler.update(state, jnp.array([x]))
      >>> scaler.transform(state, jnp.array([4.0])).tolist()
      [2.0]
    """
    return Scaler(_init, _update, _transform)


def _init(features: Any) -> StandardScalerState:
    shape, dtype = jnp.shape(features), jnp.result_type(features)
    return StandardScalerState(counts.zero(), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def _update(state: StandardScalerState, features: jax.Array) -> StandardScalerState:
    count = counts.add(state.count, 1)
    weight = 1 / counts.to_float(count, state.mean.dtype)
    difference = features - state.mean
    mean = state.mean + difference * weight
    product = difference * (features - mean)
    variance = state.variance + (product - state.variance) * weight
    # An overflow would make the feature 0 forever.
    fits = jnp.isfinite(mean) & jnp.isfinite(variance)
    return StandardScalerState(
        count, jnp.where(fits, mean, state.mean), jnp.where(fits, variance, state.variance)
    )


def _transform(state: StandardScalerState, features: jax.Array) -> jax.Array:
    varies = state.variance > 0
    deviation = jnp.sqrt(jnp.where(varies, state.variance, 1))
    return jnp.where(varies, (features - state.mean) / deviation, 0)
