"""Replacement of dormant units at intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.streaming.plasticity.networks import LAYERS, batches, forward, loss, network, train


def with_silent_units():
    """Returns a network in which units 1 and 4 of the first layer are silent."""
    params = network()
    params[0]["bias"] = params[0]["bias"].at[jnp.array([1, 4])].set(-100.0)
    return params


def test_silent_units_are_replaced_after_a_period_and_the_outputs_stay():
    params = with_silent_units()
    tx = jd.streaming.redo(optax.sgd(0.0), LAYERS, jax.random.key(0), threshold=0.0, period=3)
    state, x = tx.init(params), batches(1)[0]
    before = forward(params, x)[0]
    for count in range(1, 4):
        grads, activations = jax.grad(loss, has_aux=True)(params, x)
        updates, state = tx.update(grads, state, params, activations=activations)
        params = optax.apply_updates(params, updates)
        silent = [int(jnp.sum(jd.streaming.dormant_units(h))) for h in activations]
        assert list(state.replaced) == (silent if count == 3 else [0, 0])
    assert silent[0] >= 2
    assert np.all(params[0]["bias"][jnp.array([1, 4])] == 0)
    assert np.all(params[1]["kernel"][jnp.array([1, 4])] == 0)
    np.testing.assert_allclose(forward(params, x)[0], before, atol=1e-6)


def test_moments_of_adam_begin_at_zero_at_replaced_weights():
    params = with_silent_units()
    tx = jd.streaming.redo(optax.adam(1e-3), LAYERS, jax.random.key(0), threshold=0.0, period=4)
    _, state = train(tx, params, tx.init(params), batches(4))
    mu = state.inner_state[0].mu
    assert np.all(mu[1]["kernel"][1] == 0)
    assert np.any(mu[1]["kernel"][0] != 0)


def test_activations_that_are_not_finite_replace_nothing():
    params = network()
    tx = jd.streaming.redo(optax.sgd(0.1), LAYERS, jax.random.key(0), threshold=10.0, period=1)
    hidden = [h.at[0, 0].set(jnp.nan) for h in forward(params, batches(1)[0])[1]]
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, state = tx.update(grads, tx.init(params), params, activations=hidden)
    assert list(state.replaced) == [0, 0]
    assert all(np.all(x == 0) for x in jax.tree.leaves(updates))


def test_it_trains_under_vmap_as_alone():
    tx = jd.streaming.redo(optax.adam(1e-2), LAYERS, jax.random.key(0), threshold=0.3, period=5)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), network(0), network(1))
    run = jax.jit(lambda params: train(tx, params, tx.init(params), batches(12)))
    params, state = jax.vmap(run)(stacked)
    for i in (0, 1):
        expected, expected_state = run(network(i))
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, atol=1e-5), params, expected
        )
        np.testing.assert_array_equal(state.replaced[i], expected_state.replaced)
    assert int(jnp.sum(state.replaced)) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": -1.0}, r"threshold must be a number in \[0, inf\), got -1"),
        ({"period": 0}, "period must be an integer in"),
        ({"key": 3}, "key must be one random key"),
        ({"initializer": 3}, "initializer must be a function such as"),
    ],
)
def test_bad_arguments_are_refused_at_construction(change, message):
    arguments = {"layers": LAYERS, "key": jax.random.key(0), **change}
    with pytest.raises((ValueError, TypeError), match=message):
        jd.streaming.redo(optax.sgd(0.1), **arguments)
