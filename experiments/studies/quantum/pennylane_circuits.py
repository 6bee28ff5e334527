"""The circuit of a molecule in PennyLane, for its optimizer that takes only its own circuits.

A step of `qml.QNSPSAOptimizer` has 8 executions: 2 for the gradient, 4 overlaps for the metric, and
2 values that decide whether the step is taken. PennyLane's tracker calls them simulations. Its
"executions" count each group of commuting words by itself: 24 a step for H2, 620 for LiH.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.studies.quantum.problems import Problem

EXECUTIONS = 8


def qnode(problem: Problem) -> Any:
    """Returns the energy as a QNode of the parameters, f[n]."""
    import pennylane as qml

    circuit, observable = problem.energy.circuit, problem.energy.observable
    wires = {wire: wire for wire in range(circuit.num_qubits)}
    words = [qml.pauli.string_to_pauli_word(each, wire_map=wires) for each in observable.words]
    energy: Any = qml.dot([float(each) for each in observable.coefficients], words)
    excitations: dict[str, Any] = {
        "single_excitation": qml.SingleExcitation,
        "double_excitation": qml.DoubleExcitation,
    }

    @qml.qnode(qml.device("lightning.qubit", wires=circuit.num_qubits), diff_method=None)
    def node(params: Any) -> Any:
        for gate in circuit.gates:
            if gate.name == "x":
                qml.PauliX(gate.wires[0])
            else:
                angle: Any = gate.angle
                excitations[gate.name](params[angle.path[0]], wires=gate.wires)
        return qml.expval(energy)

    return node


def qn_spsa_points(
    problem: Problem, rate: float, budget: int, seed: int
) -> Iterator[tuple[float, Any]]:
    """Returns the points of PennyLane's QN-SPSA."""
    del budget
    import pennylane as qml
    from pennylane import numpy as pnp

    node, executions = qnode(problem), 0
    optimizer = qml.QNSPSAOptimizer(stepsize=rate, seed=seed)
    x = pnp.array(problem.start, requires_grad=True)
    yield executions, np.asarray(x)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # step_and_cost() is called by step()
            x = optimizer.step(node, x)
        executions += EXECUTIONS
        yield executions, np.asarray(x)
