"""Optimizers of the league that optax lacks equal a transcription of their equations in float64."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from experiments.__main__ import main
from experiments.studies import league
from experiments.studies.league import candidates
from experiments.studies.league.budget import within_budget
from experiments.studies.league.candidates import Entry
from experiments.studies.league.osgm_best import SETTLED, best_params, osgm_best
from experiments.studies.league.schedule_free_plus import schedule_free_plus
from experiments.studies.league.standings import Standing
from tests.experiments.tuning.test_trials import trial_result

CURVATURES = np.array([0.5, 2.0, 7.0])
START = np.array([1.0, -2.0, 0.5])


def loss(x):
    return 0.5 * np.sum(CURVATURES * x**2) + 0.3


def trained(tx, steps):
    """Returns the parameters in the loop and the states, after each step on a quadratic."""
    params = {"w": jnp.asarray(START[:2]), "b": jnp.asarray(START[2:])}
    curvatures = {"w": jnp.asarray(CURVATURES[:2]), "b": jnp.asarray(CURVATURES[2:])}

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(jnp.multiply, curvatures, params)
        value = 0.5 * optax.tree.vdot(grads, params) + 0.3
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state, found = tx.init(params), []
    for _ in range(steps):
        params, state = step(params, state)
        found.append((np.concatenate([params["w"], params["b"]]), params, state))
    return found


def schedule_free_plus_in_numpy(steps, b_max=0.9, anneal=0, decay=0.0, r=0.0, b_size=0.0, skip=0):
    b1, b2, b_sf, eps = 0.9, 0.95, 0.9, 1e-8
    x, y, z = START.copy(), START.copy(), START.copy()
    m, v, e, largest, total = np.zeros(3), np.zeros(3), 0.0, eps, 0.0
    found = []
    for t in range(1, steps + 1):
        done = min((t - 1) / anneal, 1) if anneal else 0.0
        beta = 1 - (1 - b_sf) ** (1 - done) * (1 - b_max) ** done
        g, value = CURVATURES * y, loss(y)
        e = b_size * e + (1 - b_size) * np.abs(g).sum() * math.sqrt(math.pi / 2)
        a = max(0.0, value + beta * g @ (z - x)) / (e / (1 - b_size**t))
        largest = max(largest, a)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        z = z - a**2 * decay * y
        z = z - a * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        c = 1.0
        if t > skip:
            weight = t**r * largest**2
            total += weight
            c = weight / total
        x = (1 - c) * x + c * z
        y = beta * x + (1 - beta) * z
        found.append((x, y))
    return found


@pytest.mark.parametrize(
    ("keywords", "numpy_keywords"),
    [
        ({}, {}),
        (
            {
                "b_max": 0.965,
                "anneal_steps": 7,
                "weight_decay": 0.5,
                "r": 2.0,
                "b_size": 0.8,
                "average_from": 3,
            },
            {"b_max": 0.965, "anneal": 7, "decay": 0.5, "r": 2.0, "b_size": 0.8, "skip": 3},
        ),
    ],
)
def test_schedule_free_plus_follows_its_equations(keywords, numpy_keywords):
    expected = schedule_free_plus_in_numpy(30, **numpy_keywords)
    with jax.enable_x64(True):
        found = trained(schedule_free_plus(**keywords), 30)
    for (y, _, state), (expected_x, expected_y) in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, expected_y, rtol=1e-9, atol=1e-12)
        x = np.concatenate([state.x["w"], state.x["b"]])
        np.testing.assert_allclose(x, expected_x, rtol=1e-9, atol=1e-12)


def test_with_a_constant_step_size_it_is_schedule_free_adamw():
    # The loss is chosen so that the Polyak step size is 0.01 in every step.
    constant = contrib.schedule_free_adamw(0.01, b2=0.95)
    plus = schedule_free_plus(b1=0.0)
    y, expected = jnp.asarray(START), jnp.asarray(START)
    with jax.enable_x64(True):
        y, expected = jnp.asarray(START), jnp.asarray(START)
        state, expected_state = plus.init(y), constant.init(expected)
        for _ in range(10):
            grads = CURVATURES * y
            size = jnp.abs(grads).sum() * math.sqrt(math.pi / 2)
            value = 0.01 * size - 0.9 * grads @ (state.z - state.x)
            updates, state = plus.update(grads, state, y, value=value)
            y = y + updates
            updates, expected_state = constant.update(
                CURVATURES * expected, expected_state, expected
            )
            expected = expected + updates
        evaluated = contrib.schedule_free_eval_params(expected_state, expected)
    np.testing.assert_allclose(y, expected, rtol=1e-9)
    np.testing.assert_allclose(state.x, evaluated, rtol=1e-9)


def test_schedule_free_plus_makes_no_step_at_a_zero_gradient():
    tx, x = schedule_free_plus(), jnp.ones(2)
    updates, state = tx.update(jnp.zeros(2), tx.init(x), x, value=1.0)
    np.testing.assert_array_equal(updates, 0.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def osgm_best_in_numpy(steps, smoothness):
    x, old = START.copy(), START.copy()
    p, squares, beta, beta_squares, rate = np.zeros(3), np.zeros(3), 0.95, 0.0, 1 / smoothness
    value, g, found = loss(START), CURVATURES * START, []
    for t in range(1, steps + 1):
        y, d = x - p * g + beta * (x - old), x - old
        gy, old = CURVATURES * y, x
        q, b = gy * g / (g @ g + 1e-12), gy @ d / (g @ g + 1e-12)
        squares, beta_squares = squares + q**2, beta_squares + b**2
        p = np.clip(p + rate * q / (np.sqrt(squares) + 1e-12), 0, 1e5 / smoothness)
        step = min(1.0, smoothness) * b / (math.sqrt(beta_squares) + 1e-12)
        beta = min(max(beta - step, 0.0), 0.9995)
        if loss(y) <= value:
            x, value, g = y, loss(y), gy
        if t % 50 == 49:
            rate = max(0.8 * rate, 1e-3 / smoothness)
        found.append((x, y))
    return found


def test_osgm_best_follows_its_equations():
    with jax.enable_x64(True):
        found = trained(osgm_best(), 4 + 60)
        trees = [best_params(state, params) for _, params, state in found]
        accepted = [np.concatenate([tree["w"], tree["b"]]) for tree in trees]
        smoothness = float(found[3][2].smoothness)
    assert 0.5 <= smoothness <= 7.0
    distances = [np.linalg.norm(found[i][0] - START) for i in range(3)]
    np.testing.assert_allclose(distances, 1e-4, rtol=1e-6)
    expected = osgm_best_in_numpy(60, smoothness)
    rejected = 0
    for i, (x, y) in enumerate(expected):
        np.testing.assert_allclose(found[3 + i][0], y, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(accepted[4 + i], x, rtol=1e-7, atol=1e-12)
        rejected += bool(np.any(x != y))
    assert 0 < rejected < 60


def test_osgm_best_estimates_the_smoothness_anew_when_the_loss_keeps_falling():
    tx, x = osgm_best(), jnp.array([1.0, -1.0])
    state = tx.init(x)._replace(
        x=x,
        value=jnp.asarray(2.0),
        grads=jnp.array([0.5, 0.0]),
        count=jnp.asarray(500),
        smoothness=jnp.asarray(4.0),
        rate=jnp.asarray(0.01),
        balance=jnp.asarray(SETTLED),
        curvature_sum=jnp.asarray(5.0),
        curvature_count=jnp.asarray(2),
        p_squares=jnp.ones(2),
    )
    # From x to y the gradient changes by 1 over a distance of 1: the mean of curvatures is 2.
    y, grads = jnp.array([2.0, -1.0]), jnp.array([1.5, 0.0])
    _, after = tx.update(grads, state, y, value=1.0)
    assert bool(after.settled)
    assert float(after.smoothness) == pytest.approx(2.0)
    assert float(after.rate) == pytest.approx(0.5)
    np.testing.assert_array_equal(after.p_squares, 0.0)
    _, rejected = tx.update(grads, state, y, value=3.0)
    assert not bool(rejected.settled)
    assert int(rejected.balance) == SETTLED - 2
    np.testing.assert_array_equal(rejected.x, x)
    np.testing.assert_array_equal(rejected.d, 0.0)
    assert not np.allclose(rejected.p, state.p)


def test_the_league_evaluates_schedule_free_plus_at_x():
    candidate = candidates.PUBLISHED["ScheduleFree+"]
    state = candidate.tx.init(jnp.ones(2))
    assert candidate.last_params(state, jnp.zeros(2)) is state.x


def test_lbfgs_makes_no_update_beyond_its_budget_of_gradients():
    evaluations = []

    def counted(x):
        jax.debug.callback(lambda: evaluations.append(1))
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    @functools.partial(jax.jit, static_argnums=0)
    def step(budget, x, state):
        tx = within_budget(optax.lbfgs(memory_size=10), budget)
        value, grads = optax.value_and_grad_from_state(counted)(x, state=state)
        keywords = {"value": value, "grad": grads, "value_fn": counted}
        updates, state = tx.update(grads, state, x, **keywords)
        return x + updates, state

    def path(budget):
        x = jnp.array([-1.2, 1.0])
        state = within_budget(optax.lbfgs(memory_size=10), budget).init(x)
        found = [(x, 1)]
        for _ in range(8):
            x, state = step(budget, x, state)
            found.append((x, int(state.gradients)))
        return found

    unlimited = path(10_000)
    jax.effects_barrier()
    assert len(evaluations) == unlimited[-1][1]
    gradients = [used for _, used in unlimited]
    last = max(i for i in range(8) if gradients[i + 1] - gradients[i] > 1)  # a longer line search
    limited = path(gradients[last + 1] - 1)
    for x, used in limited[last:]:
        np.testing.assert_array_equal(x, unlimited[last][0])
        assert used == gradients[last]


def test_optimizers_for_deterministic_tasks_run_on_those_only():
    settings = candidates.Settings()
    everywhere = candidates.tuning_free(settings, 10)
    deterministic = candidates.tuning_free(settings, 10, deterministic=True)
    added = [entry.name for entry in deterministic if entry not in everywhere]
    assert added == ["L-BFGS", "OSGM-Best", "online_scaled"]


def test_the_league_ranks_them_on_a_deterministic_task(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "PUBLISHED", {})
    monkeypatch.setattr(candidates, "HEIGHTS", ())
    tuned = Standing(Entry("adam, best constant"), trial_result(1.0), 1.0, runs=8)
    monkeypatch.setattr(league, "run_tuned", lambda *_: ([tuned], []))
    flags = ["--scale", "smoke", "--seeds", "1", "--tasks", "logistic", "--optimizers", "adam"]
    main(["league", *flags, "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "league").iterdir()
    rows = json.loads((folder / "run.json").read_text())["results"]["breast cancer logistic"]
    first = [name for name, row in rows.items() if row["rank"] == 1]
    assert first[0] in ("L-BFGS", "online_scaled")  # within ten gradients
    assert rows["online_scaled"]["loss"] < 0.1 < rows["adam self-tuning"]["loss"]
