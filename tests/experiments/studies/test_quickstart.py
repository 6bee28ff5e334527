"""The quickstart runs, and its results are reproducible."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.__main__ import main
from experiments.models.mlp import MLP
from experiments.studies import quickstart

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["quickstart", "--scale", "smoke", "--seeds", "2", "--runs", str(runs)])
    (folder,) = (runs / "quickstart").iterdir()
    return folder


def test_every_series_is_in_the_results_and_the_report(folder):
    results = json.loads((folder / "run.json").read_text())["results"]
    html = (folder / "report.html").read_text()
    assert len(results) == 18
    for family in ("adam", "sgd"):
        for name in ("fixed", "fixed x 0.01", "fixed x 100"):
            assert f"<td>{family} {name}</td>" in html
        for height in (1, 2, 3):
            for factor in ("0.01", "100"):
                assert f"<td>{family} tower of height {height} x {factor}</td>" in html


def test_the_log_has_every_epoch_of_every_series(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 18 * quickstart.EPOCHS["smoke"]
    assert {len(record["loss"]) for record in records} == {2}


def test_fixed_rates_do_not_change_and_learned_rates_do(folder):
    results = json.loads((folder / "run.json").read_text())["results"]
    for name, outcome in results.items():
        moved = not np.allclose(outcome["rate"], outcome["start"], rtol=1e-3)
        assert moved == ("tower" in name), name


def test_there_is_a_figure(folder):
    assert (folder / "quickstart.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_has_the_same_numbers(folder, tmp_path):
    main(["quickstart", "--scale", "smoke", "--seeds", "2", "--runs", str(tmp_path)])
    (again,) = (tmp_path / "quickstart").iterdir()
    first, second = (json.loads((f / "run.json").read_text())["results"] for f in (folder, again))
    for name, outcome in first.items():
        assert outcome["loss"] == second[name]["loss"]
        assert outcome["accuracy"] == second[name]["accuracy"]


def test_the_network_has_the_parameters_of_its_layers():
    network = nnx.state(MLP(quickstart.SIZES, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == 64 * 64 + 64 + 64 * 10 + 10
