"""Gradient descent on the parameters of quantum circuits, simulated in JAX.

    gates = jd.quantum.gates
    circuit = jd.quantum.Circuit(2, [gates.ry(gates.param(0), 0), gates.cnot(0, 1)])
    expectation = circuit.expectation(jd.quantum.pauli_sum({"ZZ": 1.0, "XI": 0.5}))
    value, grads = jax.value_and_grad(expectation)(params)

Circuits and observables:

    Circuit                gates on qubits, whose angles depend on parameters
    gates                  rx, cnot, double_excitation, ...: help(jd.quantum.gates) lists them
    pauli_sum              an observable: words of Pauli matrices with coefficients
    Expectation, PauliSum  the types
"""

from jaxdescent.quantum.circuits import gates
from jaxdescent.quantum.circuits.circuit import Circuit, Expectation
from jaxdescent.quantum.circuits.pauli import PauliSum, pauli_sum

__all__ = [
    "Circuit",
    "Expectation",
    "PauliSum",
    "gates",
    "pauli_sum",
]


def __dir__() -> list[str]:
    return __all__
