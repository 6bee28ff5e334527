"""Time of values and gradients of circuits, and of their compilation, beside PennyLane's.

    python -m experiments.benchmarks.circuits

Each function is `jax.jit(jax.vmap(jax.value_and_grad(f)))`, once with our simulator and once with
PennyLane's device default.qubit and backpropagation. Both take turns in one process on one device;
the table has medians over the turns, and of the ratios within a turn, of processor time, which
other processes on the machine disturb less. The columns "compile" are the seconds of processor time
to build, trace and compile a circuit, from an empty cache.

"layers" are PennyLane's `StronglyEntanglingLayers`: in each layer a rotation with three angles on
every qubit, and a ring of CNOT gates. The observable has the words of H2 on 4 qubits, and otherwise
the words of a chain, Z_i Z_(i+1) and X_i. "memory" is what the compiled program needs besides its
arguments and results.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pennylane as qml

import jaxdescent as jd
from experiments.runner.report import table

TURNS = 25


class Case(NamedTuple):
    """A circuit.

    Attributes:
      qubits: number of qubits.
      layers: number of layers.
      agents: number of agents.
    """

    qubits: int
    layers: int
    agents: int


CASES = (Case(4, 3, 64), Case(8, 2, 16), Case(12, 1, 1))


def terms_of(qubits: int) -> dict[str, float]:
    """Returns the observable of a case."""
    if qubits == 4:
        observable = jd.quantum.molecule("h2").observable
        return dict(zip(observable.words, observable.coefficients, strict=True))
    words = {f"X{i}": 0.7 for i in range(qubits)}
    words |= {f"Z{i} Z{i + 1}": 1.0 for i in range(qubits - 1)}
    observable = jd.quantum.pauli_sum(words, qubits)
    return dict(zip(observable.words, observable.coefficients, strict=True))


def ours(case: Case) -> Callable[[jax.Array], jax.Array]:
    """Returns our function of angles, f[layers, qubits, 3]."""
    gates, operations = jd.quantum.gates, []
    for layer in range(case.layers):
        for wire in range(case.qubits):
            angles = [gates.param(layer, wire, i) for i in range(3)]
            operations += [
                gates.rz(angles[0], wire),
                gates.ry(angles[1], wire),
                gates.rz(angles[2], wire),
            ]
        step = layer % (case.qubits - 1) + 1
        operations += [gates.cnot(w, (w + step) % case.qubits) for w in range(case.qubits)]
    circuit = jd.quantum.Circuit(case.qubits, operations)
    return circuit.expectation(jd.quantum.pauli_sum(terms_of(case.qubits)))


def peer(case: Case) -> Callable[[Any], Any]:
    """Returns PennyLane's function of the same angles."""
    wires = {wire: wire for wire in range(case.qubits)}
    words = terms_of(case.qubits)
    operators = [qml.pauli.string_to_pauli_word(word, wire_map=wires) for word in words]
    observable: Any = qml.dot(list(words.values()), operators)

    @qml.qnode(qml.device("default.qubit", wires=case.qubits), interface="jax")
    def node(angles: Any) -> Any:
        qml.StronglyEntanglingLayers(angles, wires=range(case.qubits))
        return qml.expval(observable)

    return node


def compiled(make: Callable[[Case], Any], case: Case, angles: jax.Array) -> tuple[Any, float]:
    """Returns a compiled function, and the seconds of processor time that it took."""
    start = time.process_time()
    program = jax.jit(jax.vmap(jax.value_and_grad(make(case)))).lower(angles).compile()
    return program, time.process_time() - start


def timed(program: Any, angles: jax.Array) -> tuple[Any, float]:
    """Returns a result, and the seconds of processor time that it took."""
    start = time.process_time()
    result = jax.block_until_ready(program(angles))
    return result, time.process_time() - start


def compare(case: Case) -> list[str]:
    """Returns a row of the table."""
    shape = (case.agents, case.layers, case.qubits, 3)
    angles = jax.random.normal(jax.random.key(0), shape)
    mine, compile_mine = compiled(ours, case, angles)
    other, compile_other = compiled(peer, case, angles)
    found, expected = mine(angles), other(angles)
    rows = [[timed(program, angles)[1] for program in (mine, other)] for _ in range(TURNS)]
    ratios = [row[1] / row[0] for row in rows]
    medians = [1e6 * statistics.median(column) for column in zip(*rows, strict=True)]
    differences = jax.tree.map(lambda x, y: float(jnp.max(jnp.abs(x - y))), found, expected)
    memory = [
        program.memory_analysis().temp_size_in_bytes / 2**10 / case.agents
        for program in (mine, other)
    ]
    return [
        f"{case.qubits} qubits, {case.layers} layers",
        f"{case.agents}",
        *(f"{median:.0f}" for median in medians),
        f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        f"{compile_mine:.2f}",
        f"{compile_other:.2f}",
        f"{compile_other / compile_mine:.1f}",
        *(f"{size:.1f}" for size in memory),
        f"{max(differences):.0e}",
    ]


def main() -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")  # PennyLane uses deprecated names of JAX
    rows = [compare(case) for case in CASES]
    head = (
        "circuit",
        "agents",
        "CPU us",
        "PennyLane's",
        "ratio",
        "compile s",
        "PennyLane's",
        "ratio",
    )
    print(table((*head, "KiB/agent", "PennyLane's", "difference"), rows))
    print(f"Medians of {TURNS} turns; ratio of times (least to most); float32, value and gradient.")


if __name__ == "__main__":
    main()
