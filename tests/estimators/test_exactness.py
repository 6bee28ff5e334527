"""Estimates that theory makes exact, and estimates of ranks and in subspaces."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdescent import estimators
from jaxdescent.estimators.evolution_strategies import centered_ranks
from jaxdescent.estimators.guided_es import orthonormal_rows
from tests.estimators.registry import ESTIMATORS, GUIDE, guide

KEY = jax.random.key(0)
small = functools.partial(st.floats, -5, 5, width=32)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def on_quadratics(name, num_samples=8):
    """Returns a compiled function of (a, b, x, key, sigma) to the estimate for x' a x + b x."""
    row = ESTIMATORS[name]
    estimator = row.make(1.0, num_samples)

    def grads(a, b, x, key, sigma):
        def function(x):
            return x @ a @ x + b @ x

        return estimator.estimate(function, x, key=key, sigma=sigma, **row.keywords(x)).grads

    return jax.jit(grads)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(seed=st.integers(0, 1000), sigma=st.floats(0.01, 100))
def test_averaged_gradients_are_exact_on_quadratic_functions(seed, sigma):
    random = np.random.default_rng(seed)
    a, b, x = random.normal(size=(5, 5)), random.normal(size=5), random.normal(size=5)
    found = on_quadratics("smoothed, gradients")(a, b, x, KEY, sigma)
    np.testing.assert_allclose(found, (a + a.T) @ x + b, rtol=1e-9, atol=1e-10 * sigma)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(seed=st.integers(0, 1000), sigma=st.floats(0.1, 10))
@pytest.mark.parametrize("name", ["smoothed", "spsa", "guided_es"])
def test_estimates_from_values_do_not_depend_on_sigma_on_quadratic_functions(name, seed, sigma):
    """Even powers of sigma cancel in a pair."""
    random = np.random.default_rng(seed)
    a, b, x = random.normal(size=(5, 5)), random.normal(size=5), random.normal(size=5)
    key, grads = jax.random.key(seed), on_quadratics(name)
    np.testing.assert_allclose(
        grads(a, b, x, key, sigma), grads(a, b, x, key, 1.0), rtol=1e-8, atol=1e-8
    )


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(a=small(), b=small(), x=small(), sigma=st.floats(0.01, 100))
def test_spsa_is_exact_on_quadratic_functions_of_one_parameter(a, b, x, sigma):
    a, b, x = np.full((1, 1), a), np.full(1, b), np.full(1, x)
    found = on_quadratics("spsa", 2)(a, b, x, KEY, sigma)
    np.testing.assert_allclose(found, 2 * a[0] * x + b, rtol=1e-9, atol=1e-9)


def test_spsa_is_exact_over_all_corners():
    """In two dimensions there are two diagonals, whose mean is exact on a linear function."""
    slopes = jnp.array([3.0, -1.0])
    grads = estimators.spsa(0.1, 2).value_and_grad(lambda x: slopes @ x)
    keys = jax.random.split(KEY, 20)
    found = np.asarray(jax.vmap(lambda key: grads(jnp.zeros(2), key=key)[1])(keys))
    both = np.unique(found.round(12), axis=0)
    np.testing.assert_allclose(both, [[2, 2], [4, -4]], atol=1e-12)
    np.testing.assert_allclose(np.mean(both, axis=0), slopes, atol=1e-12)


def same(point, other):
    return np.max(np.abs(point - other)) < 1e-9


def recorded_points(name, x, num_samples):
    """Returns f[num_samples, n], the points at which an estimator with sigma = 1 evaluates."""
    points, row = [], ESTIMATORS[name]

    def recorded(x):
        jax.debug.callback(lambda x: points.append(np.asarray(x)), x)
        return jnp.sum(x)

    estimate = row.make(1.0, num_samples).estimate
    jax.jit(lambda x: estimate(recorded, x, key=KEY, **row.keywords(x)))(x)
    jax.effects_barrier()
    return np.array([point for point in points if np.any(point != x)])


@pytest.mark.parametrize("name", ["smoothed", "smoothed, gradients", "spsa", "guided_es"])
def test_a_pair_that_is_not_finite_is_left_out_and_counted(name):
    row, slopes, x = ESTIMATORS[name], jnp.array([1.0, -2.0, 0.5, 0.0, 3.0]), jnp.zeros(5)
    directions = recorded_points(name, x, 6)
    assert len(directions) == 6
    broken = directions[0]

    def function(x):
        is_broken = jnp.max(jnp.abs(x - broken)) < 1e-9
        return (slopes @ x) * jnp.where(is_broken, jnp.nan, 1.0)

    estimate = row.make(1.0, 6).estimate
    found = jax.jit(lambda x: estimate(function, x, key=KEY, **row.keywords(x)))(x)
    left = [d for d in directions if not (same(d, broken) or same(d, -broken))]
    assert 0 < int(found.nonfinite) == (6 - len(left)) / 2 < 3
    expected = slopes
    if name != "smoothed, gradients":
        expected = np.mean([(slopes @ d) * d for d in left], axis=0)
    np.testing.assert_allclose(found.grads, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["smoothed", "smoothed, gradients", "spsa", "guided_es"])
def test_without_a_finite_pair_the_gradient_is_nan(name):
    row, x = ESTIMATORS[name], jnp.zeros(5)
    estimate = jax.jit(
        lambda bad: row.make(1.0, 6).estimate(
            lambda x: bad * jnp.sum(x), x, key=KEY, **row.keywords(x)
        )
    )
    for bad in (jnp.nan, jnp.inf):
        found = estimate(bad)
        assert found.nonfinite == 3
        assert np.all(np.isnan(found.grads))


def test_evolution_strategies_ranks_values_that_are_not_finite_last():
    def cliff(x):
        return jnp.where(x[0] > 0.1, jnp.nan, -x[0])  # lower toward the cliff

    estimator = estimators.evolution_strategies(1.0, 200)
    found = jax.jit(lambda x: estimator.estimate(cliff, x, key=KEY))(jnp.zeros(2))
    assert found.grads[0] > 0  # descent leads away from the cliff
    assert 80 < found.nonfinite < 100  # P(|z| > 0.1) = 0.92
    nowhere = estimator.estimate(lambda x: jnp.nan * x[0], jnp.zeros(2), key=KEY)
    assert np.all(np.isnan(nowhere.grads))
    assert nowhere.nonfinite == 100


@pytest.mark.parametrize("increasing", [jnp.exp, lambda y: y**3, lambda y: 1e6 * y - 5, jnp.sign])
def test_evolution_strategies_only_depends_on_the_order_of_values(increasing):
    def grads(function):
        made = estimators.evolution_strategies(0.1, 16).value_and_grad(function)
        return jax.jit(made)(jnp.arange(3.0), key=KEY)[1]

    plain, changed = grads(jnp.sum), grads(lambda x: increasing(jnp.sum(x)))
    if increasing is jnp.sign:  # all values are equal: a plateau
        np.testing.assert_array_equal(changed, 0)
    else:
        np.testing.assert_array_equal(changed, plain)


def test_evolution_strategies_has_the_known_mean_on_a_linear_function():
    """E u(a) a = ((n - 2) / (2 sqrt(pi)) + phi(0)) / (n - 1), a the slope along the gradient."""
    slopes, sigma, n = np.array([1.0, -2.0, 0.5]), 0.5, 8
    grads = estimators.evolution_strategies(sigma, n).value_and_grad(lambda x: slopes @ x)
    keys = jax.random.split(KEY, 20_000)
    found = jax.jit(jax.vmap(lambda key: grads(jnp.zeros(3), key=key)[1]))(keys)
    length = ((n - 2) / (2 * np.sqrt(np.pi)) + 1 / np.sqrt(2 * np.pi)) / (n - 1) / sigma
    expected = length * slopes / np.linalg.norm(slopes)
    error = np.std(found, axis=0) / np.sqrt(len(keys))
    assert np.all(error < 0.004)
    assert np.all(np.abs(np.mean(found, axis=0) - expected) <= 3 * error)


def test_centered_ranks_share_the_mean_of_ties():
    found = centered_ranks(jnp.array([3.0, 1.0, jnp.nan, 1.0, -jnp.inf, 2.0]))
    np.testing.assert_allclose(found, np.array([3, 0.5, 4.5, 0.5, 4.5, 2]) / 5 - 0.5)


@pytest.mark.parametrize(("num_samples", "alpha"), [(2, 0.5), (40_000, 0.1)])
def test_guided_es_divides_by_the_number_of_pairs(num_samples, alpha):
    """The sum over pairs, without 1 / P, would be 20,000 times as long."""
    slopes = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    estimator = estimators.guided_es(0.1, num_samples, alpha=alpha, beta=2.0)
    grads = jax.jit(estimator.value_and_grad(lambda x: slopes @ x))
    keys = jax.random.split(KEY, 40_000 // num_samples)
    found = jax.vmap(lambda key: grads(jnp.zeros(5), key=key, **guide(jnp.zeros(5)))[1])(keys)
    basis, _ = np.linalg.qr(GUIDE.T)
    expected = 2 * (alpha / 5 * slopes + (1 - alpha) / 2 * basis @ basis.T @ slopes)
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.08)


def guided(subspace, alpha=0.5, **keywords):
    estimator = estimators.guided_es(0.1, 8, alpha=alpha)
    grad_fn = jax.jit(estimator.value_and_grad(jnp.sum))
    return grad_fn(jnp.zeros(5), key=KEY, subspace=jnp.asarray(subspace), **keywords)[1]


def test_guided_es_leaves_out_directions_that_add_nothing():
    first = GUIDE[:1]
    zero, double, nan = np.zeros((1, 5)), -3 * first, np.full((1, 5), np.nan)
    alone = orthonormal_rows(jnp.asarray(first))
    for useless in (zero, double, nan):
        basis = orthonormal_rows(jnp.concatenate([first, useless, GUIDE[1:]]))
        np.testing.assert_allclose(basis[:1], alone, rtol=1e-12)
        np.testing.assert_array_equal(basis[1], 0)
        np.testing.assert_allclose(basis @ basis.T, np.diag([1, 0, 1]), atol=1e-12)
        np.testing.assert_allclose(GUIDE @ basis.T @ basis, GUIDE, rtol=1e-9)


def test_guided_es_without_a_direction_samples_the_whole_space():
    np.testing.assert_allclose(guided(np.zeros((2, 5))), guided(GUIDE, alpha=1.0), rtol=1e-12)


def test_guided_es_within_the_subspace_of_the_gradient_has_its_direction():
    grads = guided(np.full((1, 5), 1e-200), alpha=0.0)
    np.testing.assert_allclose(grads, grads[0], rtol=1e-9)
    assert grads[0] > 0


def test_orthonormal_rows_are_accurate_where_rows_are_almost_dependent():
    rows = jnp.asarray(GUIDE[:1]) + 1e-9 * jnp.eye(4, 5)
    basis = orthonormal_rows(rows)
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-7)
