"""Catapult warmup: the search for the largest step size that does not raise the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd


def quadratic(x, sharpness):
    return 0.5 * sharpness * jnp.sum(x**2)


@functools.partial(jax.jit, static_argnames=("steps", "halvings", "loss"))
def train(x, scale, rate, start, *, steps, halvings=3, loss=quadratic):
    """Returns the last state, and parameters, `found` and loss before each step."""
    tx = jd.step_sizes.catapult_warmup(
        optax.sgd(1.0), rate, steps=10, start=start, halvings=halvings
    )

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x, scale)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), (x, state.found, value)

    (_, state), history = jax.lax.scan(step, (x, tx.init(x)), length=steps)
    return state, history


@pytest.mark.parametrize("sharpness", [0.5, 10.0, 3e3])
@pytest.mark.parametrize("start", [1e-7, 1e-3])
@pytest.mark.parametrize("halvings", [0, 4])
def test_the_search_finds_2_over_the_sharpness_of_a_quadratic(sharpness, start, halvings):
    x = jnp.array([1.0, -2.0])
    state, _ = train(x, sharpness, 1e3, start, steps=60, halvings=halvings)
    assert bool(state.found)
    within = 2 ** (1 / 2**halvings) * (1 + 1e-5)
    assert 2 / sharpness / within <= float(state.low) <= 2 / sharpness * (1 + 1e-5)
    assert float(state.high) / float(state.low) == pytest.approx(2 ** (1 / 2**halvings), rel=1e-4)


def test_trials_become_smaller_if_the_first_raises_the_loss():
    state, _ = train(jnp.ones(2), 1.0, 1e4, 1e3, steps=40)
    assert float(state.low) == pytest.approx(2.0, rel=0.1)


def test_trials_are_points_on_a_line_and_training_continues_from_the_best():
    x0 = jnp.array([1.0, -2.0])
    state, (x, found, _) = train(x0, 1.0, 100.0, 0.25, steps=30, halvings=1)
    # 0.25, .5, 1 and 2 do not raise the loss (2 keeps it), 4 does, and sqrt(8) does.
    trials = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8**0.5, 2.0]
    for point, trial in zip(x, trials, strict=False):
        np.testing.assert_allclose(point, (1 - trial) * x0, rtol=1e-5)
    np.testing.assert_array_equal(found[:8], [False] * 6 + [True] * 2)
    assert float(state.low) == 2.0


def test_the_warmup_is_linear_up_to_the_target_learning_rate():
    def loss(x, scale):
        return scale * jnp.sum(jnp.abs(x))  # of slope 1 everywhere

    state, (x, found, _) = train(jnp.array([1.0]), 1.0, 4.0, 1.5, steps=20, halvings=0, loss=loss)
    assert float(state.low) == 1.5
    began = int(np.argmax(found)) + 1
    rates = np.abs(np.diff(x[began:, 0]))
    expected = np.minimum(4.0, 1.5 + 4.0 * np.arange(1, len(rates) + 1) / 10)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_there_is_no_warmup_if_the_target_does_not_raise_the_loss():
    state, (x, *_) = train(jnp.array([1.0]), 1.0, 0.1, 1e-3, steps=30)
    assert float(state.low) == pytest.approx(0.1)
    assert float(state.high) == np.inf
    rates = 1 - x[12:, 0] / x[11:-1, 0]
    np.testing.assert_allclose(rates, 0.1, rtol=1e-4)


def test_the_optimizer_takes_one_step_for_the_whole_search():
    tx = jd.step_sizes.catapult_warmup(optax.adam(1.0), 10.0, steps=5, start=0.01)
    x = jnp.array([1.0])
    state = tx.init(x)
    while not state.found:
        value, grads = jax.value_and_grad(quadratic)(x, 1.0)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
        assert int(state.inner[0].count) == 1
    # Adam's first step is the gradient's sign: 1 - r, whose loss at r = 2 is that at r = 0.
    assert float(state.low) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(x, 1 - state.low, rtol=1e-4)
    updates, state = tx.update(x, state, x, value=0.5)
    assert int(state.inner[0].count) == 2


def test_a_non_finite_loss_counts_as_raised():
    def loss(x, scale):
        return jnp.where(x[0] > 3, jnp.nan, -scale * x[0])

    state, _ = train(jnp.array([0.0]), 1.0, 100.0, 0.5, steps=30, halvings=6, loss=loss)
    assert float(state.low) == pytest.approx(3.0, rel=0.02)
    assert np.isfinite(state.anchor).all()


def test_a_trial_that_overflows_the_dtype_counts_as_raised_and_is_not_visited():
    x0 = jnp.ones(3, jnp.float16)

    def loss(x, scale):
        return quadratic(x.astype(jnp.float32), scale)

    state, (x, found, _) = train(x0, 100.0, 1e6, 1e3, steps=30, loss=loss)
    began = int(np.argmax(found)) + 1
    # The points of 1000 and 500 exceed 65,504, or half of it.
    assert np.all(np.isfinite(x[: began + 1]))
    np.testing.assert_array_equal(x[:4, 0], jnp.array([1, 1, 1, -24_992], jnp.float16))
    assert float(state.low) == pytest.approx(0.02, rel=0.1)
    np.testing.assert_allclose(x[began], 1 - 100 * state.low, rtol=1e-2)


@pytest.mark.parametrize("start", [1e30, 1e37])
def test_a_search_without_a_result_returns_exactly_to_its_start(start):
    x0 = jnp.array([1.0, -2.0])

    def loss(x, scale):
        return quadratic(
            x - 0.6 * x0, scale
        )  # larger at 0, where a single long move would end by rounding

    state, (x, found, _) = train(x0, 100.0, 1e38, start, steps=70, loss=loss)
    began = int(np.argmax(found)) + 1
    assert bool(found[-1])
    assert np.all(np.isfinite(x[: began + 1]))
    np.testing.assert_array_equal(x[began], x0)
    assert float(state.low) == 0.0
    assert 0 < float(state.high) < np.inf


def test_the_search_waits_for_a_finite_loss_and_gradient():
    tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), 1.0, steps=5)
    x = jnp.ones(2)
    state = tx.init(x)
    for value, gradient in ((np.nan, 1.0), (1.0, np.inf)):
        updates, state = tx.update(jnp.full(2, gradient), state, x, value=value)
        np.testing.assert_array_equal(updates, 0)
        assert int(state.trials) == 0
    updates, state = tx.update(x, state, x, value=1.0)
    np.testing.assert_allclose(updates, -1 / 1024, rtol=1e-6)
    assert int(state.trials) == 1


def test_a_search_at_a_minimum_ends():
    """At a minimum steps of any size raise the loss."""

    def loss(x, scale):
        return scale * jnp.sum(jnp.abs(x)) + 0.1 * jnp.sum(x)

    state, (x, *_) = train(jnp.zeros(2), 1.0, 1.0, 0.5, steps=70, loss=loss)
    assert bool(state.found)
    assert float(state.low) == 0.0
    assert np.all(np.isfinite(x))


def test_vmapped_agents_search_independently():
    sharpness = jnp.array([0.5, 4.0, 100.0])
    one = functools.partial(train, steps=40)
    found = jax.vmap(one, (None, 0, None, None))(jnp.ones(2), sharpness, 100.0, 1e-3)[0].low
    np.testing.assert_allclose(found, 2 / sharpness, rtol=0.1)


def test_strict_promotion_raises_no_error():
    with jax.numpy_dtype_promotion("strict"):
        tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), np.float64(0.1), steps=5)
        x = jnp.ones(2, jnp.bfloat16)
        state = tx.init(x)
        for _ in range(2):
            updates, state = tx.update(x, state, x, value=jnp.bfloat16(1.0))
        assert updates.dtype == jnp.bfloat16


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
def test_strict_promotion_accepts_traced_numbers_of_any_dtype(dtype, wide):
    x = jnp.ones(2, jnp.float32)

    def states(number, rate):
        for keywords in ({"steps": number}, {"steps": 5, "start": number}):
            for learning_rate in (rate, number, 0.1):
                tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), learning_rate, **keywords)
                state = tx.init(x)
                yield state, tx.update(x, state, x, value=1.0)[1]

    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(wide):
        kinds = [jax.ShapeDtypeStruct((), kind) for kind in (dtype, jnp.float32)]
        for before, after in jax.eval_shape(lambda *args: list(states(*args)), *kinds):
            assert before == after


def test_the_state_is_sharded_as_the_parameters_are():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    x = jax.device_put(jnp.ones(4), sharding)
    state = jd.step_sizes.catapult_warmup(optax.sgd(1.0), 1.0, steps=5).init(x)
    assert state.anchor.sharding == state.direction.sharding == sharding


def test_parameters_can_be_a_python_number():
    tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), 1.0, steps=5, start=0.5)
    updates, state = tx.update(2.0, tx.init(1.0), 1.0, value=1.0)
    assert float(updates) == -1.0
    assert float(state.anchor) == 1.0


def test_arguments_can_be_injected():
    tx = optax.inject_hyperparams(jd.step_sizes.catapult_warmup)(optax.sgd(1.0), 1.0, steps=5)
    x = jnp.ones(2)
    updates, _ = jax.jit(lambda state: tx.update(x, state, x, value=1.0))(tx.init(x))
    np.testing.assert_allclose(updates, -1 / 1024, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("learning_rate", {"learning_rate": 0}),
        ("learning_rate", {"learning_rate": [1.0, 2.0]}),
        ("steps", {"steps": 0}),
        ("start", {"start": -1.0}),
        ("halvings", {"halvings": -1}),
        ("halvings", {"halvings": 2.7}),
    ],
)
def test_bad_numbers_are_named(name, keywords):
    with pytest.raises(ValueError, match=f"{name} must be"):
        jd.step_sizes.catapult_warmup(
            optax.sgd(1.0), **{"learning_rate": 1.0, "steps": 5, **keywords}
        )


def test_bad_inputs_are_named():
    with pytest.raises(TypeError, match="optimizer must be an optax gradient transformation"):
        jd.step_sizes.catapult_warmup(optax.sgd, 1.0, steps=5)
    tx, x = jd.step_sizes.catapult_warmup(optax.sgd(1.0), 1.0, steps=5), jnp.ones(2)
    with pytest.raises(ValueError, match="needs value="):
        tx.update(x, tx.init(x), x)
