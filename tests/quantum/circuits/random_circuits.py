"""Random circuits of all gates, and the same circuits in PennyLane."""

from typing import Any, NamedTuple

import numpy as np

import jaxdescent as jd

gates = jd.quantum.gates
QUBITS = 4
TERMS = {
    "ZZII": 0.5,
    "IXXI": 0.3,
    "IIYY": 0.2,
    "ZIII": 0.7,
    "XYYX": -0.4,
    "IYIZ": 0.35,
    "IIII": 1.1,
}
FIXED = {
    "h": "Hadamard",
    "x": "PauliX",
    "y": "PauliY",
    "z": "PauliZ",
    "s": "S",
    "t": "T",
    "cnot": "CNOT",
    "cy": "CY",
    "cz": "CZ",
    "swap": "SWAP",
}
TRAINABLE = {
    "rx": "RX",
    "ry": "RY",
    "rz": "RZ",
    "phase_shift": "PhaseShift",
    "crx": "CRX",
    "cry": "CRY",
    "crz": "CRZ",
    "controlled_phase": "ControlledPhaseShift",
    "ising_xx": "IsingXX",
    "ising_yy": "IsingYY",
    "ising_zz": "IsingZZ",
    "single_excitation": "SingleExcitation",
    "double_excitation": "DoubleExcitation",
    "pauli_rotation": "PauliRot",
}
WIRES = dict.fromkeys(("h", "x", "y", "z", "s", "t", "rx", "ry", "rz", "phase_shift"), 1) | {
    "double_excitation": 4,
    "pauli_rotation": 3,
}


class Drawn(NamedTuple):
    """A random circuit.

    Attributes:
      operations: our gates, whose angles are the entries of the parameters in order.
      peers: rows of name, wires, index of the parameter or None, and word, for PennyLane.
      params: the parameters.
    """

    operations: list[Any]
    peers: list[tuple[str, list[int], int | None, str]]
    params: np.ndarray


def draw(seed: int, count: int = 14, trainable: int = 7) -> Drawn:
    """Draws a circuit with `trainable` of `count` gates that have a parameter."""
    random = np.random.default_rng(seed)
    operations, peers, index = [], [], 0
    for has_angle in random.permutation(np.arange(count) < trainable):
        name = random.choice(list(TRAINABLE if has_angle else FIXED))
        wires = [int(w) for w in random.permutation(QUBITS)[: WIRES.get(name, 2)]]
        letters = "".join(random.choice(list("XYZ"), 3)) if name == "pauli_rotation" else ""
        gate = getattr(gates, name)
        if letters:
            operations.append(gate(letters, gates.param(index), tuple(wires)))
        elif has_angle:
            operations.append(gate(gates.param(index), *wires))
        else:
            operations.append(gate(*wires))
        peers.append((name, wires, index if has_angle else None, letters))
        index += int(has_angle)
    return Drawn(operations, peers, random.normal(size=trainable))


def peer_observable(qml: Any, terms: dict[str, float] = TERMS) -> Any:
    """Returns an observable of PennyLane."""
    wires = {wire: wire for wire in range(len(next(iter(terms))))}
    words = [qml.pauli.string_to_pauli_word(letters, wire_map=wires) for letters in terms]
    return qml.dot(list(terms.values()), words)


def peer_operations(qml: Any, drawn: Drawn) -> list[Any]:
    """Returns the gates of PennyLane."""
    found = []
    for name, wires, index, letters in drawn.peers:
        gate = getattr(qml, (FIXED | TRAINABLE)[name])
        angle = () if index is None else (drawn.params[index],)
        found.append(gate(*angle, *([letters] if letters else []), wires=wires))
    return found
