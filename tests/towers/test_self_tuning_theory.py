"""The numbered statements of `jaxdescent/towers/tuning/THEORY.md`, checked in float64.

Numbers in brackets refer to the page.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

STEPS = 300


def logistic(x, batch):
    """A convex loss of 6 parameters on a batch of 4 examples."""
    inputs, signs = batch
    return jnp.mean(jax.nn.softplus(-signs * (inputs @ x))) + 0.01 * x @ x


def batches(steps):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(steps, 4, 6))
    signs = np.sign(inputs @ np.linspace(-1, 1, 6) + 0.5 * random.normal(size=(steps, 4)))
    return jnp.asarray(inputs), jnp.asarray(signs)


def path(factory):
    """Returns parameters, averages, gradients and learning rates before each step."""

    def step(carry, batch):
        x, state = carry
        value, grads = jax.value_and_grad(logistic)(x, batch)
        updates, after = tx.update(grads, state, x, value=value)
        seen = x, state.average, grads, state
        return (optax.apply_updates(x, updates), after), seen

    tx = jd.self_tuning(factory)
    x = jnp.zeros(6)
    state = jd.set_hyperparams(tx.init(x), {"learning_rate": 0.03})  # no range test
    return jax.jit(lambda: jax.lax.scan(step, (x, state), batches(STEPS))[1])()


@pytest.fixture(params=[optax.sgd, optax.adam], ids=["sgd", "adam"])
def training(request):
    with jax.enable_x64(True):
        seen = jax.tree.map(np.array, path(request.param))
        states = seen[3]
        exchanged = states.probe.at_average
        # Without the two batches of each probe.
        steps = np.flatnonzero(~(exchanged | np.append(exchanged[1:], False)))
        assert len(steps) == STEPS - 2 * 2
        xs, ys, gs, states = jax.tree.map(lambda leaf: leaf[steps], seen)
        return xs, ys, gs, states, steps


def test_the_signal_sums_the_products_with_earlier_updates(training):  # (1)
    xs, ys, gs, states, _ = training
    steps = len(xs)
    counts = states.horizon.lag.count
    weights = np.zeros((steps, steps))  # of each x in each y
    weights[0, 0] = 1.0
    for k in range(1, steps):
        c = 6 / (counts[k] + 5) if counts[k] > 0 else 0.0
        weights[k] = (1 - c) * weights[k - 1]
        weights[k, k - 1] += c
    np.testing.assert_allclose(weights @ xs, ys, rtol=1e-9, atol=1e-12)
    upto = np.cumsum(weights, axis=1)
    updates = np.diff(xs, axis=0)
    for k in (1, 10, steps - 1):
        w = upto[k, :k]
        assert w.max() <= 1 + 1e-12
        assert np.diff(w).min(initial=0) >= 0
        signal = gs[k] @ (xs[k] - ys[k])
        assert signal == pytest.approx(w @ (updates[:k] @ gs[k]), rel=1e-8)


def test_the_signal_bounds_how_much_worse_the_parameters_are_than_the_average(training):  # (2)
    xs, ys, gs, _, steps = training
    with jax.enable_x64(True):
        both, seen = jax.vmap(logistic), jax.tree.map(lambda leaf: leaf[steps], batches(STEPS))
        gaps = np.array(both(jnp.asarray(xs), seen) - both(jnp.asarray(ys), seen))
    signals = np.sum(gs * (xs - ys), axis=1)
    assert np.all(gaps <= signals + 1e-12)
    assert np.any(signals < 0)


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_at_a_minimum_the_signal_is_twice_the_loss_that_noise_costs(rate):  # (3)
    curvature, variance = 1.5, 0.7
    noise = np.random.default_rng(1).normal(0, variance**0.5, size=(4000, 500))
    x = np.zeros(500)
    signals, losses = [], []
    for k, each in enumerate(noise):
        g = curvature * x + each
        if k >= 1000:  # the average of a long path is 0
            signals.append(g * x)
            losses.append(0.5 * curvature * x**2)
        x = x - rate * g
    expected = rate * variance / (2 - rate * curvature)
    assert np.mean(signals) == pytest.approx(expected, rel=0.02)
    assert 2 * np.mean(losses) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_learning_rate_moves_by_bounded_steps(sign):  # (4)
    def step(carry, _):
        x, state = carry
        ahead = jnp.where(x == state.average, 1.0, jnp.sign(x - state.average))
        grads = sign * ahead  # the signal has this sign
        updates, state = tx.update(grads, state, x)
        return (optax.apply_updates(x, updates), state), state

    with jax.enable_x64(True):
        tx = jd.self_tuning(optax.sgd)
        x = 100 * jnp.ones(3)  # updates are short
        state = jd.set_hyperparams(tx.init(x), {"learning_rate": 1e-2})
        states = jax.jit(lambda: jax.lax.scan(step, (x, state), length=STEPS)[1])()
        rates = np.array(jd.get_hyperparams(states)[0]["learning_rate"])
        counts = np.array(states.trend.signal.count)
    assert states.restarts[-1] == 0
    changes = np.diff(np.log(rates)) * (counts[:-1] + 10)
    assert changes.min() >= -1.8 - 1e-6
    assert changes.max() <= 2.2 + 1e-6
    assert (changes[-1] > 2.1) == (sign < 0)
    assert (changes[-1] < -1.7) == (sign > 0)
