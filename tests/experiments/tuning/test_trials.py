"""Trials train like the plain optimizer, and the results of a grid are exact."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments import runner
from experiments.tuning import trials, workloads


def trial_result(last, average=None, training=1.0, rate=0.1, own_average=False):
    average = last if average is None else average
    numbers = [np.atleast_1d(np.float64(x)) for x in (last, average, training, rate)]
    return trials.TrialResult(*numbers, np.asarray(own_average))


def grid_result(losses, averages=None):
    averages = losses if averages is None else averages
    rates = [10.0**e for e in range(len(losses))]
    pairs = zip(losses, averages, strict=True)
    return trials.GridResult(rates, [trial_result(last, average) for last, average in pairs])


def test_the_mean_is_infinite_if_a_network_diverged():
    assert trials.mean(np.array([1.0, 2.0])) == 1.5
    for broken in (np.nan, np.inf, -np.inf):
        assert trials.mean(np.array([1.0, broken])) == np.inf
    assert trials.ratio(3.0, 2.0) == 1.5
    assert trials.ratio(np.inf, 2.0) == np.inf
    assert trials.ratio(np.inf, np.inf) == np.inf
    assert [trials.format_loss(x) for x in (1.234, np.inf, np.nan)] == [
        "1.23",
        "diverged",
        "diverged",
    ]


def test_the_loss_is_of_the_average_or_of_the_last_parameters():
    assert trial_result([3.0, 5.0], [1.0, 2.0], own_average=False).loss == 4.0
    assert trial_result([3.0, 5.0], [1.0, 2.0], own_average=True).loss == 1.5


@pytest.mark.parametrize(
    ("losses", "best", "at_end"),
    [
        ([3.0, 1.0, 2.0], 1, False),
        ([1.0, 2.0, 3.0], 0, True),
        ([3.0, 2.0, 1.0], 2, True),
        ([3.0, 2.0, np.nan], 1, False),
        ([np.nan, 1.0, 2.0], 1, False),
    ],
)
def test_the_best_of_a_grid_is_finite_and_an_end_of_the_grid_is_reported(losses, best, at_end):
    found = grid_result(losses)
    assert (found.best, found.at_end) == (best, at_end)
    sentences = trials.notes_on_grid_ends(
        [("digits, sgd", found), ("inside", grid_result([2.0, 1.0, 2.0]))]
    )
    expected = (
        f"The best fixed learning rate is at an end of its grid: digits, sgd ({10.0**best:.0e})."
    )
    assert sentences == ([expected] if at_end else [])


def test_a_grid_has_the_loss_of_the_average_at_each_rate():
    np.testing.assert_array_equal(grid_result([1.0, 2.0], [0.5, np.nan]).averaged, [0.5, np.inf])


def quadratic(x):
    return jnp.sum((x - 1.0) ** 2)


def path(tx, steps=30):
    """Returns the parameters before each step, and the last state."""

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(quadratic)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), x

    start = jnp.zeros(3), tx.init(jnp.zeros(3))
    (_, state), seen = jax.jit(lambda: jax.lax.scan(step, start, length=steps))()
    return seen, state


def test_the_average_equals_self_tunings_after_its_range_test():
    tx = jd.self_tuning(optax.adam)
    seen, state = path(tx, 60)
    assert int(state.restarts) == 1
    replay = jd.with_average(optax.identity())
    averaged, _ = jax.lax.scan(
        lambda state, x: (replay.update(x, state, x)[1], None),
        replay.init(seen[0]),
        seen[-int(state.horizon.lag.count) :],
    )
    np.testing.assert_allclose(averaged.average, jd.averaged_params(state, seen[0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("tx", "expected"),
    [(optax.sgd(1.0), 0), (optax.sgd(1.0, momentum=0.9), 1), (optax.scale_by_adam(), 2)],
)
def test_the_state_size_is_in_multiples_of_the_parameters(tx, expected):
    params = {"w": jax.ShapeDtypeStruct((100, 10), jnp.float32)}
    assert trials.state_size(tx, params) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", workloads.FACTORIES)
def test_the_first_step_has_the_learning_rate_that_was_set(name):
    factory = workloads.FACTORIES[name]
    candidate = trials.fixed(factory)
    tx = jd.with_average(candidate.tx)
    x = jnp.array([1.0, 2.0])
    state = candidate.set_rate(tx.init(x), 0.037)
    assert float(candidate.get_rate(state)) == pytest.approx(0.037, rel=1e-6)
    updates, _ = tx.update(x, state, x, value=jnp.ones(()))
    expected, _ = factory(0.037).update(x, factory(0.037).init(x), x)
    np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_self_tuning_begins_at_a_tenth_of_a_low_guess_that_was_set():
    candidate = trials.self_tuning(optax.sgd)
    x = jnp.array([1.0, 2.0])
    state = candidate.set_rate(candidate.tx.init(x), 1e-10)
    expected = jd.self_tuning(optax.sgd, learning_rate=1e-10).init(x)
    chex.assert_trees_all_close(state, expected, rtol=1e-6)
    assert float(candidate.get_rate(state)) == pytest.approx(1e-11, rel=1e-5)


def test_a_trial_with_a_fixed_rate_equals_the_plain_optimizer(tmp_path):
    """Compares with steps of the trainer on the digits, for two networks."""
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path)
    workload = workloads.WORKLOADS["digits"].prepare(settings)
    run = runner.Run.start("trials", settings)
    try:
        found = trials.Trials(run, workload, "adam", trials.fixed(workloads.FACTORIES["adam"]))(
            1e-2
        )
    finally:
        run.close()
    plain = workload.trainer(optax.adam(1e-2))
    state = plain.start(workload.keys)
    state, losses = jax.jit(plain.chunk)(
        state, workload.batches.chunk(0, workload.steps), workload.task.train.arrays
    )
    parts = workload.task.validation, workload.task.test
    sums = [
        len(part.evaluation_indices)
        * plain.evaluate(state.params, state.model_state, part.arrays, part.evaluation_indices)[
            "loss"
        ]
        for part in parts
    ]
    np.testing.assert_allclose(found.last, sum(sums) / (359 + 360), rtol=1e-4)
    np.testing.assert_allclose(found.training, losses[-1], rtol=1e-4)  # a tenth of ten steps
    np.testing.assert_allclose(found.rate, 1e-2, rtol=1e-6)
    assert (found.average != found.last).all()


@pytest.mark.parametrize(
    ("best", "ends"), [(3e-3, (3e-5, 1e-1)), (3e-6, (1e-6, 1e-1)), (1.0, (3e-5, 3.0))]
)
def test_a_grid_is_extended_by_half_decades_until_the_best_is_inside(
    monkeypatch, tmp_path, best, ends
):
    def bowl(trial, learning_rate):
        return trial_result(abs(np.log10(learning_rate / best)))

    monkeypatch.setattr(trials.Trials, "__call__", bowl)
    settings = workloads.Settings(runs=tmp_path, tasks=("drift",))
    workload = workloads.WORKLOADS["drift"].prepare(settings)
    found = trials.run_grid(None, workload, "adam")
    assert found.rates[found.best] == best
    assert (found.rates[0], found.rates[-1]) == ends
    np.testing.assert_allclose(np.diff(np.log10(found.rates)), 0.5, atol=0.03)
    assert not found.at_end


def test_a_grid_is_extended_four_times_at_most_and_not_at_scale_smoke(monkeypatch, tmp_path):
    monkeypatch.setattr(trials.Trials, "__call__", lambda trial, rate: trial_result(-rate))
    for scale, end in (("small", 10.0), ("smoke", 0.1)):
        settings = workloads.Settings(scale=scale, runs=tmp_path, tasks=("drift",))
        workload = workloads.WORKLOADS["drift"].prepare(settings)
        assert trials.run_grid(None, workload, "adam").rates[-1] == end
