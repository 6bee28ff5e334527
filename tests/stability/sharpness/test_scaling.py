"""Learning rates scaled by sharpness against the largest stable learning rate."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

EVERY, STEPS = 3, 24


def bowl(x, scales):
    return 0.5 * jnp.sum(scales * x**2)


@functools.cache
def program(max_increase=2.0):
    """Returns a program of 24 steps over given scales, with the fraction as an argument."""

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(fraction, scales):
        tx = jd.scale_by_sharpness(
            optax.sgd,
            bowl,
            jd.thresholds.sgd(),
            fraction=fraction,
            every=EVERY,
            max_increase=max_increase,
            learning_rate=0.25,
            num_steps=4,
        )
        x = jnp.ones(4)

        def step(carry, scales):
            x, state = carry
            grads = jax.grad(bowl)(x, scales)
            updates, state = tx.update(grads, state, x, batch=scales)
            return (optax.apply_updates(x, updates), state), (x, state.learning_rate)

        (_, state), (path, rates) = jax.lax.scan(step, (x, tx.init(x)), scales)
        return state, path, rates

    return run


def constant(*scales):
    return jnp.broadcast_to(jnp.float32(scales), (STEPS, len(scales)))


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_a_quadratic_gets_the_textbook_learning_rate(fraction):
    scales = np.array([0.1, 0.5, 1.0, 5.0])
    state, path, rates = program()(fraction, constant(*scales))
    rate = fraction * 2 / 5
    np.testing.assert_allclose(rates, [rate] * STEPS, rtol=1e-5)
    expected = (1 - rate * scales) ** np.arange(STEPS)[:, None]
    np.testing.assert_allclose(path, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jd.stability_log(state).ratio[1:], [fraction] * 7, rtol=1e-4)
    assert int(state.stability.outcome) == jd.StabilityOutcome.BELOW


def test_a_fraction_above_1_diverges():
    state, path, _ = program()(1.3, constant(0.1, 0.5, 1.0, 5.0))
    assert float(path[-1, 3]) ** 2 > 100
    assert int(state.stability.outcome) == jd.StabilityOutcome.DIVERGING


def test_learning_rate_falls_at_once_and_rises_by_at_most_the_factor():
    top = np.repeat([4.0, 40.0, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], EVERY)
    scales = jnp.float32(top[:, None] * np.array([0.1, 0.2, 0.5, 1.0]))
    rates = program()(1.0, scales)[2][::EVERY]
    np.testing.assert_allclose(rates, [0.5, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2], rtol=1e-4)
    rates = program(np.inf)(1.0, scales)[2][::EVERY]
    np.testing.assert_allclose(rates, [0.5, 0.05, 5, 5, 5, 5, 5, 5], rtol=1e-4)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
def test_an_unusable_sharpness_leaves_the_learning_rate_unchanged(bad):
    """The first usable probe replaces the initial learning rate without a limit."""
    top = np.repeat([bad, bad, 0.1, bad, 0.1, 0.1, 0.1, 0.1], EVERY)
    scales = jnp.float32(top[:, None] * np.ones(4))
    _, _, rates = program()(0.5, scales)
    expected = [0.25, 0.25, 10, 10, 10, 10, 10, 10]
    np.testing.assert_allclose(rates[::EVERY], expected, rtol=1e-4)


def test_adam_uses_the_preconditioner_of_the_next_step():
    scales = jnp.float32([1.0, 2.0, 30.0])
    tx = jd.scale_by_sharpness(
        optax.adam, bowl, jd.thresholds.adam(), fraction=0.5, every=2, max_increase=1e9, num_steps=3
    )
    x = jnp.float32([1.0, -2.0, 0.1])
    state, update = tx.init(x), jax.jit(tx.update)
    for step in range(5):
        _, state = update(scales * x, state, x, batch=scales)
        if step % 2 == 0:
            p = jd.thresholds.adam().preconditioner(state)
            rate = 0.5 * 38 / np.max(scales / p)
        np.testing.assert_allclose(state.learning_rate, rate, rtol=1e-3)
        x = x * 0.9


def test_bfloat16_parameters_keep_their_dtype_and_the_learning_rate_is_float32():
    tx = jd.scale_by_sharpness(
        functools.partial(optax.rmsprop, momentum=0.9),
        lambda x, _: jnp.sum(x**2),
        jd.thresholds.rmsprop(momentum=0.9),
    )
    x = jnp.ones(3, jnp.bfloat16)
    state = tx.init(x)
    updates, after = jax.eval_shape(lambda s: tx.update(x, s, x), state)
    assert updates.dtype == jnp.bfloat16
    assert after.learning_rate.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def network_loss(params, batch):
    x, targets = batch
    return 0.5 * jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - targets) ** 2)


def test_a_network_stays_at_the_fraction_while_its_sharpness_changes():
    random = np.random.default_rng(0)
    x = jnp.float32(random.normal(size=(40, 5)))
    batch = x, jnp.sin(3 * x[:, :1]) * x[:, 1:2]
    params = {
        "in": jnp.float32(random.normal(size=(5, 10))),
        "out": jnp.float32(random.normal(size=(10, 1)) / 3),
    }
    tx = jd.scale_by_sharpness(
        optax.sgd, network_loss, jd.thresholds.sgd(), fraction=0.9, every=10, tolerance=1e-3
    )

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(network_loss)(params, batch)
        updates, state = tx.update(grads, state, params, batch=batch)
        return (optax.apply_updates(params, updates), state), value

    run = jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), length=1000))
    (_, state), losses = run(params)
    found = jd.stability_log(state)
    assert found.sharpness.max() > 1.5 * found.sharpness.min()
    assert float(np.median(found.ratio[1:])) == pytest.approx(0.9, abs=0.02)
    assert float(losses[-1]) < 0.5 * float(losses[0])
    assert int(state.stability.outcome) < jd.StabilityOutcome.DIVERGING


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": 0.0}, "fraction must be in (0, inf), got 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be in (0, inf), got -1.0"),
        ({"max_increase": 1.0}, "max_increase must be in (1, inf], got 1.0"),
        ({"every": 0}, "every must be an integer at least 1, got 0"),
    ],
)
def test_bad_arguments_raise(options, words):
    with pytest.raises(ValueError, match=r".*") as error:
        jd.scale_by_sharpness(optax.sgd, bowl, jd.thresholds.sgd(), **options)
    assert words in str(error.value)


def test_arguments_of_the_wrong_type_raise():
    with pytest.raises(TypeError, match=r"pass optax.adam rather than optax.adam\(1e-3\)"):
        jd.scale_by_sharpness(optax.sgd(0.1), bowl, jd.thresholds.sgd())
    with pytest.raises(TypeError, match=r"threshold must be one of jd.thresholds"):
        jd.scale_by_sharpness(optax.sgd, bowl, jd.thresholds.sgd)
    tx = jd.scale_by_sharpness(optax.sgd, bowl, jd.thresholds.sgd())
    with pytest.raises(ValueError, match=r"update\(.*\) needs params"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


@pytest.mark.parametrize(
    "factory",
    [
        optax.inject_hyperparams(optax.sgd),
        lambda learning_rate: jd.hypergradient(
            optax.sgd, optax.sgd(0.1), tune={"learning_rate": jd.unconstrained(learning_rate)}
        ),
    ],
)
def test_a_factory_that_stores_the_learning_rate_in_its_state_raises(factory):
    with pytest.raises(ValueError, match=r"factory must return transformations that use the learn"):
        jd.scale_by_sharpness(factory, bowl, jd.thresholds.sgd())


def test_the_given_learning_rate_is_copied_before_donation():
    rate = jnp.float32(0.25)
    state = jd.scale_by_sharpness(optax.sgd, bowl, jd.thresholds.sgd(), learning_rate=rate).init(
        jnp.ones(3)
    )
    jax.jit(lambda x: x + 1, donate_argnums=0)(state.learning_rate)
    assert float(rate) == 0.25


def test_an_unconverged_sharpness_lowers_the_learning_rate_but_never_raises_it():
    def rates(scale):
        tx = jd.scale_by_sharpness(
            optax.sgd,
            bowl,
            jd.thresholds.sgd(),
            fraction=1.0,
            learning_rate=0.25,
            num_steps=2,
            max_restarts=0,
            tolerance=1e-6,
        )
        x, scales = jnp.ones(40), scale * jnp.linspace(0.5, 1.0, 40)
        _, state = jax.jit(tx.update)(x, tx.init(x), x, batch=scales)
        assert int(state.stability.unconverged) == 1
        assert not bool(state.found)
        return float(state.learning_rate)

    assert rates(0.1) == 0.25
    assert rates(100.0) < 2 / 50  # an unconverged sharpness is at most 100, the largest eigenvalue


def test_an_optimizer_with_random_keys_in_its_state_is_accepted():
    def noisy(learning_rate):
        return optax.chain(
            optax.add_noise(0.1, 0.5, key=jax.random.key(3)), optax.sgd(learning_rate)
        )

    tx = jd.scale_by_sharpness(noisy, bowl, jd.thresholds.sgd(), num_steps=2)
    x = jnp.ones(4)
    state = tx.init(x)
    updates, after = jax.jit(tx.update)(x, state, x, batch=jnp.ones(4))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    expected, inner = noisy(after.learning_rate).update(x, state.optimizer, x)
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
    first, second = (jax.random.key_data(s[0].rng_key) for s in (inner, after.optimizer))
    np.testing.assert_array_equal(first, second)
