"""The L-BFGS descent reaches constrained minima, counts each evaluation and never ascends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxdescent.global_search import local_search

N = 6


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def descend(
    function, starts, *, lower=0.0, upper=1.0, tolerance=0.0, limit=500, used=None, target=-np.inf
):
    starts = jnp.asarray(starts)
    n = starts.shape[1]
    return local_search.descend(
        jax.value_and_grad(function),
        starts,
        jnp.ones(len(starts), bool) if used is None else jnp.asarray(used),
        jnp.full(n, lower),
        jnp.full(n, upper),
        first_step=jnp.asarray(0.02),
        tolerance=jnp.asarray(tolerance),
        target=jnp.asarray(target),
        max_evaluations=jnp.int32(limit),
    )


def quadratic(seed):
    """Returns a convex quadratic whose minimum over the unit box is on several of its faces."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(N, N)))[0]
    hessian = jnp.asarray(basis @ np.diag(10.0 ** np.linspace(0, 3, N)) @ basis.T)
    center = jnp.asarray(rng.uniform(-0.5, 1.5, N))
    return lambda x: 0.5 * (x - center) @ hessian @ (x - center)


def rosenbrock(x):
    y = 4 * x - 2
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_minimum_of_a_quadratic_in_a_box_satisfies_the_kkt_conditions(seed):
    function = quadratic(seed)
    points, values, *_ = descend(function, np.full((1, N), 0.5))
    x, grad = points[0], jax.grad(function)(points[0])
    at_lower, at_upper = x == 0, x == 1
    assert 0 < jnp.sum(at_lower | at_upper) < N
    np.testing.assert_allclose(jnp.where(at_lower | at_upper, 0, grad), 0, atol=1e-5)
    assert jnp.all(jnp.where(at_lower, grad >= 0, True) & jnp.where(at_upper, grad <= 0, True))
    assert values[0] == function(x)


def test_evaluations_are_comparable_with_scipys():
    starts = np.random.default_rng(0).uniform(size=(8, 10))
    _, values, evaluations, _ = descend(rosenbrock, starts, tolerance=1e-14)
    np.testing.assert_array_less(values, 4.0)  # the minimum, or the local one
    function = jax.jit(jax.value_and_grad(rosenbrock))
    theirs = [
        scipy.optimize.minimize(
            function, x, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 10, options={"ftol": 1e-14}
        ).nfev
        for x in starts
    ]
    assert np.mean(evaluations) < 1.25 * np.mean(theirs)


def test_counts_are_those_of_the_calls_and_values_never_increase():
    function = jax.jit(jax.value_and_grad(rosenbrock))
    advance = jax.jit(
        partial(
            local_search.advance,
            lower=jnp.zeros(N),
            upper=jnp.ones(N),
            first_step=jnp.asarray(0.02),
            tolerance=jnp.asarray(0.0),
            target=jnp.asarray(-jnp.inf),
            max_evaluations=jnp.int32(500),
        )
    )
    start = np.random.default_rng(1).uniform(size=N)
    search, calls, values = local_search.begin(jnp.asarray(start)), 0, [np.inf]
    while not search.done:
        search = advance(search, *function(search.trial))
        calls += 1
        values.append(float(search.value))
    assert np.all(np.diff(values) <= 0)
    *result, computed = descend(rosenbrock, start[None])
    point, value, evaluations = (x[0] for x in result)
    assert calls == evaluations == computed
    np.testing.assert_array_equal(point, search.point)
    assert value == search.value == values[-1]


def test_a_search_ends_at_the_first_value_that_reaches_the_target():
    starts = np.random.default_rng(1).uniform(size=(2, N))
    _, values, evaluations, _ = descend(rosenbrock, starts, target=1.0)
    assert np.all(values <= 1.0)
    _, before, *_ = descend(rosenbrock, starts, limit=int(evaluations[0]) - 1)
    assert before[0] > 1.0


def test_searches_side_by_side_equal_searches_alone():
    starts = np.random.default_rng(2).uniform(size=(5, N))
    together = descend(rosenbrock, starts, tolerance=1e-9)
    assert len(set(together[2].tolist())) > 1
    for i, start in enumerate(starts):
        alone = descend(rosenbrock, start[None], tolerance=1e-9)
        np.testing.assert_allclose(together[1][i], alone[1][0], rtol=1e-6, atol=1e-12)
        assert together[2][i] == alone[2][0]


def test_evaluations_do_not_exceed_the_limit_and_unused_searches_have_none():
    starts = np.random.default_rng(3).uniform(size=(3, N))
    used = [True, False, True]
    _, values, evaluations, computed = descend(rosenbrock, starts, limit=5, used=used)
    assert evaluations.tolist() == [5, 0, 5]
    assert computed == 15  # the unused search, too
    assert jnp.isinf(values[1])


def test_a_start_without_a_finite_value_ends_after_one_evaluation():
    def undefined(x):
        return jnp.sum(x) + jnp.log(x[0] - 2)

    _, values, evaluations, _ = descend(undefined, np.full((1, N), 0.5))
    assert jnp.isinf(values[0])
    assert evaluations[0] == 1


def test_a_step_to_where_the_function_is_undefined_is_shortened():
    def barrier(x):
        return jnp.sum(x) - 1e-3 * jnp.sum(jnp.log(x - 0.1))

    points, *_ = descend(barrier, np.full((1, N), 0.9))
    np.testing.assert_allclose(points, 0.101, atol=1e-5)


def test_without_bounds_the_minimum_may_be_far_away():
    points, _, evaluations, _ = descend(
        lambda x: jnp.sum((x - 900) ** 2), np.full((1, N), 0.5), lower=-np.inf, upper=np.inf
    )
    np.testing.assert_allclose(points, 900.0, rtol=1e-9)
    assert evaluations[0] < 50  # the steps grow with the distance


def test_gradients_decide_where_a_large_constant_hides_the_decrease():
    def offset(x):
        return 1e8 + jnp.sum(10.0 ** jnp.linspace(0, 3, N) * (x - 0.37) ** 2)

    # Values closer than 1e-8 are equal in float64, so alone they locate the minimum to 1e-4.
    points, *_ = descend(offset, np.full((1, N), 0.5))
    np.testing.assert_allclose(points, 0.37, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0**120, 2.0**-80])
def test_squares_of_large_and_small_slopes_neither_overflow_nor_underflow(factor):
    with jax.enable_x64(False):
        start = np.full((1, N), 0.75, np.float32)
        plain = descend(rosenbrock, start)
        scaled = descend(lambda x: factor * rosenbrock(x), start)
    np.testing.assert_array_equal(scaled[0], plain[0])
    assert scaled[2] == plain[2]


def test_steps_grow_where_the_curvature_is_negative():
    def hill(x):
        return jnp.sum(jnp.cos(jnp.pi * x))  # from a maximum at 0 to a minimum at 1

    points, _, evaluations, _ = descend(hill, np.full((1, N), 1e-4))
    np.testing.assert_allclose(points, 1.0, atol=1e-6)
    assert evaluations[0] < 25
