"""Restarts on divergence around towers of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers import restart

X = {"a": jnp.array([0.5, -1.0]), "b": jnp.array([2.0])}


def tower(factory=optax.sgd, **tune):
    return jd.hypergradient(factory, optax.adam(0.1), tune=tune)


def loss(x):
    return jnp.sum(x["a"] ** 2) + jnp.sum(x["b"] ** 2)


def descend(tx, steps, loss=loss):
    x, state = X, tx.init(X)

    @jax.jit
    def step(x, state):
        value, grads = jax.value_and_grad(loss)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return optax.apply_updates(x, updates), state

    for _ in range(steps):
        x, state = step(x, state)
    return x, state


@pytest.mark.parametrize("start", [jd.positive(1e4), jd.per_leaf(1e4)])
def test_a_learning_rate_that_is_too_high_is_divided_until_the_loss_falls(start):
    x, state = descend(jd.restart_on_divergence(tower(learning_rate=start)), 60)
    assert int(state.restarts) >= 2
    assert float(loss(x)) < 1e-2 * float(loss(X))


def test_a_restart_resets_the_other_hyperparameters():
    tx = jd.restart_on_divergence(tower(optax.adam, learning_rate=1e3, b1=0.9))
    _, state = descend(tx, 2)
    assert int(state.restarts) == 1
    hyperparams = jd.get_hyperparams(state)[0]
    np.testing.assert_allclose(hyperparams["b1"], 0.9, rtol=1e-6)
    np.testing.assert_allclose(hyperparams["learning_rate"], 1e3 / restart.SEVERE_DIVISOR, rtol=0.3)


def test_the_rise_is_the_first_order_change_of_the_loss():
    tx = jd.restart_on_divergence(tower(learning_rate=1e-4))
    x, state = descend(tx, 5)
    np.testing.assert_allclose(state.rise, loss(x) - loss(X), rtol=0.3)
    assert float(state.rise) < 0


def test_batches_skipped_by_the_caller_do_not_cause_a_restart():
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    state = tx.init(X)
    for _ in range(3):
        updates, state = tx.update(jax.grad(loss)(X), state, X, value=loss(X), skip=True)
        assert float(optax.tree.norm(updates)) == 0
    assert int(state.inner_state.inner_state.skipped) == 3
    assert int(state.unusable) == int(state.restarts) == int(state.inner_state.count) == 0


def test_two_batches_with_a_non_finite_loss_cause_a_restart():
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    state = tx.init(X)
    for restarts in (0, 1):
        _, state = tx.update(jax.grad(loss)(X), state, X, value=jnp.nan)
        assert int(state.restarts) == restarts


def test_no_batch_is_skipped_by_default():
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    arguments = jax.grad(loss)(X), tx.init(X), X
    plain = tx.update(*arguments, value=loss(X))
    jax.tree.map(
        np.testing.assert_array_equal, plain, tx.update(*arguments, value=loss(X), skip=None)
    )


@pytest.mark.parametrize("skip", [2, "yes", np.array([True])])
def test_skip_must_be_one_bool(skip):
    inner = tower(learning_rate=0.1)
    for tx in (inner, jd.restart_on_divergence(inner)):
        with pytest.raises(ValueError, match="skip must be"):
            tx.update(X, tx.init(X), X, value=1.0, skip=skip)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"tower must be a transformation that jd\.hypergradient"):
        jd.restart_on_divergence(optax.adam(1e-3))
    for tune in ({"momentum": 0.9, "learning_rate": jd.unconstrained(0.1)}, {"learning_rate": [1]}):
        with pytest.raises(ValueError, match="tower must tune 'learning_rate' as one number in"):
            jd.restart_on_divergence(tower(**tune))
    traced = jd.hypergradient(
        optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.1}, signal=jd.eligibility_trace(0.5)
    )
    with pytest.raises(ValueError, match=r"must have the signal jd.one_step\(\)"):
        jd.restart_on_divergence(traced)
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    with pytest.raises(ValueError, match="needs value=, the loss"):
        tx.update(X, tx.init(X), X)
