"""KSWIN's distance and decision are SciPy's for the same draws."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from jaxdescent.streaming import kswin
from jaxdescent.streaming.detectors.kswin import draw, most_apart, smallest_distance
from tests.streaming.detectors.streams import drawn

KEY = jax.random.key(7)


def simulated(values, alpha=0.005, size=100, r=30):
    """Transcribes river's loop with SciPy and our draws; returns the alarms and distances."""
    window, tests, drifts, distances, drifted = [], 0, [], [], False
    pick = jax.jit(lambda tests: draw(jax.random.fold_in(KEY, tests), size - r, r))
    for i, value in enumerate(values):
        if drifted:
            window, drifted = [], False
        window = [*window, value][-size:]
        if len(window) == size:
            old = np.array(window)[np.asarray(pick(tests))]
            distance, p = stats.ks_2samp(old, window[-r:], method="auto")
            drifted = p <= alpha and distance > 0.1
            distances.append(distance)
            tests += 1
        if drifted:
            drifts.append(i)
    return drifts, distances


# SciPy leaves the exact method where D is small, and says so. The probability is then about 1.
@pytest.mark.filterwarnings("ignore:ks_2samp:RuntimeWarning")
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_distances_and_alarms_are_scipys_for_the_same_draws(seed):
    values, ours = drawn(seed, 1000), kswin(key=KEY)

    def step(state, value):
        state, found = ours.update(state, value)
        return state, (found.drift, state.distance, state.tests)

    found, distances, tests = jax.jit(lambda x: jax.lax.scan(step, ours.init(), x)[1])(values)
    expected, computed = simulated(values)
    assert np.flatnonzero(found).tolist() == expected
    assert expected
    of_tests = np.asarray(distances)[np.diff(np.asarray(tests, np.int64), prepend=0) == 1]
    np.testing.assert_allclose(of_tests, computed, atol=1e-6)


@pytest.mark.filterwarnings("ignore:ks_2samp:RuntimeWarning")
@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.lists(st.integers(0, 6), min_size=40, max_size=40))
def test_the_distance_is_scipys_with_ties(values):
    sample, other = np.array(values[:20], np.float32), np.array(values[20:], np.float32)
    expected = stats.ks_2samp(sample, other).statistic
    np.testing.assert_allclose(COMPARE(sample, other) / 20, expected, rtol=1e-6)


COMPARE = jax.jit(most_apart)


@pytest.mark.parametrize(("alpha", "r"), [(0.005, 30), (0.05, 10), (1e-4, 30), (0.3, 60)])
def test_the_cut_is_where_the_exact_probability_falls_below_alpha(alpha, r):
    h = smallest_distance(alpha, r)

    def p(h):
        sample = np.arange(r, dtype=float)
        return stats.ks_2samp(sample, sample + h - 0.5, method="exact").pvalue

    assert p(h) <= alpha
    assert p(h - 1) > alpha or 10 * (h - 1) <= r
    if (alpha, r) == (0.005, 30):
        assert h == 14


def test_draws_are_without_replacement_and_uniform():
    drawn = jax.jit(jax.vmap(lambda key: draw(key, 7, 3)))(jax.random.split(KEY, 3000))
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_monotone_transformation_changes_nothing():
    values, ours = drawn(1, 600), kswin(key=KEY)
    scan = jax.jit(ours.scan)
    _, found = scan(ours.init(), values)
    _, cubes = scan(ours.init(), 2 * values**3)
    np.testing.assert_array_equal(found.drift, cubes.drift)
    assert np.any(found.drift)


def test_false_alarms_are_as_rare_as_published_for_river():
    """River had 31 in 20,000 stationary values, and 33 would be p = 0.25 % of the tests."""
    ours = kswin()
    values = np.random.default_rng(0).normal(size=(10, 2000)).astype(np.float32)
    keys = jax.random.split(KEY, 10)
    run = jax.jit(jax.vmap(lambda key, x: ours.scan(ours.init()._replace(key=key), x)[1].drift))
    assert 15 <= int(jnp.sum(run(keys, values))) <= 50
