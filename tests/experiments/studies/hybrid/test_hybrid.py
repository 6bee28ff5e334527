"""The study of jd.hybrid runs end to end, and a run can gain methods."""

import inspect
import json

import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies.hybrid import ablation
from jaxdescent.global_search.parts import Parts


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


def test_an_ablation_runs_variants_on_the_same_instances(tmp_path, capsys):
    flags = ["--scale", "smoke", "--suites", "hard", "--ablation"]
    main(["hybrid", *flags, "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "hybrid").iterdir()
    description = json.loads((folder / "run.json").read_text())
    cells = description["results"]["hard, 2-D"]
    assert list(cells) == ["hybrid", "without_first_descent", "without_restarts"]
    evaluations = [cells[name]["ackley"]["evaluations"] for name in cells]
    assert evaluations[0] != evaluations[1]  # another first round
    assert evaluations[0] == evaluations[2]  # too few evaluations for a restart
    assert "without first descent" in capsys.readouterr().out
    assert any("switches off one part" in note for note in description["notes"])


def test_every_part_has_a_variant_and_the_other_defaults_are_those_of_hybrid():
    assert tuple(ablation.TITLES) == Parts._fields
    defaults = inspect.signature(jd.hybrid).parameters
    assert defaults["patience"].default == ablation.PATIENCE
    assert defaults["lanes"].default == ablation.LANES
