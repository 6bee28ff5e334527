"""The inequalities of `jaxdescent/towers/THEORY.md`, checked on running towers.

Losses are convex and smooth, with known constants; all numbers are float64. Numbers in
brackets refer to the page.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

STEPS = 400
SLACK = 1e-9  # of rounding


class Problem(NamedTuple):
    """A convex loss of x in R^n with its minimizer and the bounds of its curvature."""

    data: tuple
    start: np.ndarray
    minimizer: np.ndarray
    smoothness: float
    strong_convexity: float


def quadratic(x, move, matrix):
    """f(x + move) - f(x), without the cancellation of the two."""
    return move @ matrix @ (x + 0.5 * move)


def logistic(x, move, inputs, signs):
    """The same for f = mean log(1 + exp(-signs * inputs x))."""
    now, change = -signs * (inputs @ x), -signs * (inputs @ move)
    return jnp.mean(jnp.log1p(jax.nn.sigmoid(now) * jnp.expm1(change)))


def slope(loss, x, data):
    return jax.grad(loss, 1)(x, jnp.zeros_like(x), *data)


def random_quadratic(seed, largest):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    curvatures = largest * np.geomspace(1 / (10 * seed), 1, 8)
    matrix = (basis * curvatures) @ basis.T
    return Problem((matrix,), rng.normal(size=8), np.zeros(8), largest, curvatures[0])


def random_logistic(seed, scale):
    """Labels at random, so that no plane parts them and there is a minimizer."""
    rng = np.random.default_rng(seed)
    inputs = scale * rng.normal(size=(60, 5)) * np.geomspace(0.03, 1, 5)
    data = inputs, rng.choice([-1.0, 1.0], size=60)
    smoothness = np.linalg.norm(inputs, 2) ** 2 / (4 * 60)
    with jax.enable_x64(True):
        of = jax.jit(lambda x: slope(logistic, x, data))
        x = jnp.zeros(5)
        for _ in range(20):
            x = x - jnp.linalg.solve(jax.jacobian(of)(x), of(x))
        assert float(jnp.linalg.norm(of(x))) < 1e-14
    return Problem(data, 3 * rng.normal(size=5) / scale, np.asarray(x), smoothness, 0.0)


PROBLEMS = {
    "flat quadratic": (quadratic, random_quadratic, 1, 0.2),
    "steep quadratic": (quadratic, random_quadratic, 5, 30.0),
    "logistic": (logistic, random_logistic, 0, 1.0),
    "logistic, large inputs": (logistic, random_logistic, 1, 6.0),
}


@cache
def loss_and_problem(name):
    loss, draw, *arguments = PROBLEMS[name]
    return loss, draw(*arguments)


every_problem = pytest.mark.parametrize("name", PROBLEMS)


def interval(high):
    """The space of a rate that is learned as it is, within [0, high]."""

    class Interval(NamedTuple):
        value: jax.Array

        def natural(self):
            return self.value

        @classmethod
        def at(cls, name, natural):
            return cls(natural)

        def clamp(self):
            return Interval(jnp.clip(self.value, 0.0, high))

    return Interval


class Path(NamedTuple):
    """The path of a tower: `x` and `g` f64[k, n], `rate` f64[k] or f64[k, n] of each step."""

    x: jax.Array
    g: jax.Array
    rate: jax.Array


@partial(jax.jit, static_argnames=("loss", "normalized", "leaves"))
def path(loss, problem, rate, eta, normalized=True, leaves=False):
    """Runs a tower of descent; with `leaves` each coordinate is a leaf with its own rate."""
    space = interval(2 / problem.smoothness)
    start = jd.per_leaf(space(0.0)) if leaves else space(rate)
    tx = jd.hypergradient(optax.sgd, optax.sgd(eta), tune={"learning_rate": start})
    split = (lambda x: list(x)) if leaves else (lambda x: x)
    join = (lambda x: jnp.stack(x)) if leaves else (lambda x: x)

    def step(carry, _):
        x, state, last = carry
        g = slope(loss, x, problem.data)
        signal = g / jnp.sum(last**2) if normalized else g
        updates, state = tx.update(split(g), state, split(x), outer_grads=split(signal))
        learned = jd.get_hyperparams(state)[0]["learning_rate"]
        return (x + join(updates), state, g), Path(x, g, join(learned))

    x = problem.start
    state = tx.init(split(x))
    if leaves:
        state = jd.set_hyperparams(state, {"learning_rate": rate})
    return jax.lax.scan(step, (x, state, jnp.ones_like(x)), length=STEPS)[1]


def feedback(loss, problem, steps, rate):
    """h_k of every step: at one rate for all, or at one for each."""
    rates = jnp.broadcast_to(jnp.asarray(rate), steps.rate.shape)
    moves = -(rates if rates.ndim > 1 else rates[:, None]) * steps.g
    changes = jax.vmap(lambda x, move: loss(x, move, *problem.data))(steps.x, moves)
    return changes / jnp.sum(steps.g**2, 1)


@partial(jax.jit, static_argnames=("loss", "normalized"))
def regrets(loss, problem, steps, rate, eta, candidates, normalized=True):
    """Returns regret after each step and its bound (4), f64[candidates, k] each."""
    # The tower minimizes h_k in each step, or |g_k|^2 h_k without the division.
    weight = 1.0 if normalized else jnp.sum(steps.g**2, 1)
    own = weight * feedback(loss, problem, steps, steps.rate)
    others = weight * jax.vmap(partial(feedback, loss, problem, steps))(candidates)

    def of_rates(rates):
        return jnp.sum(weight * feedback(loss, problem, steps._replace(rate=rates), rates))

    slopes = jax.grad(of_rates)(steps.rate).reshape(STEPS, -1)
    apart = jnp.sum((rate - candidates).reshape(len(candidates), -1) ** 2, 1)
    allowed = apart[:, None] / (2 * eta) + eta / 2 * jnp.cumsum(jnp.sum(slopes**2, 1))
    return jnp.cumsum(own - others, 1), allowed


def settings(problem):
    """Returns starts from zero to the clamp, with hyper-rates around the value in (5)."""
    high = 2 / problem.smoothness
    return [
        (start * high, eta * high / np.sqrt(STEPS))
        for start in (0.0, 1e-6, 0.5, 1.0)
        for eta in (0.1, 1.0, 10.0)
    ]


def rates_in_hindsight(problem):
    return np.linspace(0, 2, 21) / problem.smoothness


@every_problem
def test_the_signal_is_the_slope_of_the_feedback_at_the_rate_that_was_used(name):
    loss, problem = loss_and_problem(name)
    with jax.enable_x64(True):
        eta = 1e-3 / problem.smoothness
        steps = path(loss, problem, 0.3 / problem.smoothness, eta)

        def one(rate, x, g):
            return loss(x, -rate * g, *problem.data) / jnp.sum(g**2)

        slopes = jax.vmap(jax.grad(one))(steps.rate, steps.x, steps.g)
        np.testing.assert_allclose(np.diff(steps.rate), -eta * slopes[:-1], rtol=1e-6)
        assert float(jnp.abs(slopes).max()) <= 1  # (3)
        assert float(jnp.abs(slopes).max()) > 0.5


@pytest.mark.parametrize("normalized", [True, False])
@every_problem
def test_regret_stays_below_the_bound_of_online_descent(name, normalized):  # (4)
    loss, problem = loss_and_problem(name)
    candidates = rates_in_hindsight(problem)
    with jax.enable_x64(True):
        for rate, eta in settings(problem):
            steps = path(loss, problem, rate, eta, normalized=normalized)
            regret, allowed = regrets(
                loss, problem, steps, rate, eta, candidates, normalized=normalized
            )
            assert np.all(regret <= allowed * (1 + SLACK) + SLACK / problem.smoothness)


@every_problem
def test_regret_grows_with_the_root_of_the_steps(name):  # (5)
    loss, problem = loss_and_problem(name)
    high = 2 / problem.smoothness
    eta = high / np.sqrt(STEPS)
    with jax.enable_x64(True):
        for rate in (0.0, 1e-6 * high, high):
            steps = path(loss, problem, rate, eta)
            regret, _ = regrets(loss, problem, steps, rate, eta, rates_in_hindsight(problem))
            assert np.all(regret[:, -1] <= high * np.sqrt(STEPS))


@pytest.mark.parametrize("name", ["flat quadratic", "logistic"])
def test_regret_of_a_rate_for_each_leaf_obeys_the_same_bound(name):  # (4), with vectors
    loss, problem = loss_and_problem(name)
    rng = np.random.default_rng(3)
    candidates = rng.uniform(0, 2 / problem.smoothness, size=(10, len(problem.start)))
    with jax.enable_x64(True):
        rate, eta = 0.5 / problem.smoothness, 0.1 / problem.smoothness
        steps = path(loss, problem, rate, eta, leaves=True)
        assert steps.rate.shape == steps.x.shape
        assert np.std(steps.rate[-1]) > 1e-3 * rate
        regret, allowed = regrets(loss, problem, steps, rate, eta, candidates)
        assert np.all(regret <= allowed * (1 + SLACK))


def gaps(loss, problem, steps):
    """f(x_k) - f(x*) after each number of steps, of the losses along a path."""
    best = problem.minimizer
    return jax.vmap(lambda x: loss(best, x - best, *problem.data))(steps.x)


def bounds(loss, problem, steps):
    """Returns the bounds (6), and (7) with (5) at the best fixed rate; f64[k] each, k from 1."""
    squared = np.sum((problem.start - problem.minimizer) ** 2)
    first = squared / gaps(loss, problem, steps)[0]
    own = jnp.cumsum(-feedback(loss, problem, steps, steps.rate))
    candidates = rates_in_hindsight(problem)
    best = jnp.max(jnp.cumsum(-jax.vmap(partial(feedback, loss, problem, steps))(candidates), 1), 0)
    regret = 2 * np.sqrt(STEPS) / problem.smoothness
    by_regret = first + best - regret
    return squared / (first + own), jnp.where(by_regret > 0, squared / by_regret, jnp.inf)


@every_problem
def test_the_loss_falls_as_fast_as_the_bounds_say(name):  # (3), (6), (7), (8)
    loss, problem = loss_and_problem(name)
    high = 2 / problem.smoothness
    with jax.enable_x64(True):
        for rate in (0.0, 1e-6 * high, high):
            steps = path(loss, problem, rate, high / np.sqrt(STEPS))
            gap = gaps(loss, problem, steps)
            played = feedback(loss, problem, steps, steps.rate)
            at_one_over_l = feedback(loss, problem, steps, 1 / problem.smoothness)
            assert np.all(played <= SLACK * high)
            assert np.all(at_one_over_l <= -(1 - 1e-6) / (2 * problem.smoothness))
            by_feedback, by_regret = bounds(loss, problem, steps)
            assert np.all(gap[1:] <= by_feedback[:-1] * (1 + SLACK))
            assert np.all(gap[1:] <= by_regret[:-1] * (1 + SLACK))
            assert by_regret[-1] < gap[0]  # it says something
            contraction = jnp.exp(2 * problem.strong_convexity * jnp.cumsum(played))
            assert np.all(gap[1:] <= gap[0] * contraction[:-1] * (1 + SLACK) + 1e-15)


@every_problem
def test_a_signal_of_the_wrong_sign_breaks_the_bounds(name):
    loss, problem = loss_and_problem(name)
    high = 2 / problem.smoothness
    rate, eta = 0.25 * high, high / np.sqrt(STEPS)
    with jax.enable_x64(True):
        steps = path(loss, problem, rate, -eta)
        regret, allowed = regrets(loss, problem, steps, rate, eta, rates_in_hindsight(problem))
        assert np.any(regret > 1.5 * allowed)
        assert np.any(regret[:, -1] > 1.5 * high * np.sqrt(STEPS))
        _, by_regret = bounds(loss, problem, steps)
        assert gaps(loss, problem, steps)[-1] > 1.1 * by_regret[-1]
