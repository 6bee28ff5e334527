"""The study of population-based training compares methods from the same starts at equal compute."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.__main__ import main
from experiments.data import Split
from experiments.studies.pbt import task
from experiments.studies.pbt.report import difference
from experiments.studies.pbt.settings import SIZES
from experiments.studies.pbt.training import METHODS, Comparison, Trained

SIZE = SIZES["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["pbt", "--scale", "smoke", "--seeds", "1", "--runs", str(runs)])
    (folder,) = (runs / "pbt").iterdir()
    return folder


def results(folder):
    return json.loads((folder / "run.json").read_text())["results"]


def test_populations_start_alike_and_cost_the_same(folder):
    (seed,) = results(folder).values()
    assert seed.keys() == METHODS.keys()
    assert seed["pbt"]["gradients"] == seed["random_search"]["gradients"] == 4 * SIZE.steps
    assert seed["self_tuning"]["gradients"] == SIZE.steps
    assert seed["pbt"]["curve"][0] == seed["random_search"]["curve"][0]
    for name in ("pbt", "random_search"):
        assert seed[name]["validation"] == pytest.approx(min(seed[name]["curve"]), rel=1e-5)
    used = seed["random_search"]["learning_rate"]
    assert len({rate for rate in used if rate is not None}) == 1
    assert (folder / "pbt.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_can_gain_seeds_and_keeps_the_seeds_that_it_has(folder, capsys):
    before = results(folder)
    main(["pbt", "--resume", str(folder), "--seeds", "2"])
    after = results(folder)
    assert list(after) == ["0", "1"]
    assert after["0"] == before["0"]
    assert "2 seeds" in capsys.readouterr().out


def test_shifts_move_scans_by_one_pixel_in_each_direction():
    scan = np.zeros((1, 8, 8), np.float32)
    scan[0, 2:4, 5:7] = [[1, 2], [3, 4]]
    moved = task.shifted(Split(scan.reshape(1, 64), np.array([5])))
    assert moved.targets.tolist() == [5] * 9
    places = {tuple(np.argwhere(image.reshape(8, 8) == 1)[0]) for image in moved.inputs}
    assert places == {(row, column) for row in (1, 2, 3) for column in (4, 5, 6)}
    assert moved.inputs.sum() == 90


def test_zero_weights_predict_all_classes_alike():
    params = {
        "a": jnp.zeros((64, 32)),
        "b": jnp.zeros(32),
        "c": jnp.zeros((32, 10)),
        "d": jnp.zeros(10),
    }
    examples = Split(jnp.ones((10, 64)), jnp.arange(10))
    assert task.loss(params, examples) == pytest.approx(np.log(10))
    assert task.accuracy(params, examples) == pytest.approx(10)


def test_differences_are_paired_with_the_interval_of_a_t_test():
    rng = np.random.default_rng(0)
    pbt, search = rng.normal(size=5), rng.normal(size=5)

    def trained(test):
        return Trained(*np.zeros(1), np.asarray(test), *np.zeros(5))

    found = [Comparison(*map(trained, each)) for each in zip(pbt, search, pbt, strict=True)]
    wanted = stats.ttest_rel(search, pbt).confidence_interval(0.95)
    assert difference(found, "random_search", "pbt") == pytest.approx(
        (np.mean(search - pbt), wanted.low, wanted.high)
    )
    single = difference(found[:1], "random_search", "pbt")
    assert single.mean == search[0] - pbt[0]
    assert np.isnan(single.low)
