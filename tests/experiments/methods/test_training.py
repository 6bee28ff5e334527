"""Trainings of a recipe: equal to plain loops, resumed to the bit, with every cost counted."""

import dataclasses
import os
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments import methods, runner, tasks
from experiments.data import Dataset, Split
from experiments.data.batches import Batches, data_seeds
from experiments.methods.registry import METHODS, train_by_all
from experiments.methods.training import Descent, Session, train_agents

SEEDS, STEPS, RATE = 2, 6, 0.03


@pytest.fixture(scope="module")
def recipe():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(60, 3)).astype(np.float32)
    labels = (inputs[:, 0] + 0.3 * random.normal(size=60) > 0).astype(np.int32)
    parts = tuple(Split(inputs[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40))
    data = Dataset.from_parts("small", parts, 2, "made for this test")
    return methods.Recipe(
        title="small",
        task=tasks.supervised(data, tasks.ModelConfig("mlp", width=4)),
        steps=STEPS,
        batch_size=5,
        seeds=SEEDS,
        evaluations=3,
        rates=((0.003, RATE, 10.0), (0.03, 0.1, 1.0)),
        agents=4,
        keep=lambda params, model_state: {"bias": params["model"]["layers"][0]["bias"][...]},
    )


def start(folder):
    return runner.Run.start("methods", methods.Settings(runs=folder))


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    return train_by_all(Session(start(tmp_path_factory.mktemp("runs")), recipe), tuple(METHODS))


def by_hand(recipe, tx):
    """Returns the validation and test losses of a plain loop, f64[evaluations, seeds] each."""
    task = recipe.task
    trainer = runner.trainer(task.build, task.batch_of, task.scores, tx)
    state = trainer.start(recipe.keys)
    batches = Batches(20, recipe.batch_size, seeds=data_seeds(0, SEEDS))
    found = []
    for chunk in range(recipe.evaluations):
        feed = batches.chunk(chunk, 2)
        state, _ = jax.jit(trainer.chunk)(state, feed, task.train.arrays)
        parts = (task.validation, task.test)
        model = state.params, state.model_state
        found.append([trainer.evaluate(*model, p.arrays, np.arange(20))["loss"] for p in parts])
    return np.array(found, float).swapaxes(0, 1)


def test_a_training_of_a_grid_is_the_optimizer_at_that_rate(recipe, trained):
    validation, test = by_hand(recipe, optax.adamw(RATE))
    found = trained["adam"].outcomes["0.03"]
    np.testing.assert_allclose(found.validation, validation, rtol=1e-5)
    np.testing.assert_allclose(found.test, test, rtol=1e-5)
    assert found.steps.tolist() == [2, 4, 6]
    cosine, _ = by_hand(recipe, optax.adamw(recipe.scheduled(RATE)))
    np.testing.assert_allclose(
        trained["adam_cosine"].outcomes["0.03"].validation, cosine, rtol=1e-5
    )
    momentum, _ = by_hand(recipe, optax.sgd(0.1, momentum=0.9))
    np.testing.assert_allclose(trained["sgd"].outcomes["0.1"].validation, momentum, rtol=1e-5)


def test_every_method_trains_with_what_it_should(recipe, trained):
    assert [*trained] == [*METHODS]
    for name, each in trained.items():
        assert each.selected.validation.shape == (3, SEEDS), name
        assert np.isfinite(each.loss), name
        assert each.selected.scores["accuracy"].shape == (SEEDS,), name
        assert each.selected.kept["bias"].shape == (SEEDS, 4), name
    assert [len(trained[name].outcomes) for name in ("adam", "sgd", "prodigy")] == [3, 3, 1]


def test_flops_are_of_all_gradients_of_all_trainings(recipe, trained):
    one = trained["adam"].outcomes["0.03"].flops
    np.testing.assert_allclose(one, one[0] * np.array([1, 2, 3]))
    assert trained["adam"].flops == pytest.approx(3 * one[-1])
    # Agents halve after each evaluation: 4 + 2 + 1 rungs of two steps, of 12.
    pruned, full = (trained[name].selected.flops for name in ("agents", "agents_unpruned"))
    np.testing.assert_allclose(pruned / full[0], [1, 6 / 4, 7 / 4])
    np.testing.assert_allclose(full / full[0], [1, 2, 3])
    assert full[-1] == pytest.approx(4 * one[-1], rel=0.1)


def test_pruned_agents_end_as_the_best_of_all(trained):
    pruned, full = (trained[name].selected.means for name in ("agents", "agents_unpruned"))
    assert full.min() <= pruned.min()
    np.testing.assert_array_equal(pruned[0], full[0])


def test_the_network_that_is_kept_is_of_the_best_evaluation(recipe, tmp_path):
    def diverging(learning_rate):
        """Descends in two evaluations, and then jumps away."""
        return optax.sgd(lambda count: jnp.where(count < 4, learning_rate, 1e4))

    session = Session(start(tmp_path), recipe)
    found = Descent(session, "jump", diverging(0.1))()
    assert found.best < 2
    frozen = dataclasses.replace(recipe, steps=2 * (found.best + 1), evaluations=found.best + 1)
    expected = Descent(Session(start(tmp_path), frozen), "jump", diverging(0.1))()
    np.testing.assert_array_equal(found.kept["bias"], expected.kept["bias"])
    np.testing.assert_array_equal(found.scores["loss"], found.test[found.best])


@pytest.mark.parametrize("method", ["descent", "agents"])
def test_a_training_that_is_interrupted_resumes_to_the_bit(recipe, tmp_path, monkeypatch, method):
    def train(run):
        session = Session(run, dataclasses.replace(recipe, seeds=1))
        if method == "agents":
            return train_agents(session, "a", jd.pruning.successive_halving())
        return Descent(session, "d", jd.self_tuning(optax.adam), jd.averaged_params)()

    expected = train(start(tmp_path / "whole"))
    run, log = start(tmp_path / "parts"), runner.Loop.log

    def log_and_interrupt(loop, **metrics):
        log(loop, **metrics)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, run.interruption:
        patch.setattr(runner.Loop, "log", log_and_interrupt)
        with pytest.raises(runner.Interrupted):
            train(run)
    (before,) = {tuple(record["joules"]) for record in run.log.read()}
    folder = run.folder
    run.close()
    resumed = train(runner.Run.resume(folder, methods.Settings(runs=tmp_path / "parts")))
    for name in ("steps", "flops", "validation", "test"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(expected, name))
    assert np.all(resumed.joules > np.array(before))


def test_a_training_killed_between_its_last_step_and_its_outcome_is_not_lost(
    recipe, tmp_path, monkeypatch
):
    def train(run):
        return Descent(Session(run, recipe), "d", optax.adam(0.01))()

    def kill(*arguments, **options):
        raise KeyboardInterrupt

    expected, run = train(start(tmp_path / "whole")), start(tmp_path / "parts")
    monkeypatch.setattr(runner, "Loop", partial(runner.Loop, save_final=True))
    with monkeypatch.context() as patch:
        patch.setattr(runner.run, "write_outcome", kill)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    run.close()
    resumed = train(runner.Run.resume(run.folder, methods.Settings(runs=tmp_path / "parts")))
    np.testing.assert_array_equal(resumed.test, expected.test)
    np.testing.assert_array_equal(resumed.scores["loss"], expected.scores["loss"])
    assert np.all(resumed.joules > 0)


def test_a_recipe_refuses_what_it_cannot_train(recipe):
    with pytest.raises(ValueError, match=r"steps must be a positive multiple of 3, got 7"):
        dataclasses.replace(recipe, steps=7)
    with pytest.raises(ValueError, match=r"batch_size must be in \[1, 20\].*got 21"):
        dataclasses.replace(recipe, batch_size=21)
