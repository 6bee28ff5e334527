"""The study of circuits runs end to end, and counts what methods spend."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.quantum import noise, pennylane_circuits
from experiments.studies.quantum.methods import METHODS, Course, available, spent
from experiments.studies.quantum.problems import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["quantum", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "quantum").iterdir()
    return folder


def test_every_method_has_a_row_and_a_figure_is_drawn(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    rows = found["results"]
    assert {*rows} >= {f"{name}, h2" for name in METHODS if available(name)}
    assert (folder / "1_executions.png").read_bytes()[:4] == b"\x89PNG"
    # The double excitation is the first parameter, and all that H2 needs.
    assert rows["rotosolve, h2"]["executions"] == 5
    assert rows["natural_gradient, h2"]["executions"] <= 60


def test_every_other_task_has_a_table_and_a_sentence(folder):
    found = json.loads((folder / "run.json").read_text())
    titles = [table["title"] for table in found["more_tables"]]
    for word in ("classifier", "Barren plateaus", "hot noise"):
        assert sum(word in title for title in titles) == 1
        assert word in found["verdict"]
    for name in ("2_plateaus", "3_noise"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    slopes = found["results"]["plateau, one layer, global"]
    assert abs(slopes["slope"] - np.log2(3 / 8)) < 0.3
    size = noise.SIZES["smoke"]
    most = 13 * 14 * size.shots * noise.AGENTS * size.steps  # executions, words, shots
    for shots in found["results"]["noise, h2, pruned"]["shots"]:
        assert 0.8 * most <= shots <= most


def test_executions_are_counted_until_the_goal_is_reached():
    executions, energies = np.array([[0, 5, 9], [0, 5, 9]]), np.array([[2, 1, 0], [2, 2, 2]])
    np.testing.assert_array_equal(spent(Course(executions, energies, 0.1), 1.5), [5, np.inf])


@pytest.mark.filterwarnings("ignore:step_and_cost")
def test_pennylanes_circuit_is_the_same_and_its_qn_spsa_executes_it_8_times_a_step():
    qml = pytest.importorskip("pennylane")
    from pennylane import numpy as pnp

    problem = load("h2")
    node = pennylane_circuits.qnode(problem)
    x = pnp.array([0.3, -0.7, 1.1], requires_grad=True)
    np.testing.assert_allclose(node(x), problem.value(np.asarray(x)), atol=1e-6)
    with qml.Tracker(node.device) as tracker:
        qml.QNSPSAOptimizer(seed=0).step(node, x)
    assert tracker.totals["simulations"] == pennylane_circuits.EXECUTIONS
