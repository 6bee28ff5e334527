"""`jd.online_scaled` follows its equations, and keeps the best parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent import online_scaling

X = np.random.default_rng(0).normal(size=(40, 6)) * np.array([1.0, 3.0, 0.1, 1.0, 0.5, 10.0])
Y = np.where(np.random.default_rng(1).random(40) < 0.6, 1.0, -1.0)


def loss(w):
    """Logistic regression with features of different scales."""
    return jnp.mean(jax.nn.softplus(-Y * (X @ w))) + 5e-3 * jnp.sum(w**2)


def descend(tx, loss, start, steps):
    """Returns the proposed parameters and the states, the ones before the first step included."""

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        carry = optax.apply_updates(params, updates), state
        return carry, carry

    return jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps)[1])(start)


def in_numpy(steps, memory):
    """Transcribes the equations; returns the proposed and the best parameters."""
    value_and_grad = jax.jit(jax.value_and_grad(loss))

    def evaluate(w):
        value, grads = value_and_grad(jnp.asarray(w))
        return float(value), np.asarray(grads)

    def scales(v):
        return v / v.mean() + 1e-6 if v.any() else np.ones_like(v)

    w, (f, g) = np.zeros(6), evaluate(np.zeros(6))
    pairs, v, costs, r, d = [], np.zeros(6), np.zeros(5), 1.0, np.full(6, 1 / np.linalg.norm(g))
    found = []
    for _ in range(steps):
        q, factors = g.copy(), []
        for s, u in reversed(pairs):
            factors.append(s @ q / (s @ u))
            q -= factors[-1] * u
        z = d * q
        for (s, u), factor in zip(pairs, reversed(factors), strict=True):
            z += s * (factor - u @ z / (s @ u))
        y = w - r * z
        found.append((y, w))
        fy, gy = evaluate(y)
        s, u = y - w, gy - g
        assert s @ u > 0  # convex
        for i, exponent in enumerate((0, 0.25, 0.5, 0.75, 1)):
            b = scales(v) ** exponent
            costs[i] += np.log((u @ (u / b)) * (s @ (s * b)) / (s @ u) ** 2)
        v = v + u**2 / (s @ u)
        d = scales(v) ** -(np.argmin(costs) / 4)
        d *= s @ u / (u @ (d * u))
        pairs = [*pairs, (s, u)][-memory:]
        if fy <= f:
            w, f, g, r = y, fy, gy, 1.0
        else:
            r /= 2
    return found


@pytest.mark.parametrize("memory", [3, 20])
def test_it_follows_its_equations(memory):
    with jax.enable_x64(True):
        expected = in_numpy(25, memory)
        proposed, states = descend(jd.online_scaled(memory=memory), loss, jnp.zeros(6), 25)
    best = [w for _, w in expected]
    np.testing.assert_allclose(proposed, [y for y, _ in expected], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(states.params, best, rtol=1e-6, atol=1e-9)
    assert 0 < int(states.null_steps[-1]) < 12  # both kinds of steps were compared
    assert len({*np.argmin(states.costs, axis=1)}) > 1


def test_steps_without_jit_and_agents_under_vmap_equal_the_scan():
    tx = jd.online_scaled(memory=3)
    with jax.enable_x64(True):
        starts = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6)))
        found = jax.vmap(lambda x: descend(tx, loss, x, 6)[0])(starts)
        for start, path in zip(starts, found, strict=True):
            np.testing.assert_allclose(path, descend(tx, loss, start, 6)[0], rtol=1e-6, atol=1e-9)
        x, state = starts[0], tx.init(starts[0])
        for expected in found[0]:
            value, grads = jax.value_and_grad(loss)(x)
            updates, state = tx.update(grads, state, x, value=value)
            x = optax.apply_updates(x, updates)
            np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-9)


def test_the_preconditioner_maps_the_last_difference_of_gradients_to_the_last_step():
    with jax.enable_x64(True):
        _, states = descend(jd.online_scaled(memory=4), loss, jnp.zeros(6), 9)
        state = jax.tree.map(lambda leaf: leaf[-1], states)
        last = (int(state.pairs) - 1) % 4
        after = online_scaling._direction(state._replace(grads=state.differences[last]), 1.0)
    np.testing.assert_allclose(after, -state.steps[last], rtol=1e-9)


def test_the_path_depends_neither_on_the_scale_of_the_loss_nor_on_a_constant():
    with jax.enable_x64(True):
        tx, start = jd.online_scaled(), jnp.zeros(6)
        plain = descend(tx, loss, start, 15)[0]
        scaled = descend(tx, lambda w: 1024 * loss(w), start, 15)[0]
        shifted = descend(tx, lambda w: loss(w) + 8.0, start, 15)[0]
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)
    np.testing.assert_allclose(shifted, plain, rtol=1e-6)


def test_the_first_step_has_the_length_asked_for():
    tx, w = jd.online_scaled(0.25), {"a": jnp.ones(2), "b": jnp.ones((2, 3))}
    updates, _ = tx.update(jax.tree.map(lambda x: 3 * x, w), tx.init(w), w, value=1.0)
    assert float(optax.tree.norm(updates)) == pytest.approx(0.25)


def test_a_higher_loss_is_a_null_step_that_teaches_the_curvature():
    tx, x = jd.online_scaled(10.0), jnp.array([2.0])
    updates, state = tx.update(2 * x, tx.init(x), x, value=x[0] ** 2)
    y = x + updates  # at -8
    updates, state = tx.update(2 * y, state, y, value=y[0] ** 2)
    assert int(state.null_steps) == 1
    np.testing.assert_array_equal(state.params, x)
    np.testing.assert_allclose(y + updates, [1.0])  # half of the step to the minimum of the square
    y = y + updates
    updates, state = tx.update(2 * y, state, y, value=y[0] ** 2)
    np.testing.assert_allclose(y + updates, [0.0], atol=1e-6)
    np.testing.assert_array_equal(state.params, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_loss_shortens_the_step(bad):
    tx, x = jd.online_scaled(), jnp.array([3.0, 4.0])
    updates, state = tx.update(x, tx.init(x), x, value=12.5)
    y = x + updates
    updates, state = tx.update(jnp.full(2, jnp.nan), state, y, value=bad)
    np.testing.assert_allclose(y + updates, 0.98 * x, rtol=1e-6)  # a tenth of a step of length 1
    np.testing.assert_array_equal(state.params, x)
    assert int(state.null_steps) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_non_finite_start_makes_no_step():
    tx, x = jd.online_scaled(), jnp.ones(2)
    updates, state = tx.update(jnp.full(2, jnp.nan), tx.init(x), x, value=jnp.nan)
    np.testing.assert_array_equal(updates, 0.0)
    np.testing.assert_array_equal(state.params, x)


def test_a_step_that_was_changed_is_learned_from_as_made():
    tx, x = jd.online_scaled(1.0), jnp.array([4.0])
    _, state = tx.update(6 * x, tx.init(x), x, value=3 * x[0] ** 2)
    y = jnp.array([3.9])  # not the proposed 3
    updates, _ = tx.update(6 * y, state, y, value=3 * y[0] ** 2)
    np.testing.assert_allclose(y + updates, [0.0], atol=1e-4)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"memory must be an integer in \[1, 10000\], got 0"):
        jd.online_scaled(memory=0)
    with pytest.raises(ValueError, match=r"initial_step must be a number in \(0, inf\), got -1.0"):
        jd.online_scaled(-1.0)
    tx = jd.online_scaled()
    with pytest.raises(ValueError, match="needs value="):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    with pytest.raises(ValueError, match="params must have real floating-point leaves"):
        tx.init({"w": jnp.ones(2), "n": jnp.ones(2, jnp.int32)})
