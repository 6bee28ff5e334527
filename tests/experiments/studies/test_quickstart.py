"""The quickstart runs, its numbers are right, and its results are reproducible."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from experiments.data import Split
from experiments.studies.quickstart import costs, network, starts
from experiments.studies.quickstart.pruning import PruningComparison
from experiments.studies.quickstart.settings import EPOCHS, STARTS
from experiments.studies.quickstart.starts import METHODS, Method, Sweep

FLAGS = ["quickstart", "--scale", "smoke", "--seeds", "2", "--populations", "1", "--runs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main([*FLAGS, str(runs)])
    (folder,) = (runs / "quickstart").iterdir()
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "run.json").read_text())["results"]


def test_every_method_is_in_the_results_and_the_report(folder, results):
    html = (folder / "report.html").read_text()
    assert len(METHODS["small"]) == len({each.name for each in METHODS["small"]}) == 12
    for method in METHODS["smoke"]:
        assert f"<td>{method.name}</td>" in html
        assert np.shape(results[method.name]["accuracies"]) == (len(STARTS["smoke"]), 2)


def test_the_log_has_every_epoch_of_every_method(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == len(METHODS["smoke"]) * EPOCHS["smoke"]
    assert {len(record["loss"]) for record in records} == {len(STARTS["smoke"])}


def test_fixed_rates_do_not_change_and_learned_rates_do(results):
    initial = np.array(STARTS["smoke"])[:, None]
    for method in METHODS["smoke"]:
        stays = np.isclose(np.array(results[method.name]["rates"], float), initial, rtol=1e-3)
        assert stays.all() if method.kind.startswith("fixed") else not stays.any(), method


def test_self_tuning_gives_the_same_result_from_every_start(results):
    accuracies = np.array(results["Adam, self-tuning"]["accuracies"])
    assert (accuracies == accuracies[0]).all()


def test_pruning_saves_compute_and_the_search_among_few_costs_a_quarter(results):
    found = results["costs"]
    trainings = {name: cost["trainings"] for name, cost in found.items()}
    assert trainings["Adam, 16 random rates"] == 4 * trainings["Adam, 4 random rates"] == 16
    # 10 rungs with 16, 8, 4, 2, 1, 1, ... agents, of which the first two are a step longer.
    assert trainings["Adam, 16 random rates, pruned"] == pytest.approx(
        (16 + 8 + 4 + 2 + 6) / 10, rel=0.2
    )
    assert trainings["Adam, self-tuning"] == 1


def test_there_is_a_figure(folder):
    assert (folder / "quickstart.png").read_bytes().startswith(b"\x89PNG")


def test_an_epoch_of_a_fixed_rate_is_a_loop_of_plain_steps():
    data, key = network.load(), jax.random.key(0)
    method, rate = Method("SGD with momentum", "fixed"), 0.1
    params = network.init(key)
    state = method.transformation(rate).init(params)
    carry = jax.tree.map(lambda leaf: leaf[None, None], (params, state))
    (trained, _), (losses, rates) = jax.jit(
        lambda carry: starts.epoch(method, data.train, key[None], carry, jnp.int32(0))
    )(carry)
    order = jax.random.permutation(jax.random.fold_in(key, 0), len(data.train.targets))
    tx = optax.sgd(rate, momentum=0.9)
    state, expected = tx.init(params), []
    step = jax.jit(jax.value_and_grad(network.loss))
    for indices in order[: 16 * 64].reshape(16, 64):
        batch = Split(data.train.inputs[indices], data.train.targets[indices])
        value, grads = step(params, batch)
        updates, state = tx.update(grads, state)
        params = optax.apply_updates(params, updates)
        expected.append(value)
    assert float(losses[0]) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(rates[0]) == pytest.approx(rate)
    for found, leaf in zip(jax.tree.leaves(trained), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(found[0, 0], leaf, atol=1e-4)


def test_the_best_start_has_the_least_validation_loss_and_diverged_networks_are_worst():
    losses = np.array([[0.5, 0.7], [0.1, np.inf], [0.4, 0.5]])
    sweep = Sweep(losses, np.array([[90, 92], [99, 9], [80, 82]]), losses, np.array(1.0))
    assert sweep.best == 2
    compared = PruningComparison(*map(np.array, (95.0, 96.0, [50.0, 60.0, 70.0, 80.0], 3.5)))
    swept = dict.fromkeys(METHODS["small"], sweep)
    found = costs.costs_of([1e-8, 1e-3, 1.0], swept, [compared])
    adam = {cost.name: cost for cost in found if cost.optimizer == "Adam"}
    assert [cost.trainings for cost in adam.values()] == [1, 3, 3.5, 4, 16]
    assert adam["grid of 3 rates"].accuracies.mean() == 81
    assert adam["self-tuning"].accuracies.mean() == 91
    assert adam["4 random rates"].accuracies.mean() == 65


def test_networks_whose_outputs_are_not_finite_are_never_right():
    data = network.load()
    params = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, jnp.nan), network.init(jax.random.key(0))
    )
    assert network.accuracy(params, data.test) == 0


def test_the_network_has_the_parameters_of_its_layers():
    params = network.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 64 * 64 + 64 + 64 * 10 + 10
