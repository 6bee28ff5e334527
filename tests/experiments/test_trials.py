"""A trial trains as its optimizer does, and what is made of its losses has exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments import runner, trials, workloads
from jaxdescent.towers.averaging import POWER
from jaxdescent.towers.restart import TRIAL_STEPS

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def outcome(last, average=None, training=1.0, rate=0.1, own_average=False):
    average = last if average is None else average
    numbers = [np.atleast_1d(np.float64(x)) for x in (last, average, training, rate)]
    return trials.Outcome(*numbers, np.asarray(own_average))


def grid(losses, averages=None):
    averages = losses if averages is None else averages
    rates = [10.0**e for e in range(len(losses))]
    pairs = zip(losses, averages, strict=True)
    return trials.Grid(rates, [outcome(last, average) for last, average in pairs])


def test_the_mean_of_a_network_that_diverged_is_worse_than_any():
    assert trials.mean(np.array([1.0, 2.0])) == 1.5
    for broken in (np.nan, np.inf, -np.inf):
        assert trials.mean(np.array([1.0, broken])) == np.inf
    assert trials.ratio(3.0, 2.0) == 1.5
    assert trials.ratio(np.inf, 2.0) == np.inf
    assert trials.ratio(np.inf, np.inf) == np.inf
    assert [trials.shown(x) for x in (1.234, np.inf, np.nan)] == ["1.23", "diverged", "diverged"]


def test_self_tuning_is_judged_by_its_average_and_a_fixed_rate_by_its_last_parameters():
    assert outcome([3.0, 5.0], [1.0, 2.0], own_average=False).loss == 4.0
    assert outcome([3.0, 5.0], [1.0, 2.0], own_average=True).loss == 1.5


@pytest.mark.parametrize(
    ("losses", "best", "at_edge"),
    [
        ([3.0, 1.0, 2.0], 1, False),
        ([1.0, 2.0, 3.0], 0, True),
        ([3.0, 2.0, 1.0], 2, True),
        ([3.0, 2.0, np.nan], 1, False),
        ([np.nan, 1.0, 2.0], 1, False),
    ],
)
def test_the_best_of_a_grid_is_finite_and_said_to_be_at_an_edge(losses, best, at_edge):
    found = grid(losses)
    assert (found.best, found.at_edge) == (best, at_edge)
    sentences = trials.edges([("digits, sgd", found), ("inside", grid([2.0, 1.0, 2.0]))])
    expected = f"The best fixed rate is at an edge of its grid: digits, sgd ({10.0**best:.0e})."
    assert sentences == ([expected] if at_edge else [])


def test_the_averages_of_a_grid_are_those_of_each_rate():
    np.testing.assert_array_equal(grid([1.0, 2.0], [0.5, np.nan]).averaged, [0.5, np.inf])


def quadratic(x):
    return jnp.sum((x - 1.0) ** 2)


def path(tx, steps=30):
    """The parameters before each step, and the last state."""

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(quadratic)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), x

    start = jnp.zeros(3), tx.init(jnp.zeros(3))
    (_, state), seen = jax.jit(lambda: jax.lax.scan(step, start, length=steps))()
    return seen, state


def test_the_average_of_a_path_is_that_of_self_tuning_after_its_trial():
    tx = jd.self_tuning(optax.adam, learning_rate=0.01)
    seen, state = path(tx)
    assert int(state.restarts) == 0
    replay = trials.with_average(optax.identity())
    averaged, _ = jax.lax.scan(
        lambda state, x: (replay.update(x, state, x)[1], None),
        replay.init(seen[0]),
        seen[TRIAL_STEPS:],
    )
    np.testing.assert_allclose(averaged.average, jd.averaged_params(state, seen[0]), rtol=1e-6)


def test_the_average_has_the_weights_of_the_formula_and_leaves_the_updates_alone():
    seen, state = path(trials.with_average(optax.adam(0.1)), steps=4)
    plain, _ = path(optax.with_extra_args_support(optax.adam(0.1)), steps=4)
    np.testing.assert_array_equal(seen, plain)
    y = seen[0]
    for n, x in enumerate(seen, 1):
        y = y + (POWER + 1) / (n + POWER) * (x - y)
    np.testing.assert_allclose(state.average, y, rtol=1e-6)


@pytest.mark.parametrize(
    ("tx", "expected"),
    [(optax.sgd(1.0), 0), (optax.sgd(1.0, momentum=0.9), 1), (optax.scale_by_adam(), 2)],
)
def test_buffers_are_multiples_of_the_parameters(tx, expected):
    params = {"w": jax.ShapeDtypeStruct((100, 10), jnp.float32)}
    assert trials.buffers(tx, params) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", workloads.FACTORIES)
@pytest.mark.parametrize("kind", [trials.fixed, trials.self_tuning])
def test_the_first_step_is_taken_at_the_rate_that_was_set(kind, name):
    factory = workloads.FACTORIES[name]
    contestant = kind(factory)
    tx = contestant.tx if contestant.own_average else trials.with_average(contestant.tx)
    x = jnp.array([1.0, 2.0])
    state = contestant.at(tx.init(x), 0.037)
    assert float(contestant.rate(state)) == pytest.approx(0.037, rel=1e-6)
    updates, _ = tx.update(x, state, x, value=jnp.ones(()))
    expected, _ = factory(0.037).update(x, factory(0.037).init(x), x)
    np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_a_fixed_rate_is_the_plain_optimizer_run_by_hand(tmp_path):
    """Digits, two networks: parameters, losses and averages, from the trainer's own steps."""
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path)
    arena = workloads.Arena(workloads.WORKLOADS["digits"], settings)
    run = runner.Run.start("trials", settings)
    try:
        found = trials.Trials(run, arena, "adam", trials.fixed(workloads.FACTORIES["adam"]))(1e-2)
    finally:
        run.close()
    plain = arena.trainer(optax.adam(1e-2))
    state = plain.start(arena.keys)
    state, losses = jax.jit(plain.chunk)(
        state, arena.batches.chunk(0, arena.steps), arena.task.train.arrays
    )
    parts = arena.task.validation, arena.task.test
    sums = [
        len(part.judged)
        * plain.evaluate(state.params, state.model_state, part.arrays, part.judged)["loss"]
        for part in parts
    ]
    np.testing.assert_allclose(found.last, sum(sums) / (359 + 360), rtol=1e-4)
    np.testing.assert_allclose(found.training, losses[-1], rtol=1e-4)  # a tenth of ten steps
    np.testing.assert_allclose(found.rate, 1e-2, rtol=1e-6)
    assert (found.average != found.last).all()
