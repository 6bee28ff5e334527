"""Dormant units and ranks against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd

streaming = jd.streaming


def test_units_at_the_threshold_are_dormant():
    h = jnp.array([[[1.0, -3.0, 0.0, 8.0]], [[-1.0, 3.0, 0.0, 8.0]]])  # scores 1, 3, 0, 8; mean 3
    for threshold, expected in ((0.0, [2]), (0.34, [0, 2]), (1.0, [0, 1, 2]), (2.7, [0, 1, 2, 3])):
        found = np.flatnonzero(streaming.dormant_units(h, threshold))
        assert list(found) == expected, threshold


def test_all_units_of_a_silent_layer_are_dormant():
    assert np.all(streaming.dormant_units(jnp.zeros((3, 4)), 0.0))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_ranks_equal_their_definitions_in_float64(directions, seed):
    random = np.random.default_rng(seed)
    h = random.normal(size=(5, directions)) @ random.normal(size=(directions, 4))
    s = np.linalg.svd(h, compute_uv=False)
    p = s / s.sum()
    entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
    assert float(streaming.effective_rank(h)) == pytest.approx(np.exp(entropy), rel=1e-3)
    share = np.cumsum(s) / s.sum()
    for mass in (0.5, 0.9):
        if np.min(np.abs(share - mass)) > 1e-5:
            assert int(streaming.threshold_rank(h, mass)) == 1 + int(np.argmax(share >= mass))


def test_ranks_of_known_matrices():
    assert float(streaming.effective_rank(jnp.outer(jnp.arange(5.0), jnp.ones(3)))) == (
        pytest.approx(1.0, abs=1e-4)
    )
    assert float(streaming.effective_rank(jnp.zeros((3, 3)))) == 0
    assert int(streaming.threshold_rank(jnp.zeros((3, 3)))) == 0
    assert jnp.isnan(streaming.effective_rank(jnp.eye(3).at[0, 1].set(jnp.nan)))
    assert int(streaming.threshold_rank(jnp.eye(3).at[0, 1].set(jnp.nan))) == 0
    assert int(streaming.threshold_rank(jnp.eye(7), 1.0)) == 7
    assert int(streaming.threshold_rank(jnp.eye(100), 0.99)) == 99
    stacked = jnp.stack([jnp.eye(4), jnp.zeros((4, 4))])
    assert list(jax.vmap(streaming.threshold_rank)(stacked)) == [4, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: streaming.dormant_units(jnp.ones(())), r"shape \[..., units\] with entries"),
        (lambda: streaming.dormant_units(jnp.ones((0, 3))), r"with entries, got shape \(0, 3\)"),
        (lambda: streaming.dormant_units(jnp.ones(3), -1.0), "threshold must be a number in"),
        (lambda: streaming.effective_rank(jnp.ones(3)), r"\[examples, ..., units\]"),
        (lambda: streaming.threshold_rank(jnp.eye(3), 0.0), r"mass must be in \(0, 1\], got 0.0"),
        (lambda: streaming.dormant_units([1.0, 2.0]), r"with entries, got \[1.0, 2.0\]"),
        (lambda: streaming.effective_rank("text"), "activations must be a tree of arrays"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
