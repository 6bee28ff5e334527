"""The parts of a tower are analyzed once."""

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd

X = jnp.array([0.5, -1.0, 2.0])


def counting():
    """Returns a factory, and the list of shapes for which its update was traced."""
    traced = []

    def factory(learning_rate):
        inner = optax.adam(learning_rate)

        def update(updates, state, params=None):
            traced.append(jnp.shape(jax.tree.leaves(updates)[0]))
            return inner.update(updates, state, params)

        return optax.GradientTransformation(inner.init, update)

    return factory, traced


def test_the_update_is_traced_once_for_each_set_of_shapes_and_twice_in_a_step():
    factory, traced = counting()
    tx = jd.hypergradient(factory, optax.sgd(0.1), tune={"learning_rate": 0.1})
    traced.clear()
    state = tx.init(X)
    assert set(traced) == {(3,)}
    traced.clear()
    tx.init(2 * X)
    jd.describe(tx, X)
    jd.describe(tx)  # on the stand-in, which was analyzed with the tower
    assert traced == []
    jax.jit(tx.update).lower(X, state, X)
    assert traced == [(3,), (3,)]  # the last update and the present one


def test_a_skipped_batch_leaves_the_hyperparameters_and_the_parameters_unchanged():
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.1})
    _, state = tx.update(X, tx.init(X), X)
    updates, skipped = jax.jit(tx.update)(X, state, X, skip=True)
    assert jnp.all(updates == 0)
    assert (int(skipped.skipped), bool(skipped.has_previous)) == (1, False)
    assert skipped.hyperparams == state.hyperparams
    assert float(skipped.hypergradient["learning_rate"].log) == 0


def test_the_state_reports_the_hypergradient_that_moved_the_hyperparameters():
    tx = jd.hypergradient(optax.sgd, optax.sgd(0.5), tune={"learning_rate": jd.unconstrained(0.1)})
    state = tx.init(X)
    assert float(state.hypergradient["learning_rate"].value) == 0
    updates, state = tx.update(X, state, X)
    _, after = tx.update(2 * X, state, X + updates)
    assert float(after.hypergradient["learning_rate"].value) == -2 * float(X @ X)
    moved = after.hyperparams["learning_rate"].value - state.hyperparams["learning_rate"].value
    assert float(moved) == float(X @ X)
