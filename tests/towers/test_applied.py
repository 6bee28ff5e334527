"""Updates that are not applied as a tower returned them are detected, and no rate runs away."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers import applied

OLD, U, G = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, -0.2, 0.3]), jnp.array([1.0, 1.0, -1.0])
EXACT = applied.rounding_of(OLD)


def compared(step, old=OLD, u=U, g=G, rounding=EXACT):
    altered, factor = applied.factor(old, old + step, u, g, rounding)
    return bool(altered), float(factor)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0.5 * U, 0.5),
        (3 * U, 1.0),
        (-0.5 * U, -0.5),
        (U * jnp.array([1.0, 0.0, 1.0]), 0.5),  # the effects are -0.2 of the step, -0.4 of u
        (0.009 * U, 0.0),
        (101 * U, 0.0),
        (0 * U, 0.0),
    ],
)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_factor_is_the_ratio_of_the_effects_and_0_for_steps_of_another_size(step, factor, size):
    altered, found = compared(size * step, size * OLD, size * U, G / size)
    assert altered
    np.testing.assert_allclose(found, factor, rtol=1e-4)


def test_rounding_and_a_thousandth_of_the_update_do_not_count():
    assert compared(1.0005 * U) == (False, 1.0)
    assert compared(1e-9 * U, u=1e-9 * U) == (False, 1.0)  # lost in the parameters
    assert compared(1.01 * U)[0]


def test_numbers_that_are_rounded_to_zero_do_not_count():
    flushed = jnp.array([1.0, 1.0, 1.5e-38])
    assert compared(jnp.array([0.0, 0.0, -1.5e-38]), old=flushed, u=0 * U) == (False, 1.0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_updates_below_the_smallest_number_are_no_false_alarm(dtype):
    tower = jd.hypergradient(optax.adam, optax.sgd(0.0), tune={"learning_rate": 1e-8})

    def body(carry, key):
        params, state = carry
        updates, state = tower.update(jax.random.normal(key, (9,), dtype), state, params)
        return (optax.apply_updates(params, updates), state), None

    params = jnp.zeros(9, dtype)
    keys = jax.random.split(jax.random.key(0), 9)
    (_, state), _ = jax.lax.scan(body, (params, tower.init(params)), keys)
    assert state.altered == 0


@pytest.mark.parametrize("unknown", [{"old": OLD * jnp.nan}, {"step": U * jnp.nan}])
def test_parameters_that_are_unknown_count_as_applied(unknown):
    assert compared(**{"step": U, **unknown}) == (False, 1.0)


def test_the_coordinates_are_spread_over_each_floating_point_leaf():
    tree = {"a": jnp.arange(1000.0), "b": jnp.ones(3, int), "c": jnp.ones((2, 3), jnp.bfloat16)}
    found = applied.coordinates({**tree, "d": jnp.zeros((0, 4))})
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [*np.arange(64) * 15.0, *np.ones(6)])


UPDATES = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "momentum": lambda learning_rate: optax.sgd(learning_rate, 0.9, nesterov=True),
    "lion": optax.lion,
    "muon": optax.contrib.muon,
    "prodigy": partial(optax.contrib.prodigy, estim_lr0=1e-2),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("tune", [{"learning_rate": 1e-2}, {"learning_rate": jd.per_leaf(1e-2)}])
def test_the_update_is_computed_again_at_the_coordinates(name, tune, monkeypatch):
    seen = []
    real = applied.factor

    def factor(old, now, u, g, rounding):
        seen.append((now - old, u))
        return real(old, now, u, g, rounding)

    monkeypatch.setattr(applied, "factor", factor)
    tx = jd.hypergradient(UPDATES[name], optax.sgd(1e-2), tune=tune)
    params = {"w": jax.random.normal(jax.random.key(0), (30, 40)), "b": jnp.ones(5)}
    state = tx.init(params)
    with jax.disable_jit():
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
            params = optax.apply_updates(params, updates)
    for made, u in seen[1:]:
        np.testing.assert_allclose(made, u, rtol=1e-3, atol=1e-6)
        assert np.abs(u).max() > 1e-5
    assert state.altered == 0


def loss(params):
    return jnp.sum(jnp.array([1.0, 10.0]) * (params["w"] - 1) ** 2) + jnp.sum(params["b"] ** 2)


def train(tx, steps=250, project=lambda x: x, dtype=jnp.float32):
    """Returns the losses, and the last state."""

    def body(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value.astype(jnp.float32))
        params = jax.tree.map(project, optax.apply_updates(params, updates))
        return (params, state), value

    params = {"w": jnp.full(2, 3.0, dtype), "b": jnp.ones((), dtype)}
    (_, state), losses = jax.lax.scan(body, (params, tx.init(params)), length=steps)
    return losses, state


def adam_tower():
    return jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 1e-3})


AFTER = {
    "clip": optax.clip_by_global_norm(0.01),
    "ema": optax.ema(0.9),
    "trace": optax.trace(0.9),
    "scale by 0.1": optax.scale(0.1),
    "scale by 0": optax.scale(0.0),
    "decay": optax.add_decayed_weights(1e-2),
}


def tower_state(state):
    return next(s for s in jax.tree.leaves(state, is_leaf=is_tower_state) if is_tower_state(s))


def is_tower_state(node):
    return isinstance(node, jd.HypergradientState)


@pytest.mark.parametrize("after", AFTER)
def test_no_transformation_after_a_tower_makes_the_rate_run_away(after):
    losses, state = jax.jit(lambda: train(optax.chain(adam_tower(), AFTER[after])))()
    assert tower_state(state).altered > 200
    assert jd.get_hyperparams(state)[0]["learning_rate"] < 30
    # 1e15 and more without the detection. Momentum after a tower still overshoots.
    assert losses[-1] < (1e4 if after == "trace" else 1e3) * losses[0]


def test_a_restart_recovers_although_its_updates_are_halved():
    tower = jd.hypergradient(optax.sgd, optax.adam(0.02), tune={"learning_rate": 100.0})
    restarted = optax.chain(jd.restart_on_divergence(tower), optax.scale(0.5))
    losses, state = jax.jit(lambda: train(restarted, 100))()
    assert state[0].restarts > 0
    assert losses[-1] < 0.1 * losses[0]


def test_a_projection_in_the_training_loop_is_detected():
    losses, state = jax.jit(lambda: train(adam_tower(), project=lambda x: jnp.clip(x, 2.0, 4.0)))()
    assert state.altered > 0
    assert jd.get_hyperparams(state)[0]["learning_rate"] < 30
    assert losses[-1] <= losses[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.MultiSteps(tx, 2),
        lambda tx: optax.masked(tx, {"w": True, "b": True}),
        lambda tx: optax.chain(optax.clip_by_global_norm(0.1), tx),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_wrappers_that_apply_updates_as_returned_are_no_false_alarm(wrap, dtype):
    _, state = jax.jit(lambda: train(wrap(adam_tower()), 20, dtype=dtype))()
    assert tower_state(state).altered == 0


@pytest.mark.parametrize("method", ["fused", "general"])
def test_integers_among_the_parameters_are_left_out(method):
    tower = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.1}, method=method)
    params = {"x": jnp.ones(3), "n": jnp.arange(4)}
    state = tower.init(params)
    for _ in range(3):
        grads = {"x": params["x"], "n": jnp.zeros(4, int)}
        updates, state = tower.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert state.altered == 0
    assert jd.get_hyperparams(state)[0]["learning_rate"] > 0.1


def test_a_copy_of_a_tower_with_another_update_keeps_its_parts():
    tower = adam_tower()
    copy = tower._replace(update=tower.update)
    assert (copy.spec, copy.hyper_optimizer) == (tower.spec, tower.hyper_optimizer)


def test_a_tower_remembers_a_bounded_number_of_shapes(monkeypatch):
    monkeypatch.setattr("jaxdescent.towers.spec._MAX_ANALYSES", 2)
    tower = adam_tower()
    for size in (1, 2, 3, 4):
        tower.spec.analyze(jnp.ones(size))
    assert len(tower.spec._analyses) == 2
