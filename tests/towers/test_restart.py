"""Restarts on divergence around optimizers of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

X = {"a": jnp.array([0.5, -1.0]), "b": jnp.array([2.0])}
G = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([-1.0])}
RISING = [*np.linspace(10.0, 1.0, 30), 50.0]  # an improvement, and the first sign of its loss


def tower(factory=optax.sgd, **tune):
    return jd.hypergradient(factory, optax.adam(0.1), tune=tune)


def clipped(learning_rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))


PLAIN = {
    "sgd": optax.sgd(0.01),
    "adam": optax.adam(0.01),
    "clipped": clipped(0.01),
    "schedule": optax.sgd(optax.linear_schedule(0.0, 0.1, 10)),
    "injected": optax.inject_hyperparams(optax.adam)(0.01),
    "averaged": jd.with_average(optax.sgd(0.01)),
    "momentum is tuned": tower(clipped, learning_rate=jd.unconstrained(0.01)),
}
TOWERS = {
    "one rate": tower(learning_rate=0.01),
    "per leaf": tower(optax.adam, learning_rate=jd.per_leaf(0.01), b1=0.9),
    "in a chain": optax.chain(optax.clip(1.0), tower(learning_rate=0.01)),
    "averaged": jd.with_average(tower(learning_rate=0.01)),
    "height 2": jd.hypergradient(optax.sgd, tower(learning_rate=0.1), tune={"learning_rate": 0.01}),
}


def loss(x):
    return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(x))


def fed(tx, state, x, values, grads=G):
    """Returns the parameters and the state after steps with given losses and one gradient."""
    update = jax.jit(tx.update)
    for value in values:
        updates, state = update(grads, state, x, value=jnp.float32(value))
        x = optax.apply_updates(x, updates)
    return x, state


def descend(tx, steps, loss=loss, x=X):
    def body(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), (value, state.restarts)

    return jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), length=steps))()


def harmful(x, state):
    """Returns a gradient for which the parameters are much worse than their average."""
    return jax.tree.map(lambda x, y: 1e6 * (x - y), x, state.average)


def assert_trees_equal(a, b, **tolerance):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("name", PLAIN)
def test_without_divergence_the_updates_are_the_plain_optimizer_s(name):
    plain, tx = PLAIN[name], jd.restart_on_divergence(PLAIN[name])
    (x, state), _ = descend(tx, 30)
    y, plain_state = X, plain.init(X)
    step = jax.jit(plain.update)
    for _ in range(30):
        updates, plain_state = step(jax.grad(loss)(y), plain_state, y, value=loss(y))
        y = optax.apply_updates(y, updates)
    assert int(state.restarts) == 0
    assert_trees_equal(x, y, rtol=1e-5, atol=1e-6)
    assert_trees_equal(state.inner_state, plain_state, rtol=1e-4, atol=1e-5)


def test_the_average_has_the_weights_of_with_average():
    averages = [
        jd.averaged_params(state, x)
        for tx in (jd.restart_on_divergence(optax.sgd(0.1)), jd.with_average(optax.sgd(0.1)))
        for x, state in [fed(tx, tx.init(X), X, np.ones(15))]
    ]
    assert_trees_equal(*averages, rtol=1e-6)
    outer = jd.with_average(jd.restart_on_divergence(jd.with_average(optax.sgd(0.1), power=0.0)))
    x, state = fed(outer, outer.init(X), X, np.ones(15))
    assert_trees_equal(jd.averaged_params(state, x), averages[0], rtol=1e-6)
    assert state.inner_state.inner_state.average["b"] != state.average["b"]


@pytest.mark.parametrize("name", PLAIN)
def test_divergence_returns_to_the_average_with_a_third_of_the_updates(name):
    tx = jd.restart_on_divergence(PLAIN[name])
    x, state = fed(tx, tx.init(X), X, RISING)
    assert int(state.restarts) == 0  # one bad loss is not a trend
    average, grads = jd.averaged_params(state, x), harmful(x, state)
    x, state = fed(tx, state, x, [50.0], grads)
    assert int(state.restarts) == 1
    assert float(state.scale) == pytest.approx(1 / 3)
    assert bool(state.returning)
    x, state = fed(tx, state, x, [1.0])
    assert not bool(state.returning)
    assert float(state.count) == 0
    assert_trees_equal(x, average)
    assert_trees_equal(state.inner_state, PLAIN[name].init(average))
    updates, _ = tx.update(G, state, x, value=1.0)
    plain, _ = PLAIN[name].update(G, PLAIN[name].init(x), x)
    assert_trees_equal(updates, jax.tree.map(lambda u: u / 3, plain), rtol=1e-5)


def test_a_rise_that_the_signal_does_not_explain_is_not_divergence():
    tx = jd.restart_on_divergence(optax.sgd(0.01))
    x, state = fed(tx, tx.init(X), X, RISING)
    opposite = jax.tree.map(jnp.negative, harmful(x, state))
    for grads in (opposite, jax.tree.map(jnp.zeros_like, G)):
        _, after = fed(tx, state, x, [50.0] * 10, grads)
        assert int(after.restarts) == 0


@pytest.mark.parametrize("name", TOWERS)
def test_the_learning_rate_of_a_tower_is_lowered_instead(name):
    tx = jd.restart_on_divergence(TOWERS[name])
    state = tx.init(X)
    _, state = tx.update(jax.tree.map(lambda g: 0 * g, G), state, X, value=10.0)
    x, state = fed(tx, state, X, RISING)
    rates = jd.get_hyperparams(state.inner_state)[0]["learning_rate"]
    average = jd.averaged_params(state, x)
    x, state = fed(tx, state, x, [np.nan, np.nan, 1.0])
    assert_trees_equal(x, average)
    assert float(state.scale) == 1
    lowered = jd.get_hyperparams(state)
    expected = jax.tree.map(lambda rate: rate / 10, rates)
    assert_trees_equal(lowered[0]["learning_rate"], expected, rtol=1e-4)
    fresh = jd.get_hyperparams(TOWERS[name].init(X))
    assert_trees_equal([*lowered[1:], lowered[0].get("b1")], [*fresh[1:], fresh[0].get("b1")])


def test_the_counters_of_a_tower_are_kept():
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    x, state = fed(tx, tx.init(X), X, [1.0] * 3)
    state = state._replace(inner_state=state.inner_state._replace(altered=jnp.int32(5)))
    _, state = fed(tx, state, x, [np.nan, np.nan])
    assert int(state.restarts) == 1
    assert int(state.inner_state.altered) == 5
    assert not bool(state.inner_state.has_previous)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_batch_is_skipped_and_two_in_a_row_restart(bad):
    tx = jd.restart_on_divergence(optax.adam(0.1))
    x, state = fed(tx, tx.init(X), X, np.ones(5))
    spoiled = {**G, "b": bad * G["b"]}
    for value, grads in (bad, G), (1.0, spoiled), (bad, spoiled):
        same, after = fed(tx, state, x, [value], grads)
        assert_trees_equal(same, x)
        expected = state._replace(skipped=jnp.int32(1), unusable=jnp.int32(1))
        assert_trees_equal(after, expected)
    _, usable = fed(tx, after, x, [1.0])
    assert int(usable.unusable) == 0
    back, after = fed(tx, after, x, [bad], spoiled)
    assert (int(after.skipped), int(after.restarts)) == (2, 1)
    assert float(after.scale) == pytest.approx(0.1)
    back, after = fed(tx, after, back, [1.0, *[bad] * 6])
    assert_trees_equal(back, state.average)
    assert int(after.restarts) == 1  # nothing has moved since


def test_batches_skipped_by_the_caller_change_nothing_else():
    tx = jd.restart_on_divergence(tower(learning_rate=0.1))
    x, state = fed(tx, tx.init(X), X, [1.0] * 3)
    for n in (1, 2, 3):
        updates, after = tx.update(G, state, x, value=1.0, skip=True)
        assert_trees_equal(updates, jax.tree.map(jnp.zeros_like, x))
        assert_trees_equal(after, state._replace(skipped=jnp.int32(n)))
        state = after


def test_an_update_that_is_not_finite_does_not_reach_the_parameters():
    def update(updates, state, params=None):
        factor = jnp.where(state == 3, jnp.inf, -0.1)
        return jax.tree.map(lambda g: factor * g, updates), state + 1

    tx = jd.restart_on_divergence(
        optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    )
    x, state = fed(tx, tx.init(X), X, np.ones(3))
    for _ in range(3):  # returns, restarts, and completes the return
        x, state = fed(tx, state, x, [1.0])
        assert np.isfinite(loss(x))
    assert_trees_equal(x, state.average)
    assert int(state.restarts) == 1
    assert float(state.scale) == pytest.approx(0.1)
    assert int(state.inner_state) == 0


def test_without_a_loss_only_numbers_that_are_not_finite_restart():
    tx = jd.restart_on_divergence(optax.sgd(10.0))
    x, state = X, tx.init(X)
    for _ in range(8):
        updates, state = tx.update(jax.grad(loss)(x), state, x)
        x = optax.apply_updates(x, updates)
    assert int(state.restarts) == 0
    assert float(loss(x)) > 1e6
    bad = jax.tree.map(lambda g: g * jnp.nan, G)
    for _ in range(2):
        _, state = tx.update(bad, state, x)
    assert int(state.restarts) == 1


TOO_HIGH = {
    "sgd": optax.sgd(100.0),
    "adam": optax.adam(1e3),
    "momentum": optax.sgd(100.0, momentum=0.9),
    "schedule": optax.sgd(optax.cosine_decay_schedule(100.0, 1000)),
    "one rate": tower(learning_rate=1e3),
    "adam tower": tower(optax.adam, learning_rate=1e3),
    "per leaf": tower(learning_rate=jd.per_leaf(1e3)),
    "far too high": optax.sgd(1e20),
}


@pytest.mark.parametrize("name", TOO_HIGH)
def test_a_learning_rate_that_is_too_high_is_divided_until_the_loss_falls(name):
    (x, state), (_, restarts) = descend(jd.restart_on_divergence(TOO_HIGH[name]), 200)
    assert float(loss(x)) < 1e-3 * float(loss(X))
    assert int(restarts[150]) == int(state.restarts)


def test_restarts_of_a_high_learning_rate_lose_nothing():
    tx = jd.restart_on_divergence(optax.sgd(100.0))
    # The k-th attempt multiplies x by 1 - 200 / 3^k. While this squares to more than 3, its second
    # loss restarts it, and the third update completes the return.
    (x, _), (values, restarts) = descend(tx, 12)
    np.testing.assert_array_equal(restarts, [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4])
    np.testing.assert_allclose(values[1::3] / values[0], (1 - 200 / 3.0 ** np.arange(4)) ** 2, 1e-5)
    assert_trees_equal(x, X)
    _, (values, restarts) = descend(tx, 200)
    assert int(restarts[-1]) == 5
    assert float(values[12:].max()) < 5 * float(values[0])


def test_the_second_update_of_a_restart_removes_the_rounding_error_of_the_first():
    tx = jd.restart_on_divergence(optax.sgd(1e10))
    (x, _), _ = descend(tx, 2)
    assert_trees_equal(x, jax.tree.map(jnp.zeros_like, X))  # X - 1e10 is rounded to -1e10
    (x, _), _ = descend(tx, 3)
    assert_trees_equal(x, X)


@pytest.mark.parametrize("kind", ["zero mean", "large offset", "heavy tails"])
def test_noise_alone_does_not_restart(kind):
    def noisy(x, key):
        draw = jax.random.cauchy if kind == "heavy tails" else jax.random.normal
        noise = draw(key, x.shape)
        if kind == "zero mean":  # the first loss is 0, and gives no scale
            return jnp.vdot(noise, x)
        return jnp.sum((x - noise) ** 2) + 1e3 * (kind == "large offset")

    tx = jd.restart_on_divergence(optax.sgd(0.01))

    def trained(key):
        def body(carry, key):
            x, state = carry
            value, grads = jax.value_and_grad(noisy)(x, key)
            updates, state = tx.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.zeros(100)
        return jax.lax.scan(body, (x, tx.init(x)), jax.random.split(key, steps))[0][1].restarts

    agents, steps = (200, 6) if kind == "zero mean" else (8, 300)
    restarts = jax.jit(jax.vmap(trained))(jax.random.split(jax.random.key(0), agents))
    np.testing.assert_array_equal(restarts, 0)


def test_agents_under_vmap_restart_independently():
    tx = jd.restart_on_divergence(optax.adam(0.1))
    x, state = fed(tx, tx.init(X), X, np.ones(5))
    together = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), (x, state))
    step = jax.jit(jax.vmap(lambda x, s, v: tx.update(G, s, x, value=v)))
    for _ in range(3):
        updates, new = step(*together, jnp.array([1.0, jnp.nan]))
        together = optax.apply_updates(together[0], updates), new
    np.testing.assert_array_equal(together[1].restarts, [0, 1])
    for i, value in enumerate([1.0, np.nan]):
        alone = fed(tx, state, x, [value] * 3)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_trees_equal(one, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_recovers_and_returns_exactly(dtype):
    x = jax.tree.map(lambda leaf: leaf.astype(dtype), X)
    tx = jd.restart_on_divergence(optax.adam(100.0))
    (back, state), _ = descend(tx, 3, x=x)
    assert int(state.restarts) == 1
    assert state.average["a"].dtype == jnp.float32
    assert_trees_equal(back, x)
    (x, state), _ = descend(tx, 200, x=x)
    assert x["a"].dtype == dtype
    assert float(loss(x)) < 1e-2 * float(loss(X))


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="tx must be an optax gradient transformation"):
        jd.restart_on_divergence(optax.adam)
    with pytest.raises(TypeError, match="tx must be an optax gradient transformation"):
        jd.restart_on_divergence(0.1)
    tx = jd.restart_on_divergence(optax.sgd(0.1))
    with pytest.raises(ValueError, match="needs params, which are averaged"):
        tx.update(X, tx.init(X))
    with pytest.raises(ValueError, match="value must be a scalar"):
        tx.update(X, tx.init(X), X, value=jnp.ones(2))
    for skip in (2, "yes", np.array([True])):
        with pytest.raises(ValueError, match="skip must be"):
            tx.update(X, tx.init(X), X, value=1.0, skip=skip)


def test_a_wrapped_tower_is_read_and_frozen():
    tx = jd.restart_on_divergence(tower(learning_rate=0.5))
    state = jd.set_hyperparams(tx.init(X), {"learning_rate": 0.25})
    frozen, frozen_state = jd.freeze_hyperparams(tx, state)
    updates, _ = frozen.update(G, frozen_state)
    assert_trees_equal(updates, jax.tree.map(lambda g: -0.25 * g, G), rtol=1e-6)
    with pytest.raises(TypeError, match=r"must be a transformation that jd\.hypergradient"):
        jd.describe(jd.restart_on_divergence(optax.adam(0.1)))
