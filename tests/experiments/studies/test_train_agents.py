"""A run with agents trains a pruned population, and its winner is what the report says."""

import json
import re
import signal

import numpy as np
import pytest

from experiments import runner
from experiments.__main__ import main
from experiments.methods import networks
from experiments.runner.run_folder import RunError
from experiments.studies.train import Settings, load_network, saved_runs
from experiments.studies.train.agents import hyperparameters
from experiments.studies.train.rules import RULES, make_rule
from tests.experiments.studies.test_train import (
    checkpoint,
    description,
    interrupting,
    log,
    results,
    run_train,
)
from tests.experiments.studies.test_train_own_data import REGRESSION, write_table

FLAGS = [
    "--optimizer",
    "adamw",
    "--agents",
    "4",
    "--steps",
    "20",
    "--width",
    "8",
    "--batch-size",
    "16",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", autouse=True)
def uneven_batches():
    """Evaluates the 20 validation examples in three batches, of which the last has padding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "EVALUATION_BATCH", 7)
        yield


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    table = write_table(tmp_path_factory.mktemp("table") / "my.csv")
    return ["--data", str(table), *REGRESSION, *FLAGS]


@pytest.fixture(scope="module")
def pruned(runs, flags):
    return run_train(runs, *flags)


def test_the_winner_has_the_lowest_validation_loss_of_all_agents_and_rungs(pruned):
    losses = np.array([record["agents_value"] for record in log(pruned)], float)
    assert losses.shape == (10, 4)
    leaders = [record["validation_loss"] for record in log(pruned)]
    np.testing.assert_array_equal(leaders, np.nanmin(losses, 1))
    step, agent = np.unravel_index(np.nanargmin(losses), losses.shape)
    found = results(pruned)
    assert found["best_step"] == 2 * (step + 1)
    np.testing.assert_allclose(found["validation, best"]["loss"], [losses[step, agent]], rtol=1e-5)
    for name, value in found["winner"].items():
        assert value == pytest.approx(found["agents"][name][agent], rel=1e-6)
    (note,) = [note for note in description(pruned)["notes"] if "winner has" in note]
    assert f"learning rate {found['winner']['learning_rate']:.3g}, weight decay " in note


def test_the_cost_is_the_share_of_the_gradient_steps_of_all_agents(pruned):
    found = results(pruned)
    # Halving keeps 4, 2 and then one agent, in ten rungs of two steps.
    assert found["gradient_steps"] == 2 * (4 + 2 + 8)
    assert found["gradient_steps_without_pruning"] == 4 * 20
    assert any(
        "28 gradient steps together: 35.0% of the 80" in n for n in description(pruned)["notes"]
    )
    assert [record["descended"] for record in log(pruned)] == [4, 2, *[1] * 8]
    footprint = json.loads((pruned / "footprint.json").read_text())
    products = footprint["parts"][0]["quantities"]["of them in matrix products and convolutions"]
    # Five inputs: a product forward and one backward in the first layer, three in the second.
    assert products["value"] == 28 * 16 * 2 * (2 * 5 * 8 + 3 * 8 * 1)
    html = (pruned / "report.html").read_text()
    assert 'alt="agents"' in html
    assert "best validation loss" in html


def test_an_interrupted_population_resumes_to_the_same_results(runs, flags, pruned, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, 3))
        before = {*runs.glob("train/*")}
        with pytest.raises(SystemExit) as stop:
            run_train(runs, *flags)
    assert stop.value.code == 128 + signal.SIGINT
    (folder,) = {*runs.glob("train/*")} - before
    main(["train", "--resume", str(folder)])
    assert results(folder) == results(pruned)
    assert log(folder) == log(pruned)
    for item, arrays in checkpoint(pruned).items():
        for name, array in arrays.items():
            assert checkpoint(folder)[item][name].tobytes() == array.tobytes(), name


def test_the_accuracy_of_the_leader_is_logged(tmp_path, flags):
    folder = run_train(tmp_path, *flags[:2], "--target", "taste", *FLAGS)
    found, records = results(folder), {record["step"]: record for record in log(folder)}
    (accuracy,) = found["validation, best"]["accuracy"]
    assert records[found["best_step"]]["validation_accuracy"] == accuracy
    assert all(0 <= record["validation_accuracy"] <= 100 for record in records.values())


def test_the_winner_loads_back_and_predicts_in_the_units_of_the_target(pruned, flags):
    network = load_network(pruned)
    test = saved_runs.load_task(Settings(**json_settings(pruned))).test.arrays
    errors = network(test.inputs) - test.targets[:, 0]
    scale = network.task.dataset.target_std[0]
    np.testing.assert_allclose(
        np.mean((errors / scale) ** 2), results(pruned)["test, at the best"]["loss"][0], rtol=1e-4
    )
    error = f"root mean square error {np.sqrt(np.mean(errors**2)):.4g}, loss "
    assert description(pruned)["verdict"].startswith(f"On the test part: {error}")
    *_, tested, baseline = description(pruned)["table"]["rows"]
    spread = (test.targets - network.task.dataset.target_mean).astype(float)
    assert baseline[0] == "test, mean of the training targets"
    assert float(baseline[3]) == pytest.approx(np.sqrt(np.mean(spread**2)), rel=1e-3)
    assert float(tested[3]) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-3)
    assert description(pruned)["table"]["columns"][3] == "root mean square error"
    with pytest.raises(ValueError, match="probabilities need classes, but the network of my pred"):
        network.probabilities(test.inputs)


def json_settings(folder):
    """Returns the settings of a run that tell its data."""
    settings = json.loads((folder / "run.json").read_text())["settings"]
    return {name: settings[name] for name in ("data", "target", "scale")}


def test_a_population_has_no_saved_initial_networks(pruned):
    with pytest.raises(RunError, match="is a run with --agents, which saves only the winner"):
        saved_runs.load(pruned)


def test_hyperparameters_are_log_uniform_with_one_agent_in_each_part_of_the_range():
    drawn = hyperparameters(Settings(agents=16, optimizer="adamw", learning_rate=0.01))
    ranges = {"learning_rate": (1e-4, 1.0), "weight_decay": (1e-4, 1.0)}
    assert drawn.keys() == ranges.keys()
    for name, (low, high) in ranges.items():
        shares = np.log(np.asarray(drawn[name]) / low) / np.log(high / low)
        np.testing.assert_array_equal(np.sort(np.floor(16 * shares)), np.arange(16))
    assert not np.array_equal(drawn["learning_rate"], drawn["weight_decay"])


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "weight_decay": 0.1}])
def test_a_weight_decay_that_is_given_or_missing_is_not_drawn(options):
    assert hyperparameters(Settings(agents=4, **options)).keys() == {"learning_rate"}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_can_be_made(name):
    assert make_rule(name, 10).update
    assert make_rule(None, 10).init


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tower": 1}, "--tower must be left out with --agents"),
        ({"self_tuning": True}, "--self-tuning must be left out with --agents"),
        ({"seeds": 2}, "--seeds must be left out with --agents"),
        ({"patience": 3}, "--patience must be left out with --agents, which --rule prunes"),
        ({"accumulate": 2}, "--accumulate must be left out with --agents"),
        ({"stream": True}, "--stream must be left out with --agents"),
        ({"warm_start": "somewhere"}, "--warm-start must be left out with --agents"),
        ({"optimizer": "schedule_free"}, "--optimizer must evaluate its parameters with --agents"),
        ({"agents": 1}, re.escape("--agents must be in [2, inf), got 1")),
        ({"agents": None, "rule": "stalled"}, "--rule must be left out without --agents"),
        ({"steps": 101}, "--steps must have a divisor near a tenth of it, got 101"),
    ],
)
def test_what_agents_cannot_have_is_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"agents": 4, **settings})


def test_a_rule_that_needs_more_evaluations_is_refused():
    with pytest.raises(ValueError, match="--rule predicted_to_lose needs at least 3 evaluations"):
        make_rule("predicted_to_lose", 2)


def test_a_rule_that_predicts_the_last_loss_keeps_the_number_of_steps(tmp_path):
    saved = Settings(agents=4, rule="predicted_to_lose", steps=20)
    changed = Settings(agents=4, rule="predicted_to_lose", steps=40, evaluate_every=2)
    with pytest.raises(ValueError, match="--steps must be 20 with --rule predicted_to_lose"):
        changed.check_resume(saved, tmp_path)
