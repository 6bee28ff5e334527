"""Tests of normal scores and of their correlation."""

import jax.numpy as jnp
import numpy as np
from scipy import stats

import jaxdescent as jd


def test_normal_scores_are_quantiles_among_finite_scores():
    scores = jd.pruning.normal_scores(jnp.array([3.0, jnp.inf, 1.0, 2.0]))
    np.testing.assert_allclose(scores, stats.norm.ppf([5 / 6, 1.0, 1 / 6, 1 / 2]), atol=1e-6)


def test_ties_do_not_correlate_by_their_index():
    plateau = np.where(np.arange(64) % 16 == 0, -1.0 - np.arange(64), 0.0)
    assert jd.pruning.rank_correlation(jnp.zeros(64), jnp.zeros(64)) == 0
    rng = np.random.default_rng(5)
    for later in (plateau, rng.permutation(plateau)):
        expected = np.corrcoef(
            *(stats.norm.ppf((stats.rankdata(x) - 0.5) / 64) for x in (plateau, later))
        )
        measured = jd.pruning.rank_correlation(jnp.asarray(plateau), jnp.asarray(later))
        np.testing.assert_allclose(measured, np.clip(expected[0, 1], 0, 1 - 1e-6), atol=1e-5)


def test_the_rank_correlation_of_gaussians_is_their_correlation():
    rng = np.random.default_rng(3)
    x = rng.normal(size=20_000)
    for r in (0.0, 0.5, 0.9):
        y = r * x + np.sqrt(1 - r * r) * rng.normal(size=len(x))
        measured = jd.pruning.rank_correlation(jnp.exp(jnp.asarray(x)), jnp.asarray(y) ** 3)
        np.testing.assert_allclose(measured, r, atol=0.02)
