"""Regret, its comparators, and each theorem's bound on random and adversarial sequences."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from scipy import optimize

import jaxdescent as jd

regret = jd.streaming.regret
ROUNDS, DIMENSION = 63, 3  # rounds: six whole epochs of an unknown horizon
RADIUS, BOUND = 1.5, 2.0
DIAMETER = 2 * RADIUS
BALL = functools.partial(optax.projections.projection_l2_ball, scale=RADIUS)
SLACK = 1e-9
ADVERSARIES = ("outward", "inward", "same", "alternating", "turning", "random", "pieces")


def loss_fn(w, target):
    return jnp.sum((w - target) ** 2) / 2


def test_comparators_of_linear_losses_are_the_best_points_of_the_ball():
    grads = np.random.default_rng(0).normal(size=(20, 3))
    center = np.array([1.0, 0.0, -2.0])
    found = regret.linear_comparators(grads, radius=0.7, center=center)
    sphere = np.random.default_rng(1).normal(size=(20_000, 3))
    sphere = center + 0.7 * sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    assert np.linalg.norm(found.fixed - center) == pytest.approx(0.7, rel=1e-6)
    best = np.min(sphere @ grads.sum(0))
    assert best - 1e-2 < float(found.fixed @ grads.sum(0)) <= best + 1e-5
    values = np.sum(np.asarray(found.moving) * grads, axis=1)
    assert np.all(values <= np.min(sphere @ grads.T, axis=0) + 1e-5)


@pytest.mark.parametrize("radius", [0.4, 10.0, np.inf])
def test_comparators_of_quadratic_losses_are_the_best_points_of_the_ball(radius):
    targets = np.random.default_rng(0).normal(size=(20, 2)) + 0.5
    found = regret.quadratic_comparators(targets, radius=radius)

    def nearest(points):
        within = {"type": "ineq", "fun": lambda w: min(radius, 1e3) ** 2 - w @ w}
        result = optimize.minimize(
            lambda w: np.sum((w - points) ** 2), np.zeros(2), constraints=within, tol=1e-12
        )
        return result.x

    np.testing.assert_allclose(found.fixed, nearest(targets), atol=1e-4)
    for point, target in zip(found.moving, targets, strict=True):
        np.testing.assert_allclose(point, nearest(target[None]), atol=1e-4)


def test_regret_is_the_sum_of_differences():
    points, targets = np.random.default_rng(2).normal(size=(2, 10, 3))
    losses = np.sum((points - targets) ** 2, 1) / 2
    static = regret.static_regret(loss_fn, points, targets, np.zeros(3))
    np.testing.assert_allclose(static, np.cumsum(losses - np.sum(targets**2, 1) / 2), rtol=1e-4)
    dynamic = regret.dynamic_regret(loss_fn, points, targets, targets)
    np.testing.assert_allclose(dynamic, np.cumsum(losses), rtol=1e-5)
    length = np.sum(np.linalg.norm(np.diff(targets, axis=0), axis=1))
    assert float(regret.path_length(targets)) == pytest.approx(length, rel=1e-6)
    tree = {"a": targets[:, :1], "b": targets[:, 1:]}
    assert float(regret.path_length(tree)) == pytest.approx(length, rel=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"grads must have the shape \[rounds, d\], got \(3,\)"):
        regret.linear_comparators(np.ones(3), radius=1.0)
    with pytest.raises(ValueError, match="comparators must have the shapes of points"):
        regret.dynamic_regret(loss_fn, np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="targets must be finite, got"):
        regret.quadratic_comparators(np.full((2, 2), np.nan), radius=1.0)
    with pytest.raises(TypeError, match="loss_fn must be a function, got 3"):
        regret.static_regret(3, np.ones(3), np.ones(3), 0.0)
    with pytest.raises(ValueError, match="the same leading axis of rounds"):
        regret.static_regret(loss_fn, np.ones((3, 2)), np.ones((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match="loss_fn must return a real scalar"):
        regret.dynamic_regret(lambda w, u: w - u, *[np.ones((3, 2))] * 3)
    bound = regret.ftrl_proximal_bound
    for wrong in ({"l1": -1}, {"l2": -1}, {"sums_of_squares": [-1]}, {"distances": [-1]}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got"):
            bound(**{"sums_of_squares": [1.0], "distances": [1.0], **wrong})
    with pytest.raises(TypeError, match="beta must be a real number"):
        bound([1.0], [1.0], beta="a")
    with pytest.raises(ValueError, match="offset must be at least 0, got -1"):
        regret.adagrad_norm_bound(1.0, diameter=1.0, offset=-1)
    with pytest.raises(ValueError, match="num_rounds must be at least 1, got 0"):
        regret.online_gradient_descent_bound(0, 1.0)
    with pytest.raises(ValueError, match="path_length must be at least 0, got -1"):
        regret.ader_bound(1, 1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="meta_rate must be 'adaptive' or 'constant', got 'decre"):
        regret.ader_bound(1, 1.0, 1.0, 0.0, meta_rate="decreasing")
    with pytest.raises(ValueError, match=r"num_rounds must be an integer in \[1, 5\], got 6"):
        regret.ader_bound(6, 1.0, 1.0, 0.0, horizon=5)


def adversary(kind, w, t, drawn):
    """Returns a gradient of at most the bound; some depend on the learner's last point."""

    def full(g):
        return BOUND * g / jnp.maximum(jnp.linalg.norm(g), 1e-9)

    first = jnp.zeros(DIMENSION).at[0].set(BOUND)
    choices = [
        lambda: full(-w + 1e-6 * drawn[0]),  # pushes to the boundary
        lambda: full(w + 1e-6 * drawn[0]),  # punishes every move
        lambda: full(drawn[0]),
        lambda: jnp.where(t % 2 == 0, first, -first),
        lambda: full(jnp.array([jnp.cos(0.3 * t), jnp.sin(0.3 * t), 0.0])),
        lambda: full(drawn[t]) * jnp.abs(jnp.tanh(drawn[t, 0])),
        lambda: full(drawn[t // 8]),
    ]
    return jax.lax.switch(kind, choices)


@functools.cache
def game(tx):
    """Returns a compiled game on linear losses: the points and the gradients."""

    @jax.jit
    def played(kind, drawn):
        def step(carry, t):
            w, state = carry
            g = adversary(kind, w, t, drawn)
            extra = {"value_fn": lambda x: jnp.sum(g * x)}
            updates, state = tx.update(g, state, w, **extra)
            return (optax.apply_updates(w, updates), state), (w, g)

        w = jnp.zeros(DIMENSION)
        return jax.lax.scan(step, (w, tx.init(w)), jnp.arange(ROUNDS))[1]

    return played


def play_against(tx, kind, seed):
    with jax.enable_x64(True):
        drawn = np.random.default_rng(seed).normal(size=(ROUNDS, DIMENSION))
        return map(np.asarray, game(tx)(jnp.int32(ADVERSARIES.index(kind)), drawn))


def static_regrets(points, grads):
    """Returns the regret against the best point of the ball, after each round."""
    best = RADIUS * np.linalg.norm(np.cumsum(grads, axis=0), axis=1)
    return np.cumsum(np.sum(points * grads, axis=1)) + best


sequences = hypothesis.given(kind=st.sampled_from(ADVERSARIES), seed=st.integers(0, 2**31))
some = hypothesis.settings(max_examples=40, deadline=None)
T = np.arange(1, ROUNDS + 1)
GRADIENT_DESCENT = jd.streaming.online_gradient_descent(DIAMETER, BOUND, projection=BALL)
OF_HORIZON = jd.streaming.online_gradient_descent(DIAMETER, BOUND, horizon=ROUNDS, projection=BALL)
ADAGRAD = jd.streaming.adagrad_norm(diameter=DIAMETER, projection=BALL)
FREE_ADAGRAD = jd.streaming.adagrad_norm(0.7, offset=1.0)
FTRL = jd.streaming.ftrl_proximal(0.6, l1=0.5, l2=0.1)
COINS = jd.streaming.coin_betting(BOUND, initial_wealth=0.3)
ADERS = {
    row: jd.streaming.ader(DIAMETER, BOUND, surrogate=row[0], meta_rate=row[1], horizon=row[2])
    for row in (
        (True, "adaptive", ROUNDS),
        (True, "adaptive", None),
        (True, "constant", ROUNDS),
        (False, "adaptive", None),
        (False, "constant", ROUNDS),
    )
}


@sequences
@some
def test_static_regret_of_projected_learners_is_within_each_bound(kind, seed):
    points, grads = play_against(GRADIENT_DESCENT, kind, seed)
    bounds = regret.online_gradient_descent_bound(T, DIAMETER, BOUND)
    assert np.all(static_regrets(points, grads) <= bounds + SLACK)

    points, grads = play_against(OF_HORIZON, kind, seed)
    bounds = regret.online_gradient_descent_bound(T, DIAMETER, BOUND, horizon=ROUNDS)
    assert np.all(static_regrets(points, grads) <= bounds + SLACK)

    points, grads = play_against(ADAGRAD, kind, seed)
    bounds = regret.adagrad_norm_bound(np.cumsum(np.sum(grads**2, 1)), diameter=DIAMETER)
    assert np.all(static_regrets(points, grads) <= bounds + SLACK)


@sequences
@some
def test_static_regret_of_learners_without_a_set_is_within_each_bound(kind, seed):
    points, grads = play_against(FREE_ADAGRAD, kind, seed)
    u = -RADIUS * grads.sum(0) / max(np.linalg.norm(grads.sum(0)), 1e-9)
    regrets = np.cumsum(np.sum((points - u) * grads, axis=1))
    farthest = np.maximum.accumulate(np.linalg.norm(points - u, axis=1))
    bounds = regret.adagrad_norm_bound(
        np.cumsum(np.sum(grads**2, 1)), diameter=farthest, learning_rate=0.7, offset=1.0
    )
    assert np.all(regrets <= bounds + SLACK)

    points, grads = play_against(FTRL, kind, seed)
    regrets = np.cumsum(np.sum((points - u) * grads, axis=1))
    bounds = regret.ftrl_proximal_bound(
        np.cumsum(grads**2, axis=0),
        np.maximum.accumulate(np.abs(points - u)),
        learning_rate=0.6,
        l1=0.5,
        l2=0.1,
        comparator=u,
    )
    assert np.all(regrets <= bounds + SLACK)

    points, grads = play_against(COINS, kind, seed)
    regrets = np.cumsum(np.sum((points - u) * grads, axis=1))
    bounds = regret.coin_betting_bound(T, np.abs(u), gradient_bound=BOUND, initial_wealth=0.3)
    assert np.all(regrets <= bounds + SLACK)


def comparator_sequences(grads, seed):
    """Returns sequences of points of the ball: fixed, jumping, drifting, and the best ones."""
    random = np.random.default_rng(seed)
    jumps = np.repeat(random.normal(size=(8, DIMENSION)), 8, axis=0)[:ROUNDS]
    walk = np.cumsum(0.1 * random.normal(size=(ROUNDS, DIMENSION)), axis=0)
    clipped = [
        x * np.minimum(1, RADIUS / np.linalg.norm(x, axis=1, keepdims=True)) for x in (jumps, walk)
    ]
    total = grads.sum(0)
    fixed = -RADIUS * total / max(np.linalg.norm(total), 1e-9)
    moving = -RADIUS * grads / np.maximum(np.linalg.norm(grads, axis=1, keepdims=True), 1e-9)
    return [*clipped, np.tile(fixed, (ROUNDS, 1)), moving]


def length_of(path):
    return np.sum(np.linalg.norm(np.diff(path, axis=0), axis=1))


@sequences
@hypothesis.settings(max_examples=25, deadline=None)
def test_dynamic_regret_is_within_each_bound(kind, seed):
    points, grads = play_against(OF_HORIZON, kind, seed)
    eta = DIAMETER / (BOUND * np.sqrt(ROUNDS))
    for u in comparator_sequences(grads, seed):
        bound = regret.dynamic_gradient_descent_bound(
            ROUNDS, DIAMETER, BOUND, length_of(u), step_size=eta
        )
        assert np.sum((points - u) * grads) <= bound + SLACK

    for (surrogate, meta_rate, horizon), tx in ADERS.items():
        points, grads = play_against(tx, kind, seed)
        arguments = {"surrogate": surrogate, "meta_rate": meta_rate, "horizon": horizon}
        for u in comparator_sequences(grads, seed):
            bound = regret.ader_bound(ROUNDS, DIAMETER, BOUND, length_of(u), **arguments)
            assert np.sum((points - u) * grads) <= bound + SLACK


@hypothesis.given(seed=st.integers(0, 2**31))
@hypothesis.settings(max_examples=20, deadline=None)
def test_regret_on_strongly_convex_losses_grows_like_a_logarithm(seed):
    targets = jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, size=(ROUNDS, 3)))
    points = strongly_convex_points(targets)
    best = regret.quadratic_comparators(targets, RADIUS).fixed
    found = float(regret.static_regret(loss_fn, points, targets, best)[-1])
    bound = float(
        regret.online_gradient_descent_bound(
            ROUNDS, gradient_bound=RADIUS + 3**0.5, strong_convexity=1.0
        )
    )
    assert found <= bound
    # The step sizes 1 / t make each point the mean of the targets before it.
    means = np.cumsum(targets, axis=0) / T[:, None]
    np.testing.assert_allclose(points[1:], means[:-1], atol=1e-5)


@jax.jit
def strongly_convex_points(targets):
    tx = jd.streaming.online_gradient_descent(strong_convexity=1.0)

    def step(carry, target):
        w, state = carry
        updates, state = tx.update(w - target, state, w)
        return (optax.apply_updates(w, updates), state), w

    w = jnp.zeros(3)
    return jax.lax.scan(step, (w, tx.init(w)), targets)[1]


def test_bounds_have_their_published_values():
    bound = regret.ader_bound(4000, 2.0, 2.0, 10.0, horizon=4000, meta_rate="constant")
    experts = 3 * 2 / 4 * np.sqrt(2 * 4000 * (7 * 4 + 4 * 2 * 10))
    k = int(np.floor(0.5 * np.log2(1 + 4 * 10 / 14))) + 1
    assert bound == pytest.approx(experts + 2 * 2 * np.sqrt(8000) / 2 * (1 + 2 * np.log(k + 1)))
    adaptive = regret.ader_bound(4000, 2.0, 2.0, 10.0, horizon=4000)
    mixing = np.sqrt(5 / 4 * 4000) * 2 * 2 * (1 + 2 * np.log(k + 1))  # differences up to D G
    assert adaptive == pytest.approx(experts + mixing)
    known = regret.ader_bound(7, 1.0, 1.0, 1.0)
    parts = [regret.ader_bound(h, 1.0, 1.0, 1.0, horizon=h) for h in (1, 2, 4)]
    assert known == pytest.approx(sum(parts))
    assert regret.coin_betting_bound(50, [2.0, 0.0]) == pytest.approx(
        2 * np.sqrt(50 * np.log(1 + 24 * 2500 * 4)) + 2
    )
