"""Reactions replace what belongs to the past at an alarm, and nothing at other updates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.streaming import (
    Reaction,
    forget,
    raise_learning_rate,
    react_to_drift,
    reset_statistics,
    restart_average,
)

REACTIONS = {
    "reset_statistics": reset_statistics(),
    "raise_learning_rate": raise_learning_rate(10.0, half_life=3),
    "restart_average": restart_average(),
    "forget": forget(0.5),
}
TX = jd.with_average(optax.adam(0.1))
every_reaction = pytest.mark.parametrize("name", REACTIONS)


def params(dtype=jnp.float32):
    return {"w": jnp.linspace(-1, 1, 4, dtype=dtype), "b": jnp.ones(2, dtype)}


def train(tx, drifts, start=None):
    """Returns the parameters and the states after each step on a quadratic, as rows."""
    start = params() if start is None else start

    def step(carry, drift):
        x, state = carry
        grads = jax.tree.map(lambda x: x - 2, x)
        updates, state = tx.update(grads, state, x, drift=drift)
        carry = optax.apply_updates(x, updates), state
        return carry, carry

    run = jax.jit(lambda x, drifts: jax.lax.scan(step, (x, tx.init(x)), drifts)[1])
    return run(start, jnp.asarray(drifts))


def row(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


@every_reaction
def test_without_drift_the_steps_are_the_optimizers_own(name):
    x, state = train(react_to_drift(TX, REACTIONS[name]), [False] * 10)
    expected, inner = train(optax.with_extra_args_support(TX), [False] * 10)
    chex.assert_trees_all_close((x, state.inner_state), (expected, inner), rtol=1e-6)
    assert not np.any(state.drifts)


@every_reaction
def test_drift_changes_the_steps_from_the_alarm_on_and_is_counted(name):
    tx = react_to_drift(TX, REACTIONS[name])
    x, state = train(tx, [False] * 5 + [True] + [False] * 4)
    plain, calm = train(tx, [False] * 10)
    chex.assert_trees_all_equal(row(x, 4), row(plain, 4))
    after, expected = row((x, state.inner_state), 5), row((plain, calm.inner_state), 5)
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True)
    assert any(not np.allclose(x, y) for x, y in pairs)
    assert state.drifts.tolist() == [0] * 5 + [1] * 5


@every_reaction
def test_lanes_with_drifts_of_their_own_equal_single_runs(name):
    tx = react_to_drift(TX, REACTIONS[name])
    drifts = jnp.array([[False, True, False, False], [False, False, False, True]])
    together = jax.vmap(lambda drifts: train(tx, drifts))(drifts)
    for i in range(2):
        chex.assert_trees_all_close(row(together, i), train(tx, drifts[i]), rtol=1e-6)


@every_reaction
def test_bfloat16_keeps_its_dtypes(name):
    tx = react_to_drift(TX, REACTIONS[name])
    start = params(jnp.bfloat16)
    state = tx.init(start)
    updates, after = tx.update(start, state, start, drift=True)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, start)


def test_reset_statistics_is_a_new_optimizer_at_the_present_parameters():
    tx = react_to_drift(TX, reset_statistics())
    x, state = train(tx, [False] * 5 + [True, False, False])
    new, new_state = train(tx, [False] * 3, row(x, 4))
    chex.assert_trees_all_close(row(x, slice(5, 8)), new, rtol=1e-6)
    chex.assert_trees_all_close(row(state.inner_state, slice(5, 8)), new_state.inner_state)


def test_raise_learning_rate_decays_by_half_lives_and_begins_again():
    tx = react_to_drift(optax.sgd(1.0), raise_learning_rate(9.0, half_life=2))
    drifts = [False, True, False, False, True, False, False, False, False]
    x, state, found = jnp.array(0.0), tx.init(jnp.array(0.0)), []
    for drift in drifts:
        updates, state = tx.update(jnp.array(-1.0), state, x, drift=drift)
        found.append(float(updates))
    decay = 8 * 0.5 ** (np.arange(5) / 2)
    np.testing.assert_allclose(found, 1 + np.array([0, *decay[:3], *decay]), rtol=1e-6)


def test_restart_average_forgets_the_parameters_before_the_alarm():
    tx = react_to_drift(jd.with_average(optax.sgd(1.0), power=0.0), restart_average())
    x, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    averages = []
    for drift in (False, False, False, True, False):
        updates, state = tx.update(jnp.array(-1.0), state, x, drift=drift)
        averages.append(float(jd.averaged_params(state, x)))
        x = optax.apply_updates(x, updates)
    assert averages == [0, 0.5, 1, 3, 3.5]


def test_restart_average_also_begins_the_losses_of_restart_on_divergence_again():
    """The loss is 100 times as large after the alarm, which is not divergence."""
    tx = jd.restart_on_divergence(optax.sgd(0.01))
    tx = react_to_drift(tx, restart_average())

    def run(alarm):
        x, state = jnp.ones(4), tx.init(jnp.ones(4))

        def step(carry, t):
            x, state = carry
            target = jnp.where(t < 50, 0.0, 30.0)
            value, grads = jax.value_and_grad(lambda x: jnp.sum((x - target) ** 2))(x)
            drift = alarm & (t == 50)
            updates, state = tx.update(grads, state, x, value=value, drift=drift)
            return (optax.apply_updates(x, updates), state), None

        (x, state), _ = jax.lax.scan(step, (x, state), jnp.arange(100))
        return state.inner_state

    state = jax.jit(run)(True)
    assert int(state.restarts) == 0
    assert int(state.count) == 50
    assert float(state.losses.count) <= 50


def test_forget_ends_between_the_present_and_the_first_parameters():
    tx = react_to_drift(optax.sgd(0.0), forget(0.25))
    first, x = params(), jax.tree.map(lambda x: 5 * x + 1, params())
    state = tx.init(first)
    updates, _ = tx.update(x, state, x, drift=True)
    expected = jax.tree.map(lambda x, start: x + 0.25 * (start - x), x, first)
    chex.assert_trees_all_close(optax.apply_updates(x, updates), expected, rtol=1e-6)


def test_reactions_act_in_their_order():
    tx = react_to_drift(optax.sgd(1.0), forget(1.0), raise_learning_rate(3.0, half_life=1))
    state = tx.init(jnp.array(0.0))
    updates, _ = tx.update(jnp.array(1.0), state, jnp.array(2.0), drift=True)
    assert float(updates) == 3 * (-1 - 2)


def test_random_keys_in_the_optimizers_state_are_replaced():
    tx = react_to_drift(optax.add_noise(0.1, 0.9, jax.random.key(3)), reset_statistics())
    x = jnp.zeros(3)
    first, state = tx.update(x, tx.init(x), x)
    again, state = tx.update(x, state, x, drift=True)
    chex.assert_trees_all_equal(first, again)


def test_self_tuning_begins_again():
    tx = react_to_drift(jd.self_tuning(optax.adam), reset_statistics())
    x, state = train_self_tuning(tx, [False] * 30 + [True])
    assert bool(jnp.all(jnp.isfinite(x)))
    assert bool(state.inner_state.range_test.running)
    assert float(state.inner_state.trend.signal.count) <= 1


def train_self_tuning(tx, drifts):
    def step(carry, drift):
        x, state = carry
        value, grads = jax.value_and_grad(lambda x: jnp.sum((x - 2) ** 2))(x)
        updates, state = tx.update(grads, state, x, value=value, drift=drift)
        return (optax.apply_updates(x, updates), state), None

    x = jnp.ones(3)
    run = jax.jit(lambda drifts: jax.lax.scan(step, (x, tx.init(x)), drifts)[0])
    return run(jnp.asarray(drifts))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: react_to_drift(TX), ValueError, "at least one Reaction, got none"),
        (lambda: react_to_drift(TX, forget), TypeError, "call it first, as in jd.streaming.forget"),
        (lambda: react_to_drift(optax.adam, forget(1.0)), TypeError, "tx must be an optax"),
        (lambda: forget(0.0), ValueError, "fraction must be in (0, 1], got 0.0"),
        (
            lambda: raise_learning_rate(0.5, half_life=1),
            ValueError,
            "factor must be a number in [1, inf), got 0.5",
        ),
        (
            lambda: raise_learning_rate(2.0, half_life=0),
            ValueError,
            "half_life must be a number in (0, inf), got 0",
        ),
        (
            lambda: step_of(react_to_drift(optax.sgd(1.0), restart_average()), drift=True),
            ValueError,
            "the optimizer must have an average",
        ),
        (
            lambda: step_of(react_to_drift(TX, forget(1.0)), drift=jnp.zeros(2, bool)),
            ValueError,
            "drift must be one bool, got shape (2,)",
        ),
        (
            lambda: step_of(react_to_drift(TX, Reaction()), drift=0.5),
            ValueError,
            "drift must be True or False",
        ),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def step_of(tx, drift):
    x = jnp.ones(2)
    return tx.update(x, tx.init(x), x, drift=drift)
