"""Self-tuning works from any initial learning rate and recovers from divergence."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers import averaging, restart

FACTORIES = {
    "sgd": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=1e-2),
}
X = jnp.array([0.5, -1.0, 2.0])
G = jnp.array([0.3, 0.1, -0.2])


def tower_state(state):
    return state.inner_state.inner_state


def rate_of(state):
    return float(jd.get_hyperparams(state)[0]["learning_rate"])


def noisy_regression(key):
    """A least-squares loss on batches; curvatures from 1 to 30."""
    scales = jnp.geomspace(1.0, 30**0.5, 8)

    def loss(x, key):
        features = jax.random.normal(key, (16, 8)) * scales
        noise = 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (16,))
        return jnp.mean((features @ (x - solution) - noise) ** 2)

    solution = jax.random.normal(key, (8,))
    return loss, solution


def train(tx, loss, x, steps, start):
    state = jd.set_hyperparams(tx.init(x), {"learning_rate": start})

    def step(carry, key):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x, key)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), value

    return jax.lax.scan(step, (x, state), jax.random.split(jax.random.key(3), steps))[0]


def fed(tx, state, x, values, grads=G):
    """Parameters and state after steps that are given these losses and gradients."""

    @jax.jit
    def run(x, state, values, grads):
        def step(carry, given):
            x, state = carry
            updates, state = tx.update(given[1], state, x, value=given[0])
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (x, state), (values, grads))[0]

    values = jnp.asarray(values, jnp.float32)
    return run(x, state, values, jnp.broadcast_to(grads, (*values.shape, *G.shape)))


def descended(tx, loss, x, steps):
    """Parameters and state after each step on a loss, and before the first."""
    step = jax.jit(lambda x, state: tx.update(jax.grad(loss)(x), state, x, value=loss(x)))
    path = [(x, tx.init(x))]
    for _ in range(steps):
        x, state = path[-1]
        updates, state = step(x, state)
        path.append((optax.apply_updates(x, updates), state))
    return path


@pytest.mark.parametrize("name", FACTORIES)
def test_eleven_starts_end_at_the_same_loss(name):
    loss, solution = noisy_regression(jax.random.key(0))
    tx, keys = jd.self_tuning(FACTORIES[name]), jax.random.split(jax.random.key(9), 64)

    def mean(x):
        return jax.vmap(loss, (None, 0))(x, keys).mean()

    @jax.jit
    @jax.vmap
    def final(start):
        x, state = train(tx, loss, jnp.zeros(8), 800, start)
        return mean(jd.averaged_params(state, x))

    finals = final(jnp.logspace(-8, 2, 11))
    assert finals.max() < 1.2 * finals.min()
    assert finals.max() < 1.3 * mean(solution)


@pytest.mark.parametrize("start", [1e-8, 1e2])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_first_update_uses_the_given_learning_rate(name, start):
    tx, plain = jd.self_tuning(FACTORIES[name], learning_rate=start), FACTORIES[name](start)
    updates, _ = jax.jit(tx.update)(G, tx.init(X), X, value=1.0)
    np.testing.assert_allclose(updates, plain.update(G, plain.init(X), X)[0], rtol=1e-6)


def test_a_start_that_is_too_high_restarts_from_the_initial_parameters():
    tx = jd.self_tuning(optax.sgd, learning_rate=1e2)
    path = descended(tx, lambda x: jnp.sum(x**2), X, 3)
    assert [int(state.restarts) for _, state in path] == [0, 0, 1, 1]  # one step is enough
    x, state = path[-1]
    np.testing.assert_array_equal(x, X)
    assert rate_of(state) == pytest.approx(1e2 / restart.SEVERE_DIVISOR, rel=0.1)
    assert not bool(tower_state(state).has_previous)


def test_a_restart_resets_the_optimizer():
    tx = jd.self_tuning(optax.adam, learning_rate=10.0)
    x, state = fed(tx, tx.init(X), X, [1.0])
    _, state = fed(tx, state, x, [1e4], grads=-1e6 * G)
    assert int(state.restarts) == 1
    again = tx.init(X)
    tower = tower_state(state)._replace(hyperparams=tower_state(again).hyperparams)
    chex.assert_trees_all_equal(tower, tower_state(again))


def test_the_average_begins_after_the_trial():
    tx = jd.self_tuning(optax.sgd, learning_rate=1e-2)
    path = descended(tx, lambda x: jnp.sum((x - 1) ** 2), X, 40)
    x, state = path[-1]
    assert int(state.restarts) == 0
    averaged = np.stack([x for x, _ in path[restart.TRIAL_STEPS : -1]])
    n, p = len(averaged), int(averaging.POWER)
    weights = [np.prod(k + np.arange(p, dtype=float)) for k in range(1, n + 1)]
    expected = np.average(averaged, axis=0, weights=weights)
    np.testing.assert_allclose(jd.averaged_params(state, x), expected, rtol=1e-5)


def test_a_lost_improvement_restarts_from_the_average_with_a_third_of_the_rate():
    tx = jd.self_tuning(optax.sgd, learning_rate=1e-3)
    x, state = fed(tx, tx.init(X), X, [*np.linspace(10.0, 1.0, 30), 50.0])
    assert int(state.restarts) == 0  # one bad loss is not a trend
    average, rate = jd.averaged_params(state, x), rate_of(state)
    x, state = fed(tx, state, x, [50.0], grads=-1000 * G)  # the last update raised the loss
    assert int(state.restarts) == 1
    x, state = fed(tx, state, x, [50.0])
    np.testing.assert_allclose(x, average, rtol=1e-6)
    assert rate_of(state) == pytest.approx(rate / restart.MILD_DIVISOR, rel=0.05)
    assert int(state.failures) == 0


def test_a_loss_that_drifts_by_itself_causes_no_restarts():
    t = jnp.linspace(-3.0, 3.0, 20)
    tx = jd.self_tuning(optax.adam)

    def step(carry, i):
        x, state = carry

        def loss(x):
            return jnp.sum((x - jnp.where(i < 900, t, -t)) ** 2) + 0.5 * i

        value, grads = jax.value_and_grad(loss)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), None

    x = jnp.zeros(20)
    (x, state), _ = jax.jit(lambda: jax.lax.scan(step, (x, tx.init(x)), jnp.arange(1200)))()
    assert int(state.restarts) < 5
    assert float(jnp.sum((x + t) ** 2)) < 1e-2 * float(jnp.sum(t**2))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_return_is_exact_in_every_dtype(dtype):
    tx = jd.self_tuning(optax.adam, learning_rate=1e2)
    start = (0.3 * jax.random.normal(jax.random.key(0), (64,))).astype(dtype)

    def loss(x):
        return jnp.sum(x.astype(jnp.float32) ** 4)

    path = descended(tx, loss, start, 12)
    returned = [i for i, (_, state) in enumerate(path) if bool(state.returning)]
    np.testing.assert_array_equal(path[returned[0] + 1][0], start)


def test_parameters_stay_finite():
    tx = jd.self_tuning(optax.sgd, learning_rate=1e2)

    def loss(x):
        return 1e3 * jnp.sum((x.astype(jnp.float32) - 1) ** 2)

    path = descended(tx, loss, jnp.full(3, 0.5, jnp.float16), 80)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x, _ in path)
    assert float(loss(path[-1][0])) < 1e-2 * float(loss(path[0][0]))


def test_a_loss_that_is_not_finite_is_a_bad_batch():
    tx = jd.self_tuning(optax.sgd)
    x, state = fed(tx, tx.init(X), X, [1.0, np.nan])
    same, _ = fed(tx, tx.init(X), X, [1.0])
    np.testing.assert_array_equal(x, same)
    assert int(tower_state(state).skipped) == 1


def test_masked_leaves_have_no_average():
    params = {"a": X, "b": X}
    tx = optax.masked(jd.self_tuning(optax.adam), {"a": True, "b": False})
    found = jd.averaged_params(tx.init(params), {"a": X, "b": 2 * X})
    np.testing.assert_array_equal(found["a"], X)
    np.testing.assert_array_equal(found["b"], 2 * X)


def test_noise_alone_never_restarts():
    loss, _ = noisy_regression(jax.random.key(1))
    tx = jd.self_tuning(optax.adam)
    _, state = jax.jit(lambda: train(tx, loss, jnp.zeros(8), 3000, 1e-3))()
    assert int(state.restarts) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_batch_is_skipped_and_two_in_a_row_restart(bad):
    tx = jd.self_tuning(optax.adam)
    x, state = fed(tx, tx.init(X), X, np.linspace(2.0, 1.0, 20))
    same, after = fed(tx, state, x, [bad], grads=bad * G)
    np.testing.assert_array_equal(same, x)
    assert (int(tower_state(after).skipped), int(after.restarts)) == (1, 0)
    back, after = fed(tx, after, same, [bad], grads=bad * G)
    np.testing.assert_allclose(back, jd.averaged_params(state, x), rtol=1e-6)
    assert (int(tower_state(after).skipped), int(after.restarts)) == (2, 1)


def test_gradients_of_zero_change_nothing():
    tx = jd.self_tuning(FACTORIES["sgd"], learning_rate=0.5)
    x, state = fed(tx, tx.init(X), X, [1.0] * 30, grads=jnp.zeros(3))
    np.testing.assert_array_equal(x, X)
    assert rate_of(state) == pytest.approx(0.5)
    assert int(state.restarts) == 0


def test_alternating_gradients_do_not_reduce_the_rate_without_limit():
    tx = jd.self_tuning(optax.sgd, learning_rate=1.0)
    turns = jnp.where(jnp.arange(200)[:, None] % 2, G, -G)  # every step is followed by its opposite
    _, state = fed(tx, tx.init(X), X, [1.0] * 200, grads=turns)
    assert int(state.restarts) == restart.MAX_FAILURES
    assert np.isfinite(rate_of(state))


def test_the_path_does_not_depend_on_the_unit_of_the_loss():
    def rates(unit):
        loss, _ = noisy_regression(jax.random.key(2))
        tx = jd.self_tuning(partial(optax.adam, eps=0.0), learning_rate=1e-6)

        def scaled(x, key):
            return unit * loss(x, key)

        x, state = train(tx, scaled, jnp.zeros(8), 150, 1e-6)
        return x, rate_of(state)

    (x, rate), (y, same) = rates(1.0), rates(2.0**12)
    np.testing.assert_allclose(x, y, rtol=1e-4)
    assert rate == pytest.approx(same, rel=1e-4)


def test_the_average_of_narrow_parameters_is_kept_wide():
    tx, x = jd.self_tuning(optax.adam), X.astype(jnp.bfloat16)
    state = tx.init(x)
    assert state.inner_state.average.dtype == jnp.float32
    assert jd.averaged_params(state, x).dtype == jnp.bfloat16


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"learning_rate must be in \(0, inf\), got 0"):
        jd.self_tuning(optax.adam, learning_rate=0)
    with pytest.raises(ValueError, match="learning_rate must be a number, got "):
        jd.self_tuning(optax.adam, learning_rate=[1e-3, 1e-2])
    with pytest.raises(TypeError, match="factory must be a callable"):
        jd.self_tuning(optax.adam(1e-3))
    with pytest.raises(ValueError, match="learning_rate"):
        jd.self_tuning(lambda b1: optax.adam(1e-3, b1))
    tx = jd.self_tuning(optax.adam)
    with pytest.raises(ValueError, match="needs value=, the loss"):
        tx.update(G, tx.init(X), X)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(G, tx.init(X), value=1.0)
    with pytest.raises(ValueError, match=r"value must be a scalar, got shape \(2,\)"):
        tx.update(G, tx.init(X), X, value=jnp.ones(2))
    with pytest.raises(ValueError, match="must hold one state"):
        jd.averaged_params(optax.adam(1e-3).init(X), X)
