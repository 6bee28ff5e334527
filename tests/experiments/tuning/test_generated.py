"""Generated workloads train like a plain loop, and scores are measured when they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import runner
from experiments.tuning import trials, workloads
from experiments.tuning.generated import Deterministic, Generated, Nonstationary, Problem

SGD = trials.fixed(optax.sgd)


def moving_target():
    """Returns the problem |x - 10 progress|^2; its environment counts the steps."""

    def loss(params, batch):
        return jnp.sum((params - batch) ** 2)

    return Problem(
        init=lambda key: jnp.zeros(2) + jax.random.normal(key),
        observe=lambda params, env, key, moment: (10 * moment.progress, env + 1),
        loss=loss,
        score=lambda params, moment: loss(params, 10 * moment.progress),
        start_env=lambda key: jnp.zeros((), jnp.int32),
    )


def prepare(kind, steps=20, seeds=2, scale="small", **options):
    settings = workloads.Settings(scale=scale, seeds=seeds, tasks=("digits",))
    return kind(title="test", problem=moving_target, steps=steps, **options).prepare(settings)


def train(workload, candidate, rate):
    training = workload.training(candidate.averaging, candidate.evaluated)
    carry, losses = training.start(), []
    carry = carry._replace(opt_state=candidate.set_rate(carry.opt_state, rate))
    program = training.program()
    for number in range(10):
        carry, metrics, _ = program(carry, number)
        losses.append(metrics)
    return np.concatenate(losses), carry, training.losses(carry)


def path_by_hand(start, rate, steps):
    """Returns the parameters after each step, their averages, and the loss at each step."""
    x, y, xs, ys, losses = np.float64(start), np.float64(start), [], [], []
    for step in range(steps):
        target = 10 * step / steps
        n = step + 1
        y = y + 6 / (n + 5) * (x - y)  # the average of the parameters before the update
        losses.append(np.sum((x - target) ** 2))
        x = x - rate * 2 * (x - target)
        xs.append(x)
        ys.append(y)
    return np.array(xs), np.array(ys), np.array(losses)


def test_training_follows_the_same_path_as_a_loop_in_float64():
    workload = prepare(Generated)
    losses, carry, (last, average) = train(workload, SGD, 0.2)
    start = workload.training(SGD.averaging, SGD.evaluated).start().params
    for network in range(2):
        xs, ys, expected = path_by_hand(start[network], 0.2, 20)
        np.testing.assert_allclose(losses[:, network], expected, rtol=1e-4)
        np.testing.assert_allclose(carry.params[network], xs[-1], rtol=1e-5)
        np.testing.assert_allclose(last[network], np.sum((xs[-1] - 9.5) ** 2), rtol=1e-4)
        np.testing.assert_allclose(average[network], np.sum((ys[-1] - 9.5) ** 2), rtol=1e-4)
    assert carry.env.tolist() == [20, 20]


@pytest.mark.parametrize(("every", "scored"), [(1, range(11, 21)), (4, (12, 16, 20))])
def test_the_score_of_a_moving_task_is_a_mean_over_the_second_half(every, scored):
    workload = prepare(Nonstationary, score_every=every)
    _, _, (last, average) = train(workload, SGD, 0.2)
    start = workload.training(SGD.averaging, SGD.evaluated).start().params
    for network in range(2):
        xs, ys, _ = path_by_hand(start[network], 0.2, 20)
        for path, found in ((xs, last), (ys, average)):
            expected = np.mean([np.sum((path[n - 1] - 10 * (n - 1) / 20) ** 2) for n in scored])
            np.testing.assert_allclose(found[network], expected, rtol=1e-4)


def test_a_moving_task_is_scored_once_at_scale_smoke_if_it_is_rarely():
    workload = prepare(Nonstationary, scale="smoke", steps=1000, score_every=100)
    assert workload.steps == 10
    _, carry, (last, _) = train(workload, SGD, 0.2)
    expected = jnp.sum((carry.params - 9) ** 2, -1)
    np.testing.assert_allclose(last, expected, rtol=1e-5)


def test_the_value_function_is_of_the_batch_and_only_for_deterministic_tasks():
    seen = {}

    def update(updates, state, params=None, *, value, grad, value_fn):
        seen["same"] = value_fn(params) - value
        seen["gradient"] = grad
        return updates, jnp.float32(value_fn(params) - value)

    tx = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)

    def evaluated(state, params):
        return params, params

    training = prepare(Deterministic).training(tx, evaluated, needs_value_fn=True)
    carry, _, _ = training.program()(training.start(), 0)
    np.testing.assert_array_equal(carry.opt_state, [0.0, 0.0])
    assert {*seen} == {"same", "gradient"}
    with pytest.raises(ValueError, match="test has no loss function that stays the same"):
        prepare(Nonstationary).training(tx, evaluated, needs_value_fn=True)


def test_networks_are_at_least_as_many_as_the_workload_wants_except_at_scale_smoke():
    assert len(prepare(Generated, networks=5, seeds=2).keys) == 5
    assert len(prepare(Generated, networks=5, seeds=8).keys) == 8
    assert len(prepare(Generated, networks=5, seeds=2, scale="smoke").keys) == 2


def test_a_trial_of_a_generated_workload_has_the_average_that_self_tuning_keeps(tmp_path):
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path, tasks=("drift",))
    run = runner.Run.start("trials", settings)
    try:
        (workload,), skipped = workloads.prepare_workloads(settings, run)
        progress = runner.Progress(total=2 * workload.steps)
        trial = trials.Trials(run, workload, "adam", trials.self_tuning(optax.adam), progress)
        found = trial(1e-2)
        assert trial(1e-2) is found  # as when the best fixed learning rate is one of the starts
        assert progress.done == progress.total
    finally:
        run.close()
    assert not skipped
    assert found.own_average
    assert found.last.shape == found.average.shape == found.training.shape == (2,)
    assert (found.average != found.last).all()
    assert workload.params.shape == (20,)


def test_a_trial_that_is_killed_goes_on_from_its_checkpoint_to_the_same_result(
    tmp_path, monkeypatch
):
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path, save_every=0.0)
    workload = workloads.WORKLOADS["cart_pole"].prepare(settings)
    run = runner.Run.start("trials", settings)
    logged, log = [], runner.Loop.log

    def log_or_stop(loop, **metrics):
        logged.append(loop.step)
        if len(logged) == 5:
            raise KeyboardInterrupt
        log(loop, **metrics)

    try:
        expected = trials.Trials(run, workload, "whole", SGD)(1e-2)
        with monkeypatch.context() as patch:
            patch.setattr(runner.Loop, "log", log_or_stop)
            with pytest.raises(KeyboardInterrupt):
                trials.Trials(run, workload, "killed", SGD)(1e-2)
            found = trials.Trials(run, workload, "killed", SGD)(1e-2)
    finally:
        run.close()
    assert logged[:5] == [1, 2, 3, 4, 5]
    assert 1 < logged[5] <= 5
    for name, value in expected._asdict().items():
        np.testing.assert_array_equal(value, getattr(found, name))
