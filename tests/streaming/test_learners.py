"""Learners follow their published equations, in loops that were written by another route."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.streaming.rounds import error_of_linear, given, into_ball, play

GRADS = np.random.default_rng(0).normal(size=(30, 4))
START = np.array([0.3, -0.2, 0.0, 0.1])
BALL = functools.partial(optax.projections.projection_l2_ball, scale=0.5)
BOX = functools.partial(optax.projections.projection_box, lower=-0.2, upper=0.4)


@pytest.mark.parametrize(
    ("arguments", "step_size"),
    [
        ({"diameter": 2.0, "gradient_bound": 3.0}, lambda t: 2 / (3 * t**0.5)),
        ({"diameter": 2.0, "gradient_bound": 3.0, "horizon": 30}, lambda t: 2 / (3 * 30**0.5)),
        ({"strong_convexity": 4.0}, lambda t: 1 / (4 * t)),
    ],
)
@pytest.mark.parametrize(
    ("projection", "project"),
    [
        (None, lambda x: x),
        (BALL, lambda x: into_ball(x, 0.5)),
        (BOX, lambda x: np.clip(x, -0.2, 0.4)),
    ],
)
def test_gradient_descent_has_its_step_sizes_and_projects(
    arguments, step_size, projection, project
):
    tx = jd.streaming.online_gradient_descent(**arguments, projection=projection)
    w, expected = START, [START]
    for t, g in enumerate(GRADS, 1):
        w = project(w - step_size(t) * g)
        expected.append(w)
    np.testing.assert_allclose(play(tx, given, START, GRADS), expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "eta", "offset"),
    [
        ({"diameter": 1.0, "projection": BALL}, 0.5**0.5, 0.0),
        ({"learning_rate": 0.3, "offset": 2.0}, 0.3, 2.0),
    ],
)
def test_adagrad_norm_divides_by_the_norm_of_all_gradients(arguments, eta, offset):
    w, expected = START, [START]
    for t, g in enumerate(GRADS):
        w = w - eta * g / np.sqrt(offset**2 + np.sum(GRADS[: t + 1] ** 2))
        w = into_ball(w, 0.5) if "projection" in arguments else w
        expected.append(w)
    tx = jd.streaming.adagrad_norm(**arguments)
    np.testing.assert_allclose(play(tx, given, START, GRADS), expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (1.5, 0.0), (0.5, 2.0)])
def test_ftrl_proximal_minimizes_the_sum_of_its_history(l1, l2):
    alpha, beta = 0.3, 0.7
    expected = [np.zeros(4)]
    for t in range(1, len(GRADS) + 1):
        roots = np.sqrt(np.cumsum(GRADS[:t] ** 2, axis=0))
        sigmas = np.diff(roots, axis=0, prepend=0) / alpha
        # Minimizes <b, w> + a w^2 / 2 + l1 |w|, coordinate by coordinate.
        a = sigmas.sum(0) + beta / alpha + l2
        b = GRADS[:t].sum(0) - (sigmas * np.array(expected)).sum(0)
        expected.append(-np.sign(b) * np.maximum(np.abs(b) - l1, 0) / a)
    tx = jd.streaming.ftrl_proximal(alpha, beta=beta, l1=l1, l2=l2)
    points = play(tx, given, np.zeros(4), GRADS)
    np.testing.assert_allclose(points, expected, rtol=1e-11, atol=1e-14)
    assert l1 == 0 or np.mean(points[1:] == 0) > 0.1


def test_ftrl_proximal_without_penalties_is_gradient_descent_from_any_start():
    w, n, expected = START, np.zeros(4), [START]
    for g in GRADS:
        n = n + g**2
        w = w - 0.3 * g / (0.7 + np.sqrt(n))
        expected.append(w)
    tx = jd.streaming.ftrl_proximal(0.3, beta=0.7)
    np.testing.assert_allclose(play(tx, given, START, GRADS), expected, rtol=1e-11, atol=1e-14)


def test_ftrl_proximal_with_penalties_begins_at_the_initial_parameters():
    tx = jd.streaming.ftrl_proximal(l1=0.4, l2=2.0)
    points = play(tx, given, START, np.zeros((2, 4)))
    np.testing.assert_allclose(points[-1], START, rtol=1e-12)


def logistic_gradient(w, example):
    x, y = example
    return x * (jax.nn.sigmoid(jnp.sum(w * x)) - y)


def weights_in_river(optimizer, features, labels):
    river_models = pytest.importorskip("river.linear_model")
    model = river_models.LogisticRegression(optimizer, intercept_lr=0.0)
    found = [np.zeros(features.shape[1])]
    for x, y in zip(features, labels, strict=True):
        model.learn_one(dict(enumerate(x)), bool(y))
        found.append(np.array([model.weights[i] for i in range(len(x))]))
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "arguments", "tx"),
    [
        ("SGD", {"lr": 0.005}, jd.streaming.online_gradient_descent(0.005, 1.0, horizon=1)),
        ("FTRLProximal", {}, jd.streaming.ftrl_proximal(l2=1.0, river_compatible=True)),
        (
            "FTRLProximal",
            {"alpha": 0.5, "l1": 1.0, "l2": 0.1},
            jd.streaming.ftrl_proximal(0.5, l1=1.0, l2=0.1, river_compatible=True),
        ),
    ],
)
def test_weights_are_those_in_river(name, arguments, tx):
    optim = pytest.importorskip("river.optim")
    random = np.random.default_rng(3)
    features = random.normal(size=(60, 3))
    labels = random.random(60) < 1 / (1 + np.exp(-features @ [2.0, -1.0, 0.0]))
    expected = weights_in_river(getattr(optim, name)(**arguments), features, labels)
    found = play(tx, logistic_gradient, np.zeros(3), (features, labels.astype(float)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_the_published_ftrl_proximal_is_not_river_s():
    random = np.random.default_rng(3)
    data = random.normal(size=(60, 3)), (random.random(60) < 0.5).astype(float)
    points = [
        play(
            jd.streaming.ftrl_proximal(0.5, l1=1.0, river_compatible=river),
            logistic_gradient,
            np.zeros(3),
            data,
        )
        for river in (False, True)
    ]
    assert np.max(np.abs(points[0] - points[1])) > 0.01


def test_coin_betting_bets_its_wealth():
    bound, wealth = 1.5, 0.2
    coins = np.clip(-GRADS / bound, -1, 1)
    assert np.any(np.abs(GRADS) > bound)
    expected = [START]
    for t in range(1, len(GRADS) + 1):
        gains = np.sum(coins[:t] * (np.array(expected) - START), axis=0)
        expected.append(START + coins[:t].mean(0) * t / (t + 1) * (wealth + gains))
    tx = jd.streaming.coin_betting(bound, initial_wealth=wealth)
    np.testing.assert_allclose(play(tx, given, START, GRADS), expected, rtol=1e-11, atol=1e-14)


def test_coin_betting_equals_cocob_where_all_coins_fall_alike():
    grads = np.tile([0.5, -0.5], (20, 1))  # |g| is the bound, and no bet is lost
    kt = play(jd.streaming.coin_betting(0.5), given, np.zeros(2), grads)
    cocob = play(optax.contrib.cocob(alpha=1.0), given, np.zeros(2), grads)
    np.testing.assert_allclose(kt, cocob, rtol=1e-10)
    assert kt[-1, 1] > 1_000


EXAMPLES = (
    np.random.default_rng(1).normal(size=(40, 4)),
    3 * np.random.default_rng(2).normal(size=40),
)


@pytest.mark.parametrize("decay", [0.0, 0.63])
def test_obgd_bounds_its_step(decay):
    w, e, expected, bounded = START, np.zeros(4), [START], 0
    for x, y in zip(*EXAMPLES, strict=True):
        delta = y - w @ x
        e = decay * e + x
        m = 2.0 * max(abs(delta), 1) * np.abs(e).sum() * 0.1
        bounded += m > 1
        w = w + 0.1 / max(m, 1) * delta * e
        expected.append(w)
    tx = jd.streaming.obgd(0.1, discount=0.9, trace_decay=decay / 0.9)
    points = play(tx, error_of_linear, START, EXAMPLES)
    np.testing.assert_allclose(points, expected, rtol=1e-11)
    assert 3 < bounded < 37


@pytest.mark.parametrize("decay", [0.0, 0.63])
def test_intentional_follows_its_equations(decay):
    b2, clip_decay = 0.9, 0.95
    xs, ys = EXAMPLES
    w, expected, errors, effects, clipped = START, [START], [], [], 0
    for t, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        errors.append(y - w @ x)
        ages = np.arange(t)[::-1]

        def mean(values, decay, ages=ages):
            weights = np.where(ages > 0, decay**ages, 1.0)
            return np.tensordot(weights / weights.sum(), np.array(values), 1)

        s = np.sqrt(mean(xs[:t] ** 2, b2)) + 1e-8
        e = np.sum(np.where(ages > 0, decay**ages, 1.0)[:, None] * xs[:t], axis=0)
        effects.append(np.sum(x**2 / s))
        size = np.sqrt(mean(effects, decay) * np.sum(e**2 / s))
        limit = 1.2 * np.sqrt(mean(np.square(errors), clip_decay))
        clipped += abs(errors[-1]) > limit
        w = w + 0.3 / size * np.clip(errors[-1], -limit, limit) * e / s
        expected.append(w)
    tx = jd.streaming.intentional(
        0.3, discount=1.0, trace_decay=decay, b2=b2, clip=1.2, clip_decay=clip_decay
    )
    np.testing.assert_allclose(play(tx, error_of_linear, START, EXAMPLES), expected, rtol=1e-9)
    assert 2 < clipped < 38


def test_intentional_is_normalized_least_mean_squares_on_features_of_one_size():
    signs = np.where(EXAMPLES[0] > 0, 1.0, -1.0)
    w, expected = START, [START]
    for x, y in zip(signs, EXAMPLES[1], strict=True):
        w = w + 0.5 * (y - w @ x) * x / (x @ x)
        expected.append(w)
    points = play(jd.streaming.intentional(), error_of_linear, START, (signs, EXAMPLES[1]))
    np.testing.assert_allclose(points, expected, rtol=1e-6)  # s is 1 + 1e-8


def swift_td_step_by_step(features, rewards, discount, trace_decay, mu, eta, decay, floor, alpha):
    """Repeats the order of the published program: it learns when the next features arrive."""
    d = features.shape[1]
    w, z, p, z_bar, h, h_old, h_temp, z_delta, delta_w = np.zeros((9, d))
    beta, v_old, v_delta = np.full(d, np.log(alpha)), 0.0, 0.0
    weights, caps, floors = [], 0, 0
    for phi, reward in zip(features, rewards, strict=True):
        v = w @ phi
        delta = reward + discount * v - v_old
        delta_w = delta * z - z_delta * v_delta
        w = w + delta_w
        beta = beta + mu / (np.exp(beta) + 1e-8) * (delta - v_delta) * p
        floors += np.sum(beta < np.log(floor))
        beta = np.clip(beta, np.log(floor), np.log(eta))
        h_old, h = h, h_temp + delta * z_bar - z_delta * v_delta
        z, p, z_bar = (discount * trace_decay * x for x in (z, p, z_bar))
        v_delta, tau, b = delta_w @ phi, np.exp(beta) @ phi**2, z @ phi
        z_delta = min(1, eta / tau) * np.exp(beta) * phi
        z = z + z_delta * (1 - b)
        p = p + h_old * phi
        z_bar = z_bar + z_delta * (1 - b - z_bar * phi)
        h_temp = h - h_old * phi * (z - z_delta) - h * z_delta * phi
        if tau > eta:
            caps += 1
            h_temp, h, h_old, z_bar = np.zeros((4, d))
            beta = beta + np.log(decay) * phi**2
        v_old = v
        weights.append(w)
    return np.array(weights), caps, floors


@pytest.mark.parametrize(("discount", "trace_decay"), [(0.0, 0.0), (0.9, 0.8)])
def test_swift_td_equals_the_published_program(discount, trace_decay):
    features, rewards = EXAMPLES[0], EXAMPLES[1]
    constants = {"mu": 0.02, "eta": 0.3, "decay": 0.9, "floor": 0.01, "alpha": 0.05}
    expected, caps, floors = swift_td_step_by_step(
        features, rewards, discount, trace_decay, **constants
    )
    assert 1 < caps < 37
    assert floors > 0

    def features_and_error(w, row):
        phi, following, reward = row
        target = reward + discount * jnp.sum(w * following)
        return phi, {"error": target - jnp.sum(w * phi)}

    tx = jd.streaming.swift_td(
        0.05,
        meta_learning_rate=0.02,
        max_rate=0.3,
        min_learning_rate=0.01,
        decay=0.9,
        discount=discount,
        trace_decay=trace_decay,
    )
    # The program sees the reward of a step together with the next features.
    rows = features[:-1], features[1:], rewards[1:]
    points = play(tx, features_and_error, np.zeros(4), rows)
    np.testing.assert_allclose(points, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("capped", [False, True])
def test_swift_td_never_removes_more_than_its_share_of_an_error(capped):
    tx = jd.streaming.swift_td(1.0 if capped else 1e-3, max_rate=0.4)
    xs, ys = EXAMPLES
    points = play(tx, error_of_linear, START, EXAMPLES)
    errors = ys - np.sum(points[:-1] * xs, axis=1)
    shares = np.sum(np.diff(points, axis=0) * xs, axis=1) / errors
    assert np.all(shares <= 0.4 + 1e-12)
    assert np.all(shares > 0)
    assert (shares[0] > 0.4 - 1e-12) == capped


LEARNERS = {
    "online gradient descent": jd.streaming.online_gradient_descent(1.0, 2.0),
    "adagrad norm": jd.streaming.adagrad_norm(0.5),
    "ftrl proximal": jd.streaming.ftrl_proximal(),
    "coin betting": jd.streaming.coin_betting(),
    "ader": jd.streaming.ader(2.0, 2.0, horizon=20),
    "obgd": jd.streaming.obgd(discount=0.9, trace_decay=0.9),
    "intentional": jd.streaming.intentional(),
    "swift td": jd.streaming.swift_td(),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_round_that_is_not_finite_changes_nothing_and_is_counted(name, bad):
    tx, w = LEARNERS[name], jnp.ones(3)
    grads = jnp.array([1.0, -2.0, 0.5])
    _, state = tx.update(grads, tx.init(w), w, error=0.5)
    updates, after = tx.update(grads.at[1].set(bad), state, w, error=0.5)
    np.testing.assert_array_equal(updates, 0.0)
    assert int(after.skipped) == 1
    for new, old in zip(*map(jax.tree.leaves, (after[:-1], state[:-1])), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("name", ["obgd", "intentional", "swift td"])
def test_an_error_that_is_not_finite_changes_nothing_and_is_counted(name):
    tx, w = LEARNERS[name], jnp.ones(3)
    updates, state = tx.update(w, tx.init(w), w, error=jnp.nan)
    np.testing.assert_array_equal(updates, 0.0)
    assert int(state.skipped) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.online_gradient_descent(), r"diameter must be a number in \(0, inf\), got N"),
        (lambda s: s.online_gradient_descent(1.0, 0.0), r"gradient_bound must be a number in \(0"),
        (lambda s: s.online_gradient_descent(1.0, strong_convexity=1.0), "leave out one way"),
        (lambda s: s.adagrad_norm(), "exactly one of learning_rate and diameter"),
        (lambda s: s.adagrad_norm(1.0, diameter=1.0), "exactly one of learning_rate and diameter"),
        (lambda s: s.adagrad_norm(1.0, offset=-1.0), r"offset must be a number in \[0, inf\)"),
        (lambda s: s.ftrl_proximal(0.0), r"learning_rate must be a number in \(0, inf\), got 0.0"),
        (lambda s: s.ftrl_proximal(l1=-1.0), r"l1 must be a number in \[0, inf\), got -1.0"),
        (lambda s: s.ftrl_proximal(river_compatible=2), "river_compatible must be True or False"),
        (lambda s: s.coin_betting(initial_wealth=0), r"initial_wealth must be a number in \(0"),
        (lambda s: s.ader(1.0, 1.0, horizon=0), r"horizon must be an integer in \[1, 1073741824"),
        (lambda s: s.ader(1.0, 1.0, meta_rate="fast"), "meta_rate must be 'adaptive', 'constant'"),
        (lambda s: s.obgd(kappa=0.0), r"kappa must be a number in \(0, inf\), got 0.0"),
        (lambda s: s.obgd(discount=1.1), r"discount must be a number in \[0, 1\], got 1.1"),
        (lambda s: s.intentional(b2=1.0), r"b2 must be in \[0, 1\), got 1.0"),
        (lambda s: s.intentional(discount=1, trace_decay=1), r"discount \* trace_decay must be in"),
        (lambda s: s.swift_td(decay=1.5), r"decay must be in \(0, 1\], got 1.5"),
        (lambda s: s.swift_td(max_rate=-1.0), r"max_rate must be a number in \(0, inf\)"),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(jd.streaming)


@pytest.mark.parametrize("name", ["online_gradient_descent", "ader"])
def test_a_projection_must_be_a_function(name):
    with pytest.raises(TypeError, match="projection must be a function or None, got"):
        getattr(jd.streaming, name)(1.0, 1.0, projection=1.0)


def test_bad_updates_are_refused():
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="needs params"):
        LEARNERS["adagrad norm"].update(w, LEARNERS["adagrad norm"].init(w))
    tx = LEARNERS["obgd"]
    with pytest.raises(ValueError, match="needs error=, the target minus the prediction"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match=r"error must be a scalar, got shape \(2,\)"):
        tx.update(w, tx.init(w), w, error=w)
    tx = jd.streaming.ader(1.0, 1.0, surrogate=False)
    with pytest.raises(ValueError, match="needs value_fn"):
        tx.update(w, tx.init(w), w)
