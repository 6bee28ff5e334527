"""Laws of all estimators of the registry."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdescent import estimators
from tests.estimators.registry import ESTIMATORS, SAMPLED

every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
every_sampled_estimator = pytest.mark.parametrize("name", SAMPLED)

X = np.array([0.3, -1.0, 0.0, 2.0, 0.7])
KEY = jax.random.key(0)


def sines(x):
    return jnp.sum(jnp.sin(x))


def loss(params):
    """A function of a tree."""
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(params["b"] ** 2) * jnp.mean(params["w"])


def tree(dtype=jnp.float32):
    return {"w": jnp.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3), "b": jnp.ones(2, dtype)}


@functools.cache
def program(name, function, num_samples, dtype):
    """Returns a compiled function of parameters and keywords to an `Estimate`."""
    del dtype  # which jax.jit may not tell apart within a context of 64 bits
    estimator = ESTIMATORS[name].make(0.5, num_samples)

    def estimate(params, keywords):
        return estimator.estimate(function, params, **keywords)

    return jax.jit(estimate)


def estimate(name, function, params, num_samples=8, **keywords):
    keywords = {"key": KEY} | ESTIMATORS[name].keywords(params) | keywords
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return program(name, function, num_samples, dtype)(params, keywords)


@pytest.mark.parametrize("sigma", [0.1, 1.0])
@pytest.mark.parametrize("name", [name for name, row in ESTIMATORS.items() if row.mean_of_sines])
def test_the_mean_is_the_closed_form_within_three_standard_errors(name, sigma):
    with jax.enable_x64(True):
        keywords = {"sigma": sigma} if name in SAMPLED else {}
        found = estimate(name, sines, jnp.asarray(X), num_samples=20_000, **keywords)
    expected = ESTIMATORS[name].mean_of_sines(X, sigma)
    error, grads = np.sqrt(found.variance), np.asarray(found.grads)
    assert np.all(error < 0.025)
    assert np.all(np.abs(grads - expected) <= 3 * error + 1e-14)


@pytest.mark.parametrize("name", [name for name, row in ESTIMATORS.items() if row.variance])
def test_the_variance_is_the_closed_form_on_a_linear_function(name):
    slopes, pairs = np.array([1.0, -2.0, 0.5, 0.0, 3.0]), 10_000
    with jax.enable_x64(True):
        found = estimate(name, lambda x: jnp.sum(x * slopes), jnp.asarray(X), num_samples=2 * pairs)
    expected = ESTIMATORS[name].variance(slopes) / pairs
    np.testing.assert_allclose(found.variance, expected, rtol=0.1, atol=1e-25)


@every_estimator
def test_the_variance_is_reported_where_it_is_known(name):
    found = estimate(name, loss, tree())
    if ESTIMATORS[name].variance is None:
        assert found.variance is None
    else:
        chex.assert_trees_all_equal_shapes_and_dtypes(found.variance, tree())


@every_estimator
def test_the_value_is_the_functions_own(name):
    np.testing.assert_allclose(estimate(name, loss, tree()).value, loss(tree()), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@every_estimator
def test_structure_and_dtypes_are_kept_and_agree_with_float32(name, dtype):
    single = estimate(name, loss, tree())
    chex.assert_trees_all_equal_shapes_and_dtypes(single.grads, tree())
    with jax.enable_x64(dtype == "float64"):
        found = estimate(name, loss, tree(dtype))
        chex.assert_trees_all_equal_shapes_and_dtypes(found.grads, tree(dtype))
        assert (found.value.dtype, int(found.nonfinite)) == (dtype, 0)
    if dtype != "float64":  # in which other random numbers are drawn
        half = jax.tree.map(jnp.float32, found.grads)
        chex.assert_trees_all_close(half, single.grads, rtol=0.1, atol=0.1)


@every_estimator
def test_jit_equals_eager(name):
    estimator, keywords = ESTIMATORS[name].make(0.5, 8), ESTIMATORS[name].keywords(tree())
    eager = estimator.estimate(loss, tree(), key=KEY, **keywords)
    chex.assert_trees_all_close(estimate(name, loss, tree()), eager, rtol=1e-5, atol=1e-6)


@every_sampled_estimator
def test_vmap_over_agents_and_sigmas_equals_a_loop(name):
    def one(params, key, sigma):
        return estimate(name, loss, params, key=key, sigma=sigma)

    agents = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), tree())
    keys, sigmas = jax.random.split(KEY, 3), jnp.array([0.1, 0.5, 2.0])
    together = jax.vmap(one)(agents, keys, sigmas)
    for i in range(3):
        alone = one(jax.tree.map(lambda x, i=i: x[i], agents), keys[i], sigmas[i])
        of_agent = jax.tree.map(lambda x, i=i: x[i], together)
        chex.assert_trees_all_close(of_agent, alone, rtol=1e-5, atol=1e-6)


@every_sampled_estimator
def test_a_schedule_of_sigma_does_not_compile_again(name):
    chex.clear_trace_counter()
    estimator, keywords = ESTIMATORS[name].make(0.5, 8), ESTIMATORS[name].keywords(tree())

    @jax.jit
    @chex.assert_max_traces(n=1)
    def scheduled(sigma):
        return estimator.estimate(loss, tree(), key=KEY, sigma=sigma, **keywords)

    scheduled(0.25)
    chex.assert_trees_all_close(scheduled(0.5), estimate(name, loss, tree()), rtol=1e-5, atol=1e-6)


@every_sampled_estimator
def test_other_keys_give_other_estimates_and_the_same_key_the_same(name):
    first, again = (estimate(name, loss, tree()).grads for _ in range(2))
    other = estimate(name, loss, tree(), key=jax.random.key(1)).grads
    chex.assert_trees_all_equal(first, again)
    assert bool(jnp.all(first["w"] != other["w"]))


@every_estimator
def test_evaluations_and_gradients_are_what_is_spent(name):
    counts = {"evaluations": 0, "gradients": 0}

    def count(what):
        counts[what] += 1

    @jax.custom_vjp
    def counted(x):
        jax.debug.callback(lambda _: count("evaluations"), x[0])
        return sines(x)

    def backward(x, slope):
        jax.debug.callback(lambda _: count("gradients"), x[0])
        return (slope * jnp.cos(x),)

    counted.defvjp(lambda x: (counted(x), x), backward)
    estimator = ESTIMATORS[name].make(0.5, 8)
    jax.block_until_ready(estimate(name, counted, jnp.asarray(X, jnp.float32)))
    jax.effects_barrier()
    assert counts == {"evaluations": estimator.evaluations, "gradients": estimator.gradients}


@every_estimator
def test_further_arguments_and_aux_are_passed_on(name):
    def function(x, data, offset):
        return sines(x) * data["a"] + offset, {"sum": jnp.sum(x), "data": data}

    row, x, data = ESTIMATORS[name], jnp.asarray(X, jnp.float32), {"a": jnp.array(2.0)}
    grad_fn = row.make(0.5, 8).value_and_grad(function, has_aux=True)
    (value, aux), grads = jax.jit(grad_fn)(x, data, 1.0, key=KEY, **row.keywords(x))
    np.testing.assert_allclose([value, aux["sum"]], [2 * sines(x) + 1, jnp.sum(x)], rtol=1e-6)
    assert aux["data"]["a"] == 2
    plain = estimate(name, lambda x: 2 * sines(x), x).grads
    np.testing.assert_allclose(grads, plain, rtol=1e-4, atol=1e-5)


@every_sampled_estimator
def test_scale_is_the_unit_of_each_coordinate(name):
    """With f(x) = h(x / scale), the derivatives of f are those by u = x / scale, over scale."""
    scale = jnp.array([1.0, 4.0, 0.5, 2.0, 0.25])
    u = jnp.asarray(X, jnp.float32)
    keywords = ESTIMATORS[name].keywords(u)
    scaled = {name: rows / scale for name, rows in keywords.items()}  # gradients by x
    in_units = estimate(name, lambda x: sines(x / scale), u * scale, scale=scale, **scaled)
    expected = estimate(name, sines, u).grads / scale
    np.testing.assert_allclose(in_units.grads, expected, rtol=1e-4, atol=1e-5)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(factor=st.floats(0.1, 10), offset=st.floats(-10, 10), seed=st.integers(0, 99))
@every_estimator
def test_estimates_are_linear_in_the_function_or_depend_on_its_order_only(
    name, factor, offset, seed
):
    with jax.enable_x64(True):
        x, key = jnp.asarray(X), jax.random.key(seed)
        row = ESTIMATORS[name]
        grads = compiled(name)
        plain, changed = grads(x, key, 1.0, 0.0), grads(x, key, factor, offset)
        expected = factor * plain if row.linear else plain
        np.testing.assert_allclose(changed, expected, rtol=1e-9, atol=1e-12)


PROGRAMS = {}


def compiled(name):
    """Returns a compiled function of (x, key, factor, offset) to the estimate for factor f + b."""
    if name not in PROGRAMS:
        row = ESTIMATORS[name]

        def grads(x, key, factor, offset):
            def function(x):
                return factor * jnp.sum(x**3) + offset

            return row.make(0.5, 8).estimate(function, x, key=key, **row.keywords(x)).grads

        PROGRAMS[name] = jax.jit(grads)
    return PROGRAMS[name]


@every_sampled_estimator
def test_a_call_without_a_key_is_refused(name):
    row = ESTIMATORS[name]
    with pytest.raises(TypeError, match=r"key must be one random key.*got None"):
        row.make(0.5, 8).value_and_grad(sines)(jnp.ones(5), **row.keywords(jnp.ones(5)))


@every_sampled_estimator
def test_sigma_may_be_a_hyperparameter(name):
    assert ESTIMATORS[name].make(0.5, 8).hyperparams == ("sigma",)


def test_the_registry_has_all_estimators():
    makers = {row for row in estimators.__all__ if row[0].islower()}
    assert makers == {name.partition(",")[0] for name in ESTIMATORS}
