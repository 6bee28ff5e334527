"""Self-tuning follows its rule, works from any guess and recovers from divergence."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers.tuning.statistics import Trend
from jaxdescent.towers.tuning.trend import TrendState
from tests.towers import self_tuning_rule as rule

FACTORIES = {
    "sgd": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=1e-2),
}
X = jnp.array([0.5, -1.0, 2.0])
G = jnp.array([0.3, 0.1, -0.2])


def rate_of(state):
    return jd.get_hyperparams(state)[0]["learning_rate"]


@cache
def tuned(factory):
    return jd.self_tuning(factory)


@cache
def compiled_training(tx, loss):
    def step(carry, batch):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x, batch)
        updates, state = tx.update(grads, state, x, value=value)
        carry = optax.apply_updates(x, updates), state
        return carry, carry

    return jax.jit(lambda x, state, batches: jax.lax.scan(step, (x, state), batches))


def train(tx, loss, x, batches, state=None):
    """Returns the last parameters and state, and the path of parameters and states."""
    return compiled_training(tx, loss)(x, tx.init(x) if state is None else state, batches)


@cache
def compiled_step(tx):
    @jax.jit
    def step(x, state, value, grads):
        updates, state = tx.update(grads, state, x, value=value)
        return optax.apply_updates(x, updates), state

    return step


def fed(tx, state, x, values, grads=G):
    """Returns parameters and state after steps that are given these losses and gradients."""
    values = np.asarray(values, np.float32)
    for value, grad in zip(values, np.broadcast_to(grads, (*values.shape, *x.shape)), strict=True):
        x, state = compiled_step(tx)(x, state, value, grad)
    return x, state


def tuning(tx, x, rate):
    """Returns a state after the range test."""
    return jd.set_hyperparams(tx.init(x), {"learning_rate": rate})


def quadratics(seed, steps, change_at, jump, steeper):
    """Returns curvatures and noisy minima of quadratics that change at a step."""
    random = np.random.default_rng(seed)
    curvatures, centers = np.geomspace(1, 30, 12), 0.3 * random.normal(size=(steps, 12))
    centers += random.normal(size=12)
    centers[change_at:] += jump
    curvatures = np.tile(curvatures, (steps, 1))
    curvatures[change_at:] *= steeper
    return curvatures, centers


@pytest.mark.parametrize(
    ("name", "change_at", "jump", "steeper", "events"),
    [
        ("sgd", 500, 4.0, 1.0, {"harm", "jump"}),
        ("adam", 500, 4.0, 1.0, {"harm", "jump"}),
        ("sgd", 200, 0.0, 100.0, {"harm", "diverged"}),
        ("adam", 900, 0.0, 1.0, {"harm"}),
    ],
)
def test_a_run_follows_the_rule(name, change_at, jump, steeper, events):
    curvatures, centers = quadratics(0, 900, change_at, jump, steeper)
    x = np.linspace(-1.0, 1.0, 12)
    expected = rule.Rule(x, *{"sgd": rule.momentum, "adam": rule.adam}[name]())
    path = []
    for curvature, center in zip(curvatures, centers, strict=True):
        d = expected.x - center
        expected.update(curvature * d, 0.5 * curvature @ d**2)
        path.append((expected.x, expected.rate, expected.signal.count, expected.lag.count))
    with jax.enable_x64(True):

        def loss(x, quadratic):
            curvature, center = quadratic
            return 0.5 * jnp.sum(curvature * (x - center) ** 2)

        tx = tuned(FACTORIES[name])
        (_, last), (xs, states) = train(tx, loss, jnp.array(x), (jnp.array(curvatures), centers))
        found = xs, rate_of(states), states.trend.signal.count, states.horizon.lag.count
        for a, b in zip(found, zip(*path, strict=True), strict=True):
            np.testing.assert_allclose(a, np.array(b), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(last.average, expected.y, rtol=1e-6)
        np.testing.assert_allclose(last.probe.t, expected.probe_t(), rtol=1e-5)
        assert int(last.restarts) == sum(name != "jump" for _, name in expected.events)
    assert {name for _, name in expected.events} == events


def test_the_rate_grows_by_4_until_a_step_does_harm_and_training_begins_at_the_start():
    tx = tuned(optax.sgd)

    def loss(x, _):
        return jnp.sum(x**2)

    _, (xs, states) = train(tx, loss, X, jnp.zeros(40))
    rates, searching = rate_of(states), states.range_test.running
    end = int(np.argmin(searching))
    np.testing.assert_allclose(rates[: end - 1], 1e-9 * 4.0 ** np.arange(1, end), rtol=1e-4)
    assert rates[end - 1] == rates[end - 2]  # waits for one step
    # 1 is the largest rate at which the loss does not rise.
    assert 1 < rates[end - 1] < 20
    np.testing.assert_allclose(rates[end], rates[end - 1] / 1000, rtol=1e-5)
    np.testing.assert_array_equal(xs[end + 1], X)
    assert int(states.restarts[-1]) == 1
    assert list(states.returning[end : end + 2]) == [True, False]


def test_a_suspected_step_that_is_not_confirmed_is_a_false_alarm():
    tx = tuned(optax.sgd)
    sizes = 1 + 0.2 * (jnp.arange(11.0)[:, None] % 2)
    x, state = fed(tx, tx.init(X), X, [1.0] * 11, sizes * G)
    rate = float(rate_of(state))
    x, state = fed(tx, state, x, [1.0], -3 * G)  # not extreme
    assert bool(state.range_test.suspected)
    assert bool(state.range_test.running)
    assert float(rate_of(state)) == pytest.approx(rate)
    x, after = fed(tx, state, x, [1.0], G)
    assert float(rate_of(after)) == pytest.approx(4 * rate)
    assert float(after.range_test.false_alarms) == 1


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_gradient_that_vanishes_for_two_steps_ends_the_range_test(share):
    tx = tuned(optax.sgd)
    x, state = fed(tx, tx.init(X), X, [1.0] * 10)
    for _ in range(2):
        assert bool(state.range_test.running)
        x, state = fed(tx, state, x, [0.5], share * G)  # the loss has fallen
    x, state = fed(tx, state, x, [1.0])
    assert not bool(state.range_test.running)
    np.testing.assert_array_equal(x, X)


def test_the_range_test_ends_far_out_where_the_loss_does_not_change():
    """The loss depends on the direction only, as of a normalized layer."""
    target, start = (jax.random.normal(jax.random.key(i), (20,)) for i in range(2))
    first_length = jnp.linalg.norm(start)

    def loss(x):
        return 1 - x @ target / jnp.linalg.norm(x) / jnp.linalg.norm(target)

    tx = tuned(optax.adam)

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
        return (x, state), (state.range_test.running, jnp.linalg.norm(x - start))

    (x, state), (running, distances) = jax.lax.scan(step, (start, tx.init(start)), length=200)
    farthest = distances[running].max() / first_length
    assert 10 < farthest < 10 * rule.GROWTH * 1.5  # steps grow by this factor
    assert state.restarts == 1
    assert loss(jd.averaged_params(state, x)) < 0.05


def noisy_regression(key, batch=16):
    """Returns a least-squares loss on batches, with curvatures from 1 to 30, and its solution."""
    scales = jnp.geomspace(1.0, 30**0.5, 8)

    def loss(x, key):
        features = jax.random.normal(key, (batch, 8)) * scales
        noise = 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (batch,))
        return jnp.mean((features @ (x - solution) - noise) ** 2)

    solution = jax.random.normal(key, (8,))
    return loss, solution


def final_loss(tx, loss, keys):
    (x, state), _ = train(tx, loss, jnp.zeros(8), keys)
    held_out = jax.random.split(jax.random.key(9), 64)
    return jax.vmap(loss, (None, 0))(jd.averaged_params(state, x), held_out).mean()


@pytest.mark.parametrize("name", FACTORIES)
def test_all_guesses_end_at_the_same_loss(name):
    loss, solution = noisy_regression(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), 800)

    @jax.jit
    def final(guess):
        return final_loss(jd.self_tuning(FACTORIES[name], learning_rate=guess), loss, keys)

    finals = [float(final(guess)) for guess in (1e-8, 1e-5, 1e-3, 1e2)]
    held_out = jax.random.split(jax.random.key(9), 64)
    best = float(jax.vmap(loss, (None, 0))(solution, held_out).mean())
    assert finals[2] == finals[3]  # guesses from 1e-3 on change nothing
    assert max(finals) < 1.2 * min(finals)
    assert max(finals) < 1.3 * best


def test_one_example_at_a_time_trains():
    @jax.jit
    def final(seed):
        loss, _ = noisy_regression(jax.random.key(seed), batch=1)
        keys = jax.random.split(jax.random.key(100 + seed), 3000)
        return final_loss(tuned(optax.adam), loss, keys)

    assert all(final(seed) < 0.05 for seed in range(4))  # 0.01 is noise


def test_the_average_follows_a_moving_target():
    speed = jnp.linspace(0.5, 1.5, 10) * 1e-2

    def loss(x, given):
        key, t = given
        return jnp.sum((x - t * speed - 0.1 * jax.random.normal(key, (10,))) ** 2)

    steps = 3000
    given = jax.random.split(jax.random.key(0), steps), jnp.arange(steps, dtype=jnp.float32)
    (x, state), _ = train(tuned(optax.adam), loss, jnp.zeros(10), given)
    lag = jnp.abs(jd.averaged_params(state, x) - (steps - 1) * speed) / speed
    assert float(state.horizon.lag.count) < 200  # 3,000 without the test of the lag
    assert float(lag.max()) < 60  # steps; 430 without it


@pytest.mark.parametrize(
    ("horizon", "steps", "lags"),
    [(119, 1000, True), (121, 1000, False), (119, 940, False), (-6, 1000, False)],
)
def test_the_parameters_are_evaluated_where_the_average_lags(horizon, steps, lags):
    """It lags if its horizon is short, and short compared with the number of steps."""
    tx = tuned(optax.sgd)
    state = tx.init(X)._replace(average=X + 1)
    lag = state.horizon.lag._replace(count=jnp.float32(horizon))
    signal = state.trend.signal._replace(count=jnp.float32(steps))
    state = state._replace(
        horizon=state.horizon._replace(lag=lag), trend=state.trend._replace(signal=signal)
    )
    expected = X if lags else X + 1
    np.testing.assert_array_equal(jd.averaged_params(state, X), expected)
    agents = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, tx.init(X))
    found = jd.averaged_params(agents, jnp.stack([X, 2 * X]))
    np.testing.assert_array_equal(found, [expected, X])


@pytest.mark.parametrize("excess", [-1.0, 1.0])
def test_it_is_evaluated_where_the_measured_loss_is_lower(excess):
    """The losses at the average are given; gradients are small and random."""
    steps, tx = 800, tuned(optax.sgd)
    noise = np.random.default_rng(0).normal(size=(steps, *X.shape))

    def step(carry, noise):
        x, state = carry
        value = 2 + 0.3 * noise[0] + excess * state.probe.at_average
        seen = x, jd.averaged_params(state, x), state
        updates, state = tx.update(noise, state, x, value=value)
        return (optax.apply_updates(x, updates), state), seen

    start = X, tuning(tx, X, 1e-3)
    xs, chosen, states = jax.jit(lambda: jax.lax.scan(step, start, jnp.asarray(noise))[1])()
    probes = np.flatnonzero(states.probe.at_average)
    np.testing.assert_array_equal(np.diff(probes), 102)
    assert int(states.restarts[-1]) == 0
    # The path goes on after a probe as if it had not been.
    np.testing.assert_allclose(xs[probes + 1], states.average[probes], rtol=1e-6)
    np.testing.assert_allclose(states.average[probes + 1], xs[probes], rtol=1e-6)
    lags = jax.vmap(lambda s: s.horizon.lags(s.trend.signal.count))(states)
    prefers = jax.vmap(type(states).prefers_params)(states)
    fifth = probes[4]
    np.testing.assert_array_equal(prefers[: fifth + 1], lags[: fifth + 1])
    assert (prefers[fifth + 1 :] == (excess > 0)).all()
    exchanged = np.asarray(states.probe.at_average)[:, None]
    at_x = np.asarray(prefers)[:, None] != exchanged
    np.testing.assert_allclose(chosen, np.where(at_x, xs, states.average), rtol=1e-6)


def at_average(tx, x):
    """Returns parameters and state just after they were exchanged with their average."""
    x, state = fed(tx, tuning(tx, x, 1e-3), x, [1.0] * 20)
    state = state._replace(probe=state.probe._replace(steps=jnp.asarray(100, jnp.int32)))
    before = x, state
    x, state = fed(tx, state, x, [1.0])
    assert bool(state.probe.at_average)
    return before, (x, state)


def test_without_a_loss_an_exchange_ends_and_training_goes_on():
    tx = tuned(optax.sgd)
    (before, _), (x, state) = at_average(tx, X)
    step, moved = jax.jit(tx.update), []
    for _ in range(4):
        updates, state = step(G, state, x)
        x = optax.apply_updates(x, updates)
        moved.append(float(jnp.max(jnp.abs(x - before))))
        assert not bool(state.probe.at_average)
    assert moved[0] < 1e-6
    assert 0 < moved[1] < moved[2] < moved[3]


def test_a_usable_batch_of_an_exchange_ends_a_row_of_unusable_ones():
    tx = tuned(optax.sgd)
    (x, state), _ = at_average(tx, X)
    x, after = fed(tx, state, x, [np.nan, 1.0])  # the second exchanges
    assert bool(after.probe.at_average)
    x, after = fed(tx, after, x, [np.nan, 1.0])
    assert int(after.restarts) == int(state.restarts)
    assert int(after.skipped) == int(state.skipped) + 1


def test_rounding_to_16_bits_does_not_end_the_probes():
    tx, x = tuned(optax.sgd), jnp.asarray(X, jnp.bfloat16)
    (before, _), (x, state) = at_average(tx, x)
    x, state = fed(tx, state, x, [0.5], G.astype(jnp.bfloat16))
    assert not bool(state.probe.missed)
    assert float(state.probe.count) == 1
    np.testing.assert_allclose(np.float32(x), np.float32(before), rtol=0.01)


def test_parameters_that_are_lost_outside_leave_the_average():
    tx = tuned(optax.sgd)
    x, state = fed(tx, tuning(tx, X, 1e-3), X, np.ones(20))
    average = state.average
    _, state = fed(tx, state, x + jnp.nan, [np.nan] * 2, np.full(X.shape, np.nan))
    assert int(state.restarts) == 1
    np.testing.assert_array_equal(state.average, average)


def test_a_transformation_after_it_that_changes_returns_ends_the_probes():
    loss, _ = noisy_regression(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), 300)
    for after, exact in (optax.identity(), True), (optax.ema(0.9), False):
        chained = optax.chain(tuned(optax.adam), after)
        (_, (state, _)), _ = train(chained, loss, jnp.zeros(8), keys)
        assert (float(state.probe.count) > 0) == exact


def test_a_jump_of_the_target_begins_the_average_again():
    def loss(x, given):
        key, target = given
        return jnp.sum((x - target - 0.1 * jax.random.normal(key, (10,))) ** 2)

    targets = jnp.where(jnp.arange(1500) < 1000, 1.0, -20.0)
    given = jax.random.split(jax.random.key(0), 1500), targets
    (x, state), (_, states) = train(tuned(FACTORIES["sgd"]), loss, jnp.zeros(10), given)
    assert float(states.horizon.lag.count[1010]) < 12
    rates = rate_of(states)
    assert float(rates[1010] / rates[999]) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(jd.averaged_params(state, x), -20.0, atol=0.1)


def test_noise_alone_never_restarts_and_the_rate_falls():
    loss, _ = noisy_regression(jax.random.key(1))
    keys = jax.random.split(jax.random.key(3), 3000)
    (_, state), (_, states) = train(tuned(optax.adam), loss, jnp.zeros(8), keys)
    assert int(state.restarts) == 1
    assert float(rate_of(state)) < 0.5 * float(rate_of(states).max())


@pytest.mark.parametrize(
    ("share", "first", "grows"),
    [(0.008, 1.0, True), (0.012, 1.0, False), (0.012, 0.51, False), (0.012, 0.49, True)],
)
def test_growth_is_blocked_while_updates_are_long(share, first, grows):
    """Unless the parameters have grown to twice their first length."""
    tx = tuned(optax.sgd)
    x, state = fed(tx, tuning(tx, X, 1e-4), X, [1.0] * 5)
    assert float(state.update_length) == pytest.approx(float(rate_of(state) * jnp.linalg.norm(G)))
    assert float(state.first_length) == pytest.approx(float(jnp.linalg.norm(X)))
    size = jnp.linalg.norm(x)
    _, after = fed(
        tx, state._replace(update_length=share * size, first_length=first * size), x, [1.0]
    )
    assert bool(rate_of(after) > rate_of(state)) == grows


def test_a_lost_improvement_restarts_from_the_average_with_a_third_of_the_rate():
    tx = tuned(optax.sgd)
    x, state = fed(tx, tuning(tx, X, 1e-3), X, [*np.linspace(10.0, 1.0, 30), 50.0])
    assert int(state.restarts) == 0  # one bad loss is not a trend
    average, rate = jd.averaged_params(state, x), float(rate_of(state))
    x, state = fed(tx, state, x, [50.0], grads=-1e4 * G)  # the last updates raised the loss
    assert int(state.restarts) == 1
    x, state = fed(tx, state, x, [50.0])
    np.testing.assert_allclose(x, average, rtol=1e-6)
    assert float(rate_of(state)) == pytest.approx(rate / 3, rel=1e-4)


def test_the_rate_stays_below_half_of_a_rate_that_failed():
    tx = tuned(optax.sgd)
    x, state = fed(tx, tuning(tx, X, 1e-3), X, [1.0] * 5)
    assert float(state.trend.limit) == np.inf
    failed = float(rate_of(state))
    _, state = fed(tx, state, x, [np.nan, np.nan])
    assert float(state.trend.limit) == pytest.approx(np.log(failed / 2), abs=1e-4)


def trend(limit=np.inf):
    """Returns a trend that says that the learning rate should grow."""
    signal = Trend(jnp.float32(-1.0), jnp.float32(1.0), jnp.float32(50.0))
    return TrendState(signal, jnp.array(False), jnp.float32(limit))


@pytest.mark.parametrize(
    ("state", "too_long", "expected"),
    [
        (trend(), False, 2 * 1.1 / 60),
        (trend(), True, 0.0),
        (trend(limit=-2.99), False, 0.01),
        (trend(limit=-3.5), False, 0.0),
    ],
)
def test_the_step_of_the_rate_has_limits(state, too_long, expected):
    no, log_rate = jnp.array(False), jnp.float32(-3.0)
    step = state.step(log_rate, jnp.float32(0.0), jnp.array(too_long), no)
    assert float(step) == pytest.approx(expected, rel=1e-4)
    assert float(state.counted().limit) == pytest.approx(float(state.limit) + 0.5 / 60)


def test_a_restart_resets_the_optimizer():
    tx = tuned(optax.adam)
    x, state = fed(tx, tuning(tx, X, 1e-3), X, [1.0] * 5)
    _, state = fed(tx, state, x, [np.nan, np.nan, 1.0])
    assert int(state.restarts) == 1
    fresh = jax.tree.leaves(optax.adam(1e-3).init(X))
    for a, b in zip(jax.tree.leaves(state.inner_state), fresh, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_batch_is_skipped_and_two_in_a_row_restart(bad):
    tx = tuned(optax.adam)
    x, state = fed(tx, tuning(tx, X, 1e-3), X, np.linspace(2.0, 1.0, 20))
    for values, grads in ([bad], G), ([1.0], bad * G), ([bad], bad * G):
        same, after = fed(tx, state, x, values, grads=grads)
        np.testing.assert_array_equal(same, x)
        assert (int(after.skipped), int(after.unusable), int(after.restarts)) == (1, 1, 0)
        expected = state._replace(skipped=after.skipped, unusable=after.unusable)
        jax.tree.map(np.testing.assert_array_equal, after, expected)
    back, after = fed(tx, after, same, [bad], grads=bad * G)
    np.testing.assert_allclose(back, jd.averaged_params(state, x), rtol=1e-6)
    assert (int(after.skipped), int(after.restarts)) == (2, 1)
    assert float(rate_of(after)) == pytest.approx(float(rate_of(state)) / 10, rel=1e-5)
    _, after = fed(tx, after, back, [1.0, *[bad] * 6])
    assert int(after.restarts) == 1  # nothing has moved since


def test_batches_skipped_by_the_caller_change_nothing_else():
    tx = tuned(optax.adam)
    state = tx.init(X)
    for _ in range(3):
        updates, state = tx.update(G, state, X, value=1.0, skip=True)
        np.testing.assert_array_equal(updates, 0)
    expected = tx.init(X)._replace(skipped=jnp.int32(3))
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    with pytest.raises(ValueError, match="skip must be"):
        tx.update(G, state, X, skip=2)


def test_gradients_of_zero_change_nothing():
    tx = tuned(FACTORIES["sgd"])
    for state, rate in (tx.init(X), 1e-9), (tuning(tx, X, 0.5), 0.5):
        x, state = fed(tx, state, X, [1.0] * 30, grads=jnp.zeros(3))
        np.testing.assert_array_equal(x, X)
        assert float(rate_of(state)) == pytest.approx(rate)
        assert int(state.restarts) == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_range_test_returns_exactly_and_trains_in_every_dtype(dtype):
    start = (0.3 * jax.random.normal(jax.random.key(0), (64,))).astype(dtype)

    def loss(x, _):
        return jnp.sum((x.astype(jnp.float32) - 1) ** 4)

    tx = tuned(optax.adam)
    (x, state), (xs, states) = train(tx, loss, start, jnp.zeros(300))
    (ends,) = np.nonzero(np.asarray(states.returning))
    np.testing.assert_array_equal(xs[ends[0] + 1], start)
    assert np.isfinite(np.asarray(xs, np.float32)).all()
    assert float(states.range_test.total.max()) > 1e-2  # not ended by rounding
    assert state.average.dtype == jnp.float32
    assert jd.averaged_params(state, x).dtype == dtype
    assert float(loss(jd.averaged_params(state, x), 0)) < 1e-2 * float(loss(start, 0))


def test_parameters_stay_finite():
    def loss(x, _):
        return 1e3 * jnp.sum((x.astype(jnp.float32) - 1) ** 2)

    start = jnp.full(3, 0.5, jnp.float16)
    tx = tuned(optax.sgd)
    for state in tx.init(start), tuning(tx, start, 1e3):
        (x, _), (xs, _) = train(tx, loss, start, jnp.zeros(150), state)
        assert np.isfinite(np.asarray(xs, np.float32)).all()
        assert float(loss(x, 0)) < 1e-2 * float(loss(start, 0))


AFTER = {
    "clip": optax.clip_by_global_norm(0.1),
    "ema": optax.ema(0.9),
    "trace": optax.trace(0.9),
    "scale": optax.scale(0.1),
    "decay": optax.add_decayed_weights(1e-4),
}


@pytest.mark.parametrize("after", AFTER)
def test_transformations_after_it_are_seen(after):
    loss, _ = noisy_regression(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), 1500)
    chained = optax.chain(tuned(optax.adam), AFTER[after])
    assert final_loss(chained, loss, keys) < 0.05  # 0.01 is noise, 60 the first loss


def test_a_transformation_that_stops_all_updates_does_not_make_the_rate_run_away():
    loss, _ = noisy_regression(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), 200)
    chained = optax.chain(tuned(optax.adam), optax.scale(0.0))
    (x, state), _ = train(chained, loss, jnp.ones(8), keys)
    np.testing.assert_array_equal(x, 1)
    assert float(rate_of(state)) < 1


def test_without_the_loss_it_trains_too():
    loss, _ = noisy_regression(jax.random.key(0))
    tx = tuned(optax.adam)
    silent = optax.GradientTransformationExtraArgs(
        tx.init, lambda g, s, x, value: tx.update(g, s, x)
    )
    assert final_loss(silent, loss, jax.random.split(jax.random.key(3), 800)) < 0.02
    (_, state), _ = train(silent, loss, jnp.zeros(8), jax.random.split(jax.random.key(3), 30))
    np.testing.assert_array_equal(state.range_test.loss, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_rate_that_is_lost_in_rounding_grows(dtype):
    def loss(x, _):
        return jnp.sum((x.astype(jnp.float32) - 3) ** 2)

    tx, start = tuned(optax.adam), jnp.linspace(1.0, 2.0, 8, dtype=dtype)
    _, rounded = fed(tx, tx.init(start), start, [1.0, np.nan, np.nan], jnp.ones(8))
    assert float(rate_of(rounded)) < 1e-11  # two bad batches have ended the range test
    (x, state), _ = train(tx, loss, start, jnp.zeros(1200), rounded)
    assert float(loss(jd.averaged_params(state, x), 0)) < 1e-3 * float(loss(start, 0))


def test_setting_the_rate_ends_the_range_test():
    tx = tuned(optax.sgd)
    x, state = fed(tx, tx.init(X), X, [1.0] * 5)
    state = jd.set_hyperparams(state, {"learning_rate": 0.25})
    assert not bool(state.range_test.running)
    updates, _ = tx.update(G, state, x, value=1.0)
    np.testing.assert_allclose(updates, -0.25 * G, rtol=1e-6)
    assert bool(jd.set_hyperparams(tx.init(X), {}).range_test.running)


def test_a_range_test_goes_on_from_a_restored_state_and_over_agents():
    def loss(x, key):
        return jnp.sum((x - 0.1 * jax.random.normal(key, (3,))) ** 2)

    tx, keys = tuned(optax.adam), jax.random.split(jax.random.key(0), 60)
    whole, _ = train(tx, loss, X, keys)
    (x, state), _ = train(tx, loss, X, keys[:9])
    assert bool(state.range_test.running)
    restored = jax.tree.unflatten(
        jax.tree.structure(state), map(np.asarray, jax.tree.leaves(state))
    )
    split, _ = train(tx, loss, x, keys[9:], restored)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), whole, split)

    @jax.jit
    def final(x, guess):
        tx = jd.self_tuning(optax.adam, learning_rate=guess)
        return train(tx, loss, x, keys)[0]

    starts, guesses = jnp.stack([X, 2 * X]), jnp.array([1e-3, 1e-6])
    together = jax.vmap(final)(starts, guesses)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        alone = final(starts[i], guesses[i])
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), one, alone)


def test_the_path_does_not_depend_on_the_unit_or_the_origin_of_the_loss():
    loss, _ = noisy_regression(jax.random.key(2))
    keys = jax.random.split(jax.random.key(3), 150)
    tx = jd.self_tuning(partial(optax.adam, eps=0.0))

    def scaled(x, given):
        key, unit, origin = given
        return unit * loss(x, key) + origin

    def trained(unit, origin):
        given = keys, jnp.full(150, unit), jnp.full(150, origin)
        return train(tx, scaled, jnp.zeros(8), given)[0]

    x, state = trained(1.0, 0.0)
    for changed in trained(2.0**12, 0.0), trained(1.0, 100.0):
        np.testing.assert_allclose(x, changed[0], rtol=1e-3)
        np.testing.assert_allclose(rate_of(state), rate_of(changed[1]), rtol=1e-3)


def test_masked_leaves_have_no_average():
    params = {"a": X, "b": X}
    tx = optax.masked(tuned(optax.adam), {"a": True, "b": False})
    found = jd.averaged_params(tx.init(params), {"a": X, "b": 2 * X})
    np.testing.assert_array_equal(found["a"], X)
    np.testing.assert_array_equal(found["b"], 2 * X)


def test_integers_among_the_parameters_are_left_out():
    tx = tuned(optax.sgd)
    params = {"x": X, "n": jnp.arange(4), "none": None}
    state = tx.init(params)
    for _ in range(40):
        grads = {"x": params["x"], "n": jnp.zeros(4, int), "none": None}
        updates, state = tx.update(grads, state, params, value=jnp.sum(params["x"] ** 2) / 2)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["n"], jnp.arange(4))
    assert int(state.restarts) == 1


def test_a_function_may_return_a_tower_that_learns_another_hyperparameter():
    def tower_of(learning_rate):
        def adamw(weight_decay):
            return optax.adamw(learning_rate, weight_decay=weight_decay)

        return jd.hypergradient(adamw, optax.adam(0.05), tune={"weight_decay": 1e-3})

    tx, params = jd.self_tuning(tower_of), jnp.zeros(3)
    state = tx.init(params)
    for _ in range(150):
        updates, state = tx.update(
            2 * (params - 1), state, params, value=jnp.sum((params - 1) ** 2)
        )
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(jd.averaged_params(state, params), 1, atol=0.02)
    (level,) = jd.get_hyperparams(state.inner_state)
    assert level["weight_decay"] < 5e-4  # it would pull the parameters away from the minimum


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"learning_rate must be in \(0, inf\), got 0"):
        jd.self_tuning(optax.adam, learning_rate=0)
    with pytest.raises(ValueError, match="learning_rate must be a number, got "):
        jd.self_tuning(optax.adam, learning_rate=[1e-3, 1e-2])
    with pytest.raises(TypeError, match="factory must be a callable"):
        jd.self_tuning(optax.adam(1e-3))
    tower = jd.hypergradient(optax.adam, optax.adam(0.05), tune={"learning_rate": 1e-3})
    for each in (tower, jd.restart_on_divergence(tower)):
        with pytest.raises(
            TypeError, match=r"got a tower, .* a function of learning_rate that ret"
        ):
            jd.self_tuning(each)
    with pytest.raises(ValueError, match="learning_rate"):
        jd.self_tuning(lambda b1: optax.adam(1e-3, b1))
    with pytest.raises(ValueError, match="needs the value of a tuned hyperparameter in Python"):
        jd.self_tuning(lambda learning_rate: optax.adam(float(learning_rate)))
    for unused in (
        lambda learning_rate: optax.adam(1e-3),
        lambda learning_rate: optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate),
    ):
        with pytest.raises(ValueError, match="must depend on learning_rate, got an update"):
            jd.self_tuning(unused)
    tx = jd.self_tuning(optax.adam)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(G, tx.init(X), value=1.0)
    with pytest.raises(ValueError, match=r"value must be a scalar, got shape \(2,\)"):
        tx.update(G, tx.init(X), X, value=jnp.ones(2))
    with pytest.raises(ValueError, match="must hold one state"):
        jd.averaged_params(optax.adam(1e-3).init(X), X)


def test_explicitly_sharded_parameters_train():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.linspace(-1.0, 1.0, 8), jax.sharding.PartitionSpec("data"))

        def loss(x, _):
            return jnp.sum((x - 3) ** 2)

        (x, state), _ = train(tuned(optax.adam), loss, x, jnp.zeros(300))
        assert int(state.skipped) == 0
        assert float(loss(jd.averaged_params(state, x), 0)) < 0.1


def test_an_early_restart_does_not_return_to_parameters_that_have_diverged():
    curvatures, center = jnp.geomspace(1, 30, 12), jax.random.normal(jax.random.key(0), (12,))

    def loss(x, _):
        return 0.5 * jnp.sum(curvatures * (x - center) ** 2)

    tx, start = tuned(FACTORIES["sgd"]), jnp.ones(12)
    for rate in 0.3, 1.0:  # above the edge of stability
        (x, state), _ = train(tx, loss, start, jnp.zeros(400), tuning(tx, start, rate))
        assert int(state.restarts) >= 1
        assert loss(jd.averaged_params(state, x), None) < 1e-2 * loss(start, None)
