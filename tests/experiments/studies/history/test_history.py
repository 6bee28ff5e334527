"""The study of the history runs end to end, keeps to its budget and draws its figures."""

import json

import pytest

from experiments.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["history", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "history").iterdir()
    return folder


def test_the_study_counts_evaluations_and_draws_its_figures(folder):
    description = json.loads((folder / "run.json").read_text())
    ravine = description["results"]["ravine"]
    assert ravine["gradient_descent"]["evaluations"] == 391  # the last nine values settle it
    assert 392 <= ravine["magd"]["evaluations"] <= 400  # 8 agents
    assert 0 < ravine["hybrid"]["reached"] <= ravine["hybrid"]["evaluations"] <= 400
    network = description["results"]["network"]
    assert network["gradient_descent"]["gradients"] == [0, 32]  # 16 steps with 2 learning rates
    assert network["magd"]["gradients"][-1] < 32
    assert "hybrid" not in network
    assert [row[0][:4] for row in description["table"]["rows"]] == ["1847", "2025", "2026"]
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {"1_ravine", "8_values", "9_network"}
    report = (folder / "report.html").read_text()
    assert '<div id="history">' in report
    assert "__DATA__" not in report
