"""Ranks of agents, and how well early ranks predict later ones.

    x_i = Phi^-1((rank_i + 1/2) / N),    r = correlation of x then and x now

Normal scores replace values, so that the distribution of values does not matter. Ties share the
mean of their ranks (E. Lehmann 1975, Nonparametrics).
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from jaxdescent.numerics import at_least_float32


def ranks(scores: jax.Array) -> jax.Array:
    """Returns i32[agents], ranks from 0 for the least score; ties by index, inf last."""
    order = jnp.argsort(scores)
    places = jnp.arange(len(scores), dtype=jnp.int32)
    return jnp.zeros_like(places).at[order].set(places, unique_indices=True)


def normal_scores(scores: jax.Array) -> jax.Array:
    """Returns f[agents], Gaussian quantiles at the ranks among finite scores; inf elsewhere.

    Ties share the mean of their ranks. Ranked by index they would keep their order from rung to
    rung, which would look like correlation.
    """
    scores = scores.astype(at_least_float32(scores.dtype))
    count = jnp.maximum(jnp.sum(jnp.isfinite(scores)), 1)
    shares = (_shared_ranks(scores).astype(scores.dtype) + 0.5) / count.astype(scores.dtype)
    return jnp.where(jnp.isfinite(scores), ndtri(jnp.minimum(shares, 1.0)), jnp.inf)


def _shared_ranks(scores: jax.Array) -> jax.Array:
    """Returns f[agents], ranks where ties share the mean of theirs."""
    order = jnp.argsort(scores)
    places = jnp.arange(len(scores), dtype=jnp.int32)
    in_order = scores[order]
    steps = in_order[1:] != in_order[:-1]
    edge = jnp.ones(1, bool)
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, steps]), places, 0))
    last = jax.lax.cummin(
        jnp.where(jnp.concatenate([steps, edge]), places, len(scores)), reverse=True
    )
    shared = (first + last).astype(jnp.float32) / 2
    return jnp.zeros_like(shared).at[order].set(shared, unique_indices=True)


def rank_correlation(earlier: jax.Array, later: jax.Array) -> jax.Array:
    """Returns f[], the correlation of normal scores, clipped to [0, 1 - 1e-6]; 0 if all tie.

    Only agents with finite scores in both arguments, each f[agents], are counted.
    """
    both = jnp.isfinite(earlier) & jnp.isfinite(later)
    count = jnp.maximum(jnp.sum(both), 1)

    def centered(scores: jax.Array) -> jax.Array:
        normal = jnp.where(both, normal_scores(jnp.where(both, scores, jnp.inf)), 0.0)
        return jnp.where(both, normal - jnp.sum(normal) / count.astype(normal.dtype), 0.0)

    a, b = centered(earlier), centered(later)
    scale = jnp.sqrt(jnp.sum(a * a)) * jnp.sqrt(jnp.sum(b * b))
    correlation = jnp.sum(a * b) / jnp.maximum(scale, 1e-12)
    return jnp.clip(correlation, 0.0, 1.0 - 1e-6)
