"""The registry of estimators. A new estimator joins all laws by one row."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import estimators

GUIDE = np.random.default_rng(0).normal(size=(2, 5))
"""Two directions in five dimensions."""


def guide(params):
    """Returns two directions for any parameters; five numbers get `GUIDE`."""
    leaves, structure = jax.tree.flatten(params)
    if [np.shape(x) for x in leaves] == [(5,)]:
        return {"subspace": structure.unflatten([jnp.asarray(GUIDE, leaves[0].dtype)])}
    rows = [jnp.stack([jnp.ones_like(x), jnp.cos(x)]) for x in map(jnp.asarray, leaves)]
    return {"subspace": structure.unflatten(rows)}


def covariance(n=5, alpha=0.5):
    """Returns the covariance of the directions of guided ES along `GUIDE`, in NumPy."""
    basis, _ = np.linalg.qr(GUIDE.T)
    return alpha / n * np.eye(n) + (1 - alpha) / 2 * basis @ basis.T


def of_smoothed_sines(x, sigma):
    return np.cos(x) * np.exp(-(sigma**2) / 2)


def of_sines_at_corners(x, sigma):
    return np.cos(x) * np.sin(sigma) / sigma


def of_guided_sines(x, sigma):
    c = covariance()
    return c @ (np.cos(x) * np.exp(-(sigma**2) * np.diag(c) / 2))


class Row(NamedTuple):
    """An estimator, and its mean and its variance where they are known.

    Attributes:
      make: Called as `make(sigma, num_samples)`; returns an estimator.
      mean_of_sines: Called as `mean_of_sines(x, sigma)` in 5 dimensions; returns the mean of the
        estimate for the function sum(sin(x)); None if it is not known.
      variance: Called as `variance(g)` in 5 dimensions; returns the variance of the estimate from
        one pair for the linear function <g, x>; None if it is not reported.
      linear: whether the estimate for 2 f is twice the estimate for f.
      keywords: Called as `keywords(params)`; returns further keywords of a call.
    """

    make: Callable[..., estimators.Estimator]
    mean_of_sines: Callable[..., Any] | None
    variance: Callable[..., Any] | None
    linear: bool = True
    keywords: Callable[..., dict[str, Any]] = lambda params: {}


ESTIMATORS = {
    "smoothed": Row(estimators.smoothed, of_smoothed_sines, lambda g: np.sum(g**2) + g**2),
    "smoothed, gradients": Row(
        lambda sigma, num_samples: estimators.smoothed(sigma, num_samples, use_gradients=True),
        of_smoothed_sines,
        np.zeros_like,
    ),
    "spsa": Row(estimators.spsa, of_sines_at_corners, lambda g: np.sum(g**2) - g**2),
    "evolution_strategies": Row(estimators.evolution_strategies, None, None, linear=False),
    "guided_es": Row(
        estimators.guided_es,
        of_guided_sines,
        lambda g: g @ covariance() @ g * np.diag(covariance()) + (covariance() @ g) ** 2,
        keywords=guide,
    ),
    # On a vector it is `smoothed`. Means on matrices are in test_low_rank_es.py.
    "low_rank_es": Row(functools.partial(estimators.low_rank_es, rank=2, chunk_size=6), None, None),
    "low_rank_es, ranks": Row(
        functools.partial(estimators.low_rank_es, use_ranks=True), None, None, linear=False
    ),
    "exact": Row(
        lambda sigma, num_samples: estimators.exact(),
        lambda x, sigma: np.cos(x),
        np.zeros_like,
    ),
    "value_only": Row(
        lambda sigma, num_samples: estimators.value_only(),
        lambda x, sigma: np.zeros_like(x),
        np.zeros_like,
    ),
}

SAMPLED = [name for name in ESTIMATORS if name not in ("exact", "value_only")]
"""The estimators that draw samples."""
