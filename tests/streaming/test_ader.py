"""Ader and Ader++ follow their equations, at each rate of the experts' weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.streaming.learners.ader import Epochs, num_experts
from tests.streaming.rounds import given, into_ball, play

TARGETS = np.repeat(0.5 * np.random.default_rng(4).normal(size=(5, 3)), [8, 3, 9, 4, 16], axis=0)
CENTER = np.array([0.1, -0.2, 0.0])
DIAMETER, BOUND = 2.0, 3.0


def quadratic_gradient(w, target):
    return w - target


def quadratic_gradient_and_loss(w, target):
    return w - target, {"value_fn": lambda x: jnp.sum((x - target) ** 2) / 2}


def in_numpy(targets, horizon, *, surrogate, meta_rate, start, center):
    """Returns the points of a known horizon; weights from the sums of all losses so far."""
    n = int(np.ceil(0.5 * np.log2(1 + 4 * horizon / 7))) + 1
    i = np.arange(1, n + 1)
    etas = 2.0 ** (i - 1) * DIAMETER / BOUND * np.sqrt(7 / (2 * horizon))
    prior = (n + 1) / (n * i * (i + 1))
    experts, totals, gap, weighted = np.tile(start, (n, 1)), np.zeros(n), 0.0, np.zeros(n)
    points = [start]
    for t, target in enumerate(targets, 1):
        g = points[-1] - target
        losses = (experts - points[-1]) @ g
        steps = np.tile(g, (n, 1))
        if not surrogate:
            losses, steps = np.sum((experts - target) ** 2, 1) / 2, experts - target

        def mix_loss(totals, rate):
            lowest = totals.min()
            return lowest - np.log(np.sum(prior * np.exp(-rate * (totals - lowest)))) / rate

        rate = 1 / max(gap, 1e-100)
        p = prior * np.exp(-rate * (totals - totals.min()))
        gap += losses @ p / p.sum() - (mix_loss(totals + losses, rate) - mix_loss(totals, rate))
        totals = totals + losses
        weighted = weighted + losses / (DIAMETER * BOUND * np.sqrt(t))
        rate = {
            "adaptive": 1 / max(gap, 1e-100),
            "constant": np.sqrt((2 if surrogate else 8) / horizon) / (DIAMETER * BOUND),
            "decreasing": 1.0,
        }[meta_rate]
        sums = weighted if meta_rate == "decreasing" else totals
        experts = experts - etas[:, None] * steps
        experts = np.array([center + into_ball(x - center, DIAMETER / 2) for x in experts])
        p = prior * np.exp(-rate * (sums - sums.min()))
        points.append(p / p.sum() @ experts)
    return np.array(points)


@pytest.mark.parametrize("surrogate", [True, False])
@pytest.mark.parametrize("meta_rate", ["adaptive", "constant", "decreasing"])
def test_a_known_horizon(meta_rate, surrogate):
    tx = jd.streaming.ader(DIAMETER, BOUND, horizon=40, surrogate=surrogate, meta_rate=meta_rate)
    gradient = quadratic_gradient if surrogate else quadratic_gradient_and_loss
    expected = in_numpy(
        TARGETS, 40, surrogate=surrogate, meta_rate=meta_rate, start=CENTER, center=CENTER
    )
    points = play(tx, gradient, CENTER, TARGETS)
    np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-9)
    assert np.max(np.linalg.norm(points - CENTER, axis=1)) <= DIAMETER / 2 + 1e-12


@pytest.mark.parametrize("meta_rate", ["adaptive", "decreasing"])
def test_an_unknown_horizon_begins_anew_after_each_power_of_two(meta_rate):
    tx = jd.streaming.ader(DIAMETER, BOUND, meta_rate=meta_rate)
    expected, done = [CENTER], 0
    for horizon in (1, 2, 4, 8, 16, 32):
        points = in_numpy(
            TARGETS[done : done + horizon],
            horizon,
            surrogate=True,
            meta_rate=meta_rate,
            start=expected[-1],
            center=CENTER,
        )
        expected.extend(points[1:])
        done += horizon
    points = play(tx, quadratic_gradient, CENTER, TARGETS)
    np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-9)


def test_experts_that_agree_do_not_change_the_adaptive_rate():
    tx = jd.streaming.ader(2.0, 2.0, horizon=4000, surrogate=False)
    w = jnp.array([0.1, 0.7])
    _, state = tx.update(w, tx.init(w), w, value_fn=lambda x: jnp.sum(jnp.sin(x)))
    assert float(state.mixing) == 0


def test_a_projection_replaces_the_ball():
    box = functools.partial(optax.projections.projection_box, lower=0.0, upper=0.25)
    tx = jd.streaming.ader(2.0, 1.0, horizon=30, projection=box)
    points = play(tx, given, np.array([0.1, 0.1]), np.tile([1.0, -1.0], (30, 1)))
    np.testing.assert_allclose(points[-1], [0.0, 0.25], atol=1e-9)
    assert tx.init(jnp.zeros(2)).center == ()


def test_trees_are_followed_like_one_vector():
    tx = jd.streaming.ader(DIAMETER, BOUND, horizon=40)
    tree = {"a": jnp.asarray(CENTER[:1]), "b": jnp.asarray(CENTER[1:].reshape(2, 1))}
    state = tx.init(tree)
    for target in TARGETS[:12]:
        targets = {"a": target[:1], "b": target[1:].reshape(2, 1)}
        updates, state = tx.update(jax.tree.map(jnp.subtract, tree, targets), state, tree)
        tree = optax.apply_updates(tree, updates)
    expected = play(tx, quadratic_gradient, CENTER, TARGETS[:12])[-1]
    found = np.concatenate([np.ravel(tree["a"]), np.ravel(tree["b"])])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_grid_covers_every_speed():
    assert [num_experts(h) for h in (1, 10, 4000, 2**30)] == [2, 3, 7, 16]
    epochs = Epochs(None)
    for done in (0, 1, 2, 3, 7, 8, 1_000_000, 2**31 - 2):
        count = jnp.int32(done)
        horizon = int(epochs.horizon(count))
        assert horizon == 2 ** ((done + 1).bit_length() - 1)
        assert int(epochs.round(count)) == done + 2 - horizon
        prior = np.exp(np.asarray(epochs.log_prior(count, jnp.zeros(1))))
        assert np.sum(prior) == pytest.approx(1, rel=1e-5)
        assert np.sum(prior > 0) == num_experts(horizon)
