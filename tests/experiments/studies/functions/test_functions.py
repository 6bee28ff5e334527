"""The study of test functions runs end to end, and its methods keep to their budgets."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import functions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["functions", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "functions").iterdir()
    return folder


def test_every_method_keeps_to_its_budget_and_the_figure_is_a_png_file(folder):
    description = json.loads((folder / "run.json").read_text())
    results = description["results"]
    planar = results["2-D"]
    assert "MAGD, 32 agents, 640 gradients" in planar
    for name, by_function in planar.items():
        result = by_function["rastrigin"]
        assert 560 <= min(result["gradients"]) <= max(result["gradients"]) <= 640, name
        has_line_search = "backtracking" in name
        assert (result["evaluations"] > result["gradients"]) == has_line_search
    assert np.shape(results["selection risk"]["rastrigin"]["predicted"]) == (2, 3)
    assert description["table"]["rows"][0][0] == "rastrigin, 2-D"
    assert (folder / "agents.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ("agents=5", "--mesh must divide the 32 agents, got agents=5"),
        ("data=4", "with axes of agents, such as agents=2, got the axis 'data'"),
        ("agents=8", "--mesh must have as many devices as there are, 4, got 8"),
    ],
)
def test_a_wrong_mesh_is_one_line(mesh, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["functions", "--scale", "smoke", "--mesh", mesh])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "seed"), [("small", 961), ("small", 1039), ("full", 801)])
def test_tuning_seeds_are_rejected(scale, seed, capsys):
    with pytest.raises(SystemExit):
        main(["functions", "--scale", scale, "--seed", str(seed)])
    message = f"got {seed}: the study's settings were chosen on the seeds between"
    assert message in capsys.readouterr().err
    for allowed in (0, 800, 1040, 2**32 - 1):
        functions.check(functions.Settings(scale=scale, seed=allowed))
