"""Guarded silver steps: the steps taken, and the estimates refuted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from tests.stability.step_sizes.test_silver_schedules import steps_of


def guarded(smoothness):
    return jd.step_sizes.guarded(jd.step_sizes.silver(1.0), smoothness)


CURVATURES = np.array([100.0, 10.0, 1.0])


def quadratic(x):
    return jnp.sum(jnp.asarray(CURVATURES, x.dtype) * x**2) / 2


def log_cosh(x):
    """A function with curvature 1 at 0, decreasing away from 0."""
    return jnp.sum(jnp.logaddexp(x, -x))


LOSSES = (quadratic, log_cosh)


@pytest.fixture(scope="module")
def run():
    """Returns a function that runs steps on one of `LOSSES`, with one program for all."""

    @jax.jit
    def steps(which, x, state, n):
        tx = guarded(1.0)

        def step(_, carry):
            x, state = carry
            grads = jax.lax.switch(which, [jax.grad(loss) for loss in LOSSES], x)
            updates, state = tx.update(grads, state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, n, step, (x, state))

    def run(loss, smoothness, x, n):
        with jax.enable_x64(True):
            x = jnp.asarray(x, float)
            state = guarded(smoothness).init(x)
            x, state = steps(LOSSES.index(loss), x, state, n)
            return (
                float(loss(x) - loss(jnp.zeros(3))),
                np.asarray(x),
                jax.tree.map(float, state[:3]),
            )

    return run


@pytest.mark.parametrize("n", [1, 2, 63, 100])
def test_steps_with_the_right_smoothness_are_silver(run, n):
    _, x, (_, count, refuted) = run(quadratic, 100.0, np.ones(3), n)
    with jax.enable_x64(True):
        steps = steps_of(jd.step_sizes.silver(100.0), n)
    expected = np.prod(1 - steps[:, None] * CURVATURES, axis=0)
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-15)
    assert (count, refuted) == (n, 0)


def test_a_measurement_is_due_after_every_long_block():
    state = guarded(1.0).init(jnp.zeros(1))
    due = [n for n in range(300) if state._replace(count=np.int32(n)).due]
    assert due == [63, 127, 255]


@settings(max_examples=25, deadline=None)
@given(start=st.floats(-6, 0.5), which=st.sampled_from(LOSSES))
def test_any_first_estimate_converges(run, start, which):
    true_smoothness = 100.0 if which is quadratic else 1.0
    smoothness = true_smoothness * 10**start
    gap, _, (estimate, _, refuted) = run(which, smoothness, [3.0, -2.0, 1.0], 4095)
    assert gap < 1e-5
    assert refuted <= max(0, np.ceil(-start / np.log10(2)))
    assert estimate <= max(smoothness, 2 * true_smoothness)


def test_a_correct_estimate_is_never_refuted(run):
    for loss, smoothness in ((quadratic, 100.0), (log_cosh, 1.0)):
        _, _, (estimate, _, refuted) = run(loss, smoothness, [3.0, -2.0, 1.0], 4095)
        assert (estimate, refuted) == (smoothness, 0)


def test_a_refuted_estimate_returns_to_the_smallest_gradient():
    with jax.enable_x64(True):
        tx = guarded(1.0)
        update = jax.jit(tx.update)
        grad = jax.grad(lambda x: 5 * x**2)  # curvature 10
        x = jnp.array(1.0)
        updates, state = update(grad(x), tx.init(x), x)
        second = optax.apply_updates(x, updates)
        assert second == pytest.approx(1 - np.sqrt(2) * 10)
        assert state.refuted == 0
        updates, state = update(grad(second), state, second)
        assert state.refuted == 1
        # 1.1 times the curvature of the pair.
        assert state.smoothness == pytest.approx(11.0, rel=1e-6)
        third = optax.apply_updates(second, updates)
        assert third == pytest.approx(1 - np.sqrt(2) * 10 / state.smoothness)
        assert state.count == 1
        _, state = update(grad(third), state, third)
        assert (state.refuted, state.count) == (1, 2)


def test_a_non_finite_gradient_refutes_the_estimate():
    tx = guarded(4.0)
    update = jax.jit(tx.update)
    x = jnp.array([1.0, 2.0])
    bad = jnp.array([jnp.nan, 1.0])
    updates, state = update(bad, tx.init(x), x)
    assert np.all(updates == 0)  # no finite gradient yet
    assert (state.refuted, state.count, state.smoothness) == (0, 0, 4.0)
    updates, state = update(jnp.ones(2), state, x)
    x_next = x + updates
    np.testing.assert_allclose(updates, -np.sqrt(2) / 4, rtol=1e-6)
    updates, state = update(bad, state, x_next)
    np.testing.assert_allclose(x_next + updates, x - np.sqrt(2) / 8, rtol=1e-6)
    assert np.all(np.isfinite(jax.tree.leaves(state)[3]))
    assert (state.refuted, state.count, state.smoothness) == (1, 1, 8.0)


def test_the_best_point_can_be_older_than_the_last_point():
    tx = guarded(1.0)
    update = jax.jit(tx.update)
    first = jnp.zeros(1)
    updates, state = update(jnp.array([1.0]), tx.init(first), first)
    second = first + updates
    updates, state = update(jnp.array([1.5]), state, second)  # not refuted: 0.5 < 1.0 sqrt(2)
    assert state.refuted == 0
    third = second + updates
    updates, state = update(jnp.array([jnp.nan]), state, third)
    np.testing.assert_allclose(third + updates, -np.sqrt(2) / 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rounding_at_the_minimum_does_not_refute(dtype):
    tx = guarded(110.0)
    target = jnp.array([0.3, 0.7, 0.9], dtype)

    def step(carry, _):
        x, state = carry
        grads = jax.grad(lambda x: quadratic(x - target) + 3 * jnp.sum(x))(x)
        updates, state = tx.update(grads, state, x)
        return (optax.apply_updates(x, updates), state), None

    with jax.numpy_dtype_promotion("strict"):
        x = jnp.zeros(3, dtype)
        (x, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=1023))((x, tx.init(x)))
    assert x.dtype == dtype
    assert state.smoothness == 110
    minimum = np.array([0.3, 0.7, 0.9]) - 3 / CURVATURES
    np.testing.assert_allclose(
        x.astype(float), minimum, atol=0.1 if dtype == jnp.bfloat16 else 1e-3
    )


def test_trees_work_under_vmap_and_jit():
    tx = guarded(10.0)

    def loss(p, scale):
        return scale * (jnp.sum(p["w"] ** 2) + p["b"] ** 2)

    @jax.jit
    @jax.vmap
    def run(scale, b):
        params = {"w": jnp.ones(2), "b": b}

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, scale), state, params, value=0.0)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=63)[0]

    params, state = run(jnp.array([1.0, 40.0]), jnp.array([1.0, -1.0]))
    assert np.all(np.abs(params["w"]) < 0.05)
    np.testing.assert_array_equal(state.refuted, [0, 1])


def test_missing_parameters_raise():
    tx = guarded(1.0)
    with pytest.raises(ValueError, match="params must be given"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)))


def test_integer_parameters_raise():
    with pytest.raises(ValueError, match="params must have real floating-point leaves, got int32"):
        guarded(1.0).init({"w": jnp.ones(1), "n": jnp.arange(3)})


@pytest.mark.parametrize("measured", [0.0, -1.0, np.nan])
def test_a_measured_smoothness_that_is_not_positive_gives_zero_updates(measured):
    tx = guarded(1.0)
    x = jnp.ones(2)
    state = tx.init(x)._replace(smoothness=jnp.array(measured))
    updates, _ = jax.jit(tx.update)(x, state, x)
    assert np.all(updates == 0)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_rounding_far_from_zero_does_not_refute(offset):
    """Parameters of 1e5 are rounded to 1/128, which moves the points."""
    tx = guarded(100.0)
    target = jnp.float32(offset) * jnp.array([1.0, 1.1, 1.2])

    def step(carry, _):
        x, state = carry
        updates, state = tx.update(jax.grad(lambda x: quadratic(x - target))(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    x = target + jnp.array([3.0, -2.0, 1.0])
    (_, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=1023))((x, tx.init(x)))
    assert (float(state.smoothness), int(state.refuted)) == (100.0, 0)


def test_gradients_whose_squares_overflow_are_used():
    tx = guarded(4.0)
    update = jax.jit(tx.update)
    x = jnp.array([1e25, -2e25])
    updates, state = update(x, tx.init(x), x)
    np.testing.assert_allclose(updates, -np.sqrt(2) / 4 * x, rtol=1e-6)
    assert float(state.best_norm) == pytest.approx(np.sqrt(5) * 1e25, rel=1e-6)
    _, state = update(9 * x, state, x + updates)  # |g' - g| is 8 |x|, |x' - x| .35 |x|
    assert int(state.refuted) == 1
    assert float(state.smoothness) == pytest.approx(1.1 * 32 / np.sqrt(2), rel=1e-2)
