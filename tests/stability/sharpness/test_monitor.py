"""Monitored optimizers: unchanged updates, scheduled probes, the outcome of a run."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

SCALES = np.array([0.1, 0.5, 1.0, 2.0], np.float32)
EVERY = 4


def bowl(x, scales):
    return 0.5 * jnp.sum(scales * x**2)


@functools.cache
def descent():
    """Returns a program of 24 monitored steps, with the learning rate as an argument."""
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    monitored = jd.monitor_stability(
        tx, bowl, jd.thresholds.sgd(), every=EVERY, log_size=8, num_steps=4
    )

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(rate, scales):
        x = jnp.ones(4)
        state = monitored.init(x)
        state.optimizer.hyperparams["learning_rate"] = rate

        def step(carry, _):
            x, state = carry
            grads = jax.grad(bowl)(x, scales)
            updates, state = monitored.update(grads, state, x, batch=scales)
            return (optax.apply_updates(x, updates), state), x

        (_, state), path = jax.lax.scan(step, (x, state), length=24)
        return state, path

    return run


@pytest.mark.parametrize(
    ("rate", "outcome"),
    [(0.02, "BELOW"), (0.99, "BELOW"), (1.01, "EDGE"), (1.2, "DIVERGING"), (1e9, "NOT_FINITE")],
)
def test_gradient_descent_on_a_quadratic_has_the_expected_outcome(rate, outcome):
    """Training diverges above 2 / 2; at 1.01 the loss does not yet grow within these steps."""
    state, path = descent()(jnp.float32(rate), SCALES)
    found = jd.stability_log(state)
    np.testing.assert_array_equal(found.step, np.arange(0, 24, EVERY))
    np.testing.assert_allclose(found.ratio[:3], [rate] * 3, rtol=1e-5)
    np.testing.assert_allclose(found.learning_rate, [rate] * 6, rtol=1e-6)
    with np.errstate(over="ignore"):
        losses = 0.5 * np.sum(SCALES * np.square(path[: EVERY + 1 : EVERY]), axis=1)
    np.testing.assert_allclose(found.loss[:2], losses, rtol=1e-5)
    assert jd.StabilityOutcome(int(state.stability.outcome)).name == outcome
    assert int(state.count) == 24
    assert int(state.stability.probes) == 6


def test_updates_and_optimizer_state_are_bitwise_unchanged():
    tx = optax.adamw(0.1)
    monitored = jd.monitor_stability(tx, bowl, jd.thresholds.adam(0.1), every=2)
    params = jnp.asarray(np.linspace(-1, 1, 4), jnp.bfloat16)
    state, plain = monitored.init(params), tx.init(params)
    monitored_update, plain_update = jax.jit(monitored.update), jax.jit(tx.update)
    for step in range(5):
        grads = jnp.sin(params * (step + 1.3))
        updates, state = monitored_update(
            grads, state, params, batch=jnp.asarray(SCALES, jnp.bfloat16)
        )
        expected, plain = plain_update(grads, plain, params)
        chex.assert_trees_all_equal((updates, state.optimizer), (expected, plain))
        params = optax.apply_updates(params, updates)
    assert state.stability.last.sharpness.dtype == jnp.float32
    assert int(state.stability.probes) == 3


def test_the_optimizer_receives_extra_arguments_and_the_probe_the_batch():
    seen = []

    def update(updates, state, params=None, **extra):
        seen.append(sorted(extra))
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    tx = jd.monitor_stability(inner, bowl, jd.thresholds.sgd(0.1))
    x = jnp.ones(4)
    updates = jax.eval_shape(
        lambda x: tx.update(x, tx.init(x), x, batch=SCALES, value=1.0, grad_fn=jnp.sin)[0], x
    )
    assert updates.shape == x.shape
    assert seen == [["grad_fn", "value"]]


def half_square(params, _):
    return sum(0.5 * jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))


def test_state_maps_like_the_parameters_and_needs_only_shapes():
    monitored = jd.monitor_stability(optax.adam(0.1), half_square, jd.thresholds.adam(0.1))
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    state = monitored.init(params)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(monitored.init(shapes), state)
    marked = optax.tree.map_params(monitored, lambda x: x + 7, state)
    chex.assert_trees_all_close(marked.stability.vector, jax.tree.map(lambda x: 7 * x, params))
    assert int(marked.stability.probes) == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_a_step_keeps_every_shape_and_dtype(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        params = {"w": jnp.ones((2, 3), dtype), "b": jnp.ones(3, dtype)}
        monitored = jd.monitor_stability(optax.adam(0.1), half_square, jd.thresholds.adam(0.1))
        for wrapped in (
            monitored,
            optax.chain(optax.clip(1.0), monitored),
            optax.masked(monitored, {"w": True, "b": True}),
            optax.apply_if_finite(monitored, 3),
        ):
            state = wrapped.init(params)
            made = jax.eval_shape(wrapped.update, params, state, params)
            chex.assert_trees_all_equal_shapes_and_dtypes(made, (params, state))
        wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
        assert monitored.init(params).stability.last.sharpness.dtype == wide


def test_adam_is_probed_with_its_new_preconditioner_and_batch_is_optional():
    def square(x, _):
        return jnp.sum(x**2)

    tx = jd.monitor_stability(optax.adam(0.1), square, jd.thresholds.adam(0.1), num_steps=3)
    x = jnp.array([1.0, -3.0, 0.5])
    _, state = tx.update(2 * x, tx.init(x), x)
    # P = (1 - b1) |g|, whose minimum is 0.1.
    assert float(state.stability.last.sharpness) == pytest.approx(2 / 0.1, rel=1e-4)
    assert float(state.stability.last.ratio) == pytest.approx(20 / 380, rel=1e-4)


def test_bad_arguments_raise():
    threshold, x = jd.thresholds.sgd(0.1), jnp.ones(4)
    with pytest.raises(ValueError, match=r"every must be an integer at least 1, got 0"):
        jd.monitor_stability(optax.sgd(0.1), bowl, threshold, every=0)
    with pytest.raises(TypeError, match=r"optimizer must be an optax gradient transformation"):
        jd.monitor_stability(optax.sgd, bowl, threshold)
    with pytest.raises(ValueError, match=r"patience must be an integer at least 1, got 0"):
        jd.monitor_stability(optax.sgd(0.1), bowl, threshold, patience=0)
    tx = jd.monitor_stability(optax.sgd(0.1), bowl, threshold)
    with pytest.raises(ValueError, match=r"update\(.*\) needs params"):
        tx.update(x, tx.init(x))
    with pytest.raises(ValueError, match=r"loss_fn must return a real scalar"):
        jd.monitor_stability(optax.sgd(0.1), lambda x, _: x, threshold).update(x, tx.init(x), x)
    with pytest.raises(ValueError, match=r"real floating-point leaves, got int32"):
        tx.init(jnp.ones(4, jnp.int32))
