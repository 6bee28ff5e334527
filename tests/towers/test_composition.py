"""Towers inside and around optax's wrappers, against paths computed by hand.

Unless a test says otherwise, gradient descent at an unconstrained rate, which gradient descent at
0.1 learns: the rate grows by 0.1 <g, d> where d is the direction of the last update and g the
gradient after it.
"""

from functools import partial

import jax
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.towers.stepping import GRADS, OTHERS, START, assert_close, final, rates, run

RAW = {"learning_rate": jd.unconstrained(0.5)}


def tower(factory=optax.sgd, tune=RAW):
    return jd.hypergradient(factory, optax.sgd(0.1), tune=tune)


def every_second(tx):
    return optax.MultiSteps(tx, 2, accumulator_dtype=jax.numpy.float64)


def by_hand(grads, direction=lambda g, x, t: g, signal=lambda g: g):
    """Returns parameters and rates after each step, if step t moves by -a direction(g, x, t)."""
    x, rate, last, xs, learned = START, 0.5, np.zeros(3), [], []
    for t, g in enumerate(grads):
        rate = rate + 0.1 * (signal(g) @ last)
        last = direction(g, x, t)
        x = x - rate * last
        xs.append(x)
        learned.append(rate)
    return np.array(xs), np.array(learned)


def assert_path(tx, grads, expected):
    with jax.enable_x64(True):
        path, states = run(tx, START, grads)
        assert_close((path, rates(states)[0]), expected)
    return states


def test_inside_multi_steps_a_tower_sees_mean_gradients_and_moves_with_them():
    means = GRADS.reshape(4, 2, 3).mean(1)
    path, learned = by_hand(means)
    # The parameters wait for every second batch, and so does the rate.
    expected = (np.repeat(path, 2, 0)[:-1], np.repeat(learned, 2)[:-1])
    with jax.enable_x64(True):
        trained, states = run(every_second(tower()), START, GRADS)
        assert_close((trained[1:], rates(states)[0][1:]), expected)
        np.testing.assert_array_equal(trained[0], START)


def test_inside_a_tower_multi_steps_uses_the_next_batch_alone_as_signal():
    def factory(learning_rate):
        return every_second(optax.sgd(learning_rate))

    x, rate, last, pending, xs, learned = START, 0.5, np.zeros(3), np.zeros(3), [], []
    for t, g in enumerate(GRADS):
        rate = rate + 0.1 * (g @ last)
        last = (pending + g) / 2 if t % 2 else np.zeros(3)
        pending = g
        x = x - rate * last
        xs.append(x)
        learned.append(rate)
    assert_path(tower(factory), GRADS, (np.array(xs), np.array(learned)))


def with_bad_batch():
    grads = np.insert(GRADS, 3, OTHERS[0], axis=0)
    grads[3, 1] = np.nan
    return grads


def test_around_a_tower_apply_if_finite_undoes_a_bad_batch_and_no_signal_is_lost():
    path, learned = by_hand(GRADS)
    expected = (np.insert(path, 3, path[2], 0), np.insert(learned, 3, learned[2]))
    states = assert_path(optax.apply_if_finite(tower(), 5), with_bad_batch(), expected)
    assert int(final(states).total_notfinite) == 1
    assert int(final(states).inner_state.skipped) == 0


def test_inside_a_tower_apply_if_finite_never_sees_a_bad_batch():
    def factory(learning_rate):
        return optax.apply_if_finite(optax.sgd(learning_rate), 5)

    # The tower skips the batch itself, and with it the signal of the gradient that follows.
    path, learned = by_hand(GRADS[:3])
    x, rate, rest = path[-1], learned[-1], []
    for t, g in enumerate(GRADS[3:], start=3):
        rate = rate + (0.1 * g @ GRADS[t - 1] if t > 3 else 0.0)
        x = x - rate * g
        rest.append((x, rate))
    path = [*path, path[-1], *(x for x, _ in rest)]
    learned = [*learned, learned[-1], *(rate for _, rate in rest)]
    states = assert_path(tower(factory), with_bad_batch(), (np.array(path), np.array(learned)))
    assert int(final(states).skipped) == 1
    assert int(final(states).previous.state.total_notfinite) == 0


def clip(g):
    return g * min(1.0, 0.7 / np.linalg.norm(g))


def test_clipping_in_the_factory_clips_the_update_but_not_the_signal():
    def factory(learning_rate):
        return optax.chain(optax.clip_by_global_norm(0.7), optax.sgd(learning_rate))

    assert_path(tower(factory), GRADS, by_hand(GRADS, lambda g, x, t: clip(g)))


def test_clipping_before_a_tower_clips_both():
    tx = optax.chain(optax.clip_by_global_norm(0.7), tower())
    assert_path(tx, GRADS, by_hand(GRADS, lambda g, x, t: clip(g), clip))


def test_weight_decay_is_part_of_the_update_in_the_hypergradient():
    def factory(learning_rate):
        return optax.chain(optax.add_decayed_weights(0.2), optax.sgd(learning_rate))

    assert_path(tower(factory), GRADS, by_hand(GRADS, lambda g, x, t: g + 0.2 * x))


def test_the_hypergradient_of_weight_decay_uses_the_parameters_before_the_update():
    def factory(weight_decay):
        return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(0.5))

    x, decay, last, xs, learned = START, 0.2, np.zeros(3), [], []
    for g in GRADS:
        decay = decay + 0.1 * 0.5 * (g @ last)
        last = x
        x = x - 0.5 * (g + decay * x)
        xs.append(x)
        learned.append(decay)
    tx = tower(factory, {"weight_decay": jd.unconstrained(0.2)})
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS)
        found = jd.get_hyperparams(states)[0]["weight_decay"]
        assert_close((path, found), (np.array(xs), np.array(learned)))


def test_a_schedule_in_the_factory_is_replayed_at_the_step_of_the_last_update():
    schedule = optax.linear_schedule(1.0, 0.5, 4)  # exact in float32

    def factory(learning_rate):
        return optax.chain(optax.scale_by_schedule(schedule), optax.sgd(learning_rate))

    scales = 1.0 - np.minimum(np.arange(8), 4) / 8
    assert_path(tower(factory), GRADS, by_hand(GRADS, lambda g, x, t: scales[t] * g))


def test_a_scheduled_rate_in_the_partial_scales_the_signal_of_another_name():
    factory = partial(optax.sgd, optax.piecewise_constant_schedule(0.5, {4: 0.1}))

    def rate_of(t):
        return 0.5 if t < 4 else 0.05

    x, momentum, buffer, xs, learned = START, 0.6, np.zeros(3), [], []
    last = np.zeros(3)
    for t, g in enumerate(GRADS):
        momentum = momentum + 0.1 * (g @ last)
        last = rate_of(t) * buffer  # of the update by the momentum, sign aside
        buffer = momentum * buffer + g
        x = x - rate_of(t) * buffer
        xs.append(x)
        learned.append(momentum)
    tx = tower(factory, {"momentum": jd.unconstrained(0.6)})
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS)
        found = jd.get_hyperparams(states)[0]["momentum"]
        assert_close((path, found), (np.array(xs), np.array(learned)))


@pytest.mark.parametrize("bad", [False, True], ids=["finite", "a bad batch in one group"])
def test_in_a_partition_each_groups_tower_learns_from_its_own_gradients(bad):
    groups = {
        "plain": tower(),
        "adam": jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 0.1}),
    }
    params = {"plain": START, "adam": START[:2]}
    grads = {"plain": GRADS.copy(), "adam": OTHERS[:, :2]}
    if bad:
        grads["plain"][2, 0] = np.inf
    with jax.enable_x64(True):
        tx = optax.partition(groups, {name: name for name in groups})
        path, states = run(tx, params, grads)
        for name, alone in groups.items():
            expected, expected_states = run(alone, params[name], grads[name])
            assert_close(path[name], expected)
            state = states.inner_states[name]
            assert_close(rates(state)[0], rates(expected_states)[0])
            (found,) = jax.tree.leaves(
                state, is_leaf=lambda node: isinstance(node, jd.HypergradientState)
            )
            assert int(found.skipped[-1]) == (bad and name == "plain")
