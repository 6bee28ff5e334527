"""The study of jd.hybrid runs end to end, and a run can gain methods."""

import json

import numpy as np
import pytest

from experiments.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["hybrid", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "hybrid").iterdir()
    return folder


def test_every_method_keeps_to_its_budget_and_the_figure_is_a_png_file(folder):
    description = json.loads((folder / "run.json").read_text())
    budgets = {"hard, 2-D": ("ackley", 600), "development, 2-D": ("branin", 400)}
    assert description["results"].keys() == budgets.keys()
    for group, (function, budget) in budgets.items():
        for cells in description["results"][group].values():
            cell = cells[function]
            assert np.max(cell["evaluations"]) <= budget
            assert np.all(np.less_equal(cell["to_target"], cell["evaluations"]))
            assert np.array_equal(np.greater(cell["to_target"], 0), cell["solved"])
    assert (folder / "success.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_can_gain_a_method_and_keeps_the_cells_that_it_has(folder, capsys):
    before = json.loads((folder / "run.json").read_text())["results"]["hard, 2-D"]
    methods = ["--methods", "hybrid", "lbfgs", "adam"]
    main(["hybrid", "--resume", str(folder), *methods])
    after = json.loads((folder / "run.json").read_text())["results"]["hard, 2-D"]
    assert list(after) == ["hybrid", "adam", "lbfgs"]
    assert after["hybrid"] == before["hybrid"]
