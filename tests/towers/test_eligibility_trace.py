"""The eligibility trace: discounted sums of the effects of all past updates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

X = {"a": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array([[1.5]])}
GRADS = np.random.default_rng(0).normal(size=(7, 4))


def tree(row):
    return {"a": jnp.asarray(row[:3], jnp.float32), "b": jnp.asarray(row[3:, None], jnp.float32)}


def tower(factory, signal, hyper_optimizer=None, **tune):
    hyper_optimizer = optax.sgd(1e-2) if hyper_optimizer is None else hyper_optimizer
    return jd.hypergradient(factory, hyper_optimizer, tune=tune, signal=signal)


def run(tx, grads=GRADS):
    """The states and updates of each step."""
    x, state, steps = X, tx.init(X), []
    update = jax.jit(tx.update)
    for row in grads:
        updates, state = update(tree(row), state, x)
        x = optax.apply_updates(x, updates)
        steps.append((jax.tree.map(np.asarray, updates), state))
    return steps


def signals(steps, name="learning_rate"):
    """The coordinate's moves by SGD at 1e-2, as the hypergradients that they were made of."""
    coordinates = [float(state.hyperparams[name][0]) for _, state in steps]
    return -np.diff(coordinates) / 1e-2


@pytest.mark.parametrize("factory", [optax.adam, partial(optax.sgd, momentum=0.9)])
def test_a_decay_of_zero_is_one_step(factory):
    tune = {"learning_rate": jd.positive(0.1)}
    one = run(tower(factory, jd.one_step(), **tune))
    traced = run(tower(factory, jd.eligibility_trace(0.0), **tune))
    for (updates, _), (same, _) in zip(one, traced, strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), updates, same)


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_for_a_rate_the_trace_is_the_discounted_path(decay):
    steps = run(tower(optax.sgd, jd.eligibility_trace(decay), learning_rate=jd.positive(0.1)))
    flat = [np.concatenate([u["a"], u["b"][0]]) for u, _ in steps]  # dU/d(log a) is U
    path, expected = np.zeros(4), []
    for t in range(1, len(GRADS)):
        path = decay * path + flat[t - 1]
        expected.append(GRADS[t] @ path)
    np.testing.assert_allclose(signals(steps), expected, rtol=2e-3, atol=2e-4)


def test_each_leaf_has_its_own_trace():
    steps = run(tower(optax.sgd, jd.eligibility_trace(1.0), learning_rate=jd.per_leaf(0.1)))
    trace = steps[-1][1].traces["learning_rate"]
    gone = sum(u["b"] for u, _ in steps[:-1])
    np.testing.assert_allclose(trace["b"], gone, rtol=1e-5)


def test_a_bad_batch_is_left_out_of_the_trace():
    bad = np.insert(GRADS, 3, np.nan, axis=0)
    steps = run(tower(optax.sgd, jd.eligibility_trace(0.9), learning_rate=jd.positive(0.1)), bad)
    assert int(steps[-1][1].skipped) == 1
    leaves = jax.tree.leaves(steps[-1][1])
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in leaves)
    # The trace includes the update before the bad batch. The batch after it has no last update.
    traces = [state.traces["learning_rate"]["b"] for _, state in steps]
    np.testing.assert_array_equal(traces[4], traces[3])


def test_a_trace_works_for_betas_under_vmap_and_in_towers():
    above = jd.hypergradient(optax.sgd, optax.sgd(1e-3), tune={"learning_rate": 1e-2})
    tx = tower(optax.adam, jd.eligibility_trace(0.9), above, learning_rate=0.1, b1=0.9)
    agents = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), X)
    state = jax.vmap(tx.init)(agents)
    for row in GRADS[:3]:
        grads = jax.tree.map(lambda g: jnp.stack([g, -g]), tree(row))
        updates, state = jax.jit(jax.vmap(tx.update))(grads, state, agents)
        agents = optax.apply_updates(agents, updates)
    single = run(tx, GRADS[:3])[-1][0]
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u[0], v, rtol=1e-5), updates, single)
    assert "trace(0.9); general, forward mode;\n   carries grads, traces" in jd.describe(tx)
