"""Two molecules as observables, and circuits of excitations for them.

    molecule = jd.quantum.molecule("h2")
    circuit = jd.quantum.excitation_circuit(molecule)
    energy = circuit.expectation(molecule.observable)

Qubits are spin orbitals in the order of their energy, with alternating spins; the electrons occupy
the first ones. The coefficients are data of the package, whose files name their source.

The circuit applies all double and single excitations of the electrons that conserve the spin to
this state, as J. M. Arrazola et al. 2022, arXiv:2106.13839, propose. It conserves the number of
electrons.
"""

import itertools
import json
from importlib import resources
from typing import Literal, NamedTuple

from jaxdescent import validation
from jaxdescent.quantum.circuits import gates
from jaxdescent.quantum.circuits.circuit import Circuit
from jaxdescent.quantum.circuits.pauli import PauliSum, pauli_sum

NAMES = ("h2", "lih")

CHEMICAL_ACCURACY = 1.6e-3
"""Hartree: 1 kcal/mol."""


class Molecule(NamedTuple):
    """A molecule in the basis STO-3G.

    Attributes:
      name: "h2" or "lih".
      observable: the energy in Hartree, with the repulsion of the nuclei.
      num_electrons: number of electrons.
      ground_energy: lowest eigenvalue of the observable, in Hartree.
      geometry: positions of the nuclei in angstrom.
      source: program and method that gave the coefficients.
    """

    name: str
    observable: PauliSum
    num_electrons: int
    ground_energy: float
    geometry: tuple[tuple[str, tuple[float, ...]], ...]
    source: str


GROUND_ENERGIES = {"h2": -1.13730603596, "lih": -7.88240194664}
"""From the sparse matrices of the observables, by Lanczos iterations of SciPy."""


def molecule(name: Literal["h2", "lih"]) -> Molecule:
    """Returns a molecule.

    Args:
      name: "h2", hydrogen at 0.735 angstrom: 4 qubits and 15 words; or "lih", lithium hydride at
        1.595 angstrom with all electrons and orbitals: 12 qubits and 631 words.

    Raises:
      ValueError: the name is not known.

    Example:
      >>> import jaxdescent as jd
      >>> hydrogen = jd.quantum.molecule("h2")
      >>> hydrogen.observable.num_qubits, round(hydrogen.ground_energy, 6)
      (4, -1.137306)
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {NAMES}, got {validation.shown(name)}")
    file = resources.files("jaxdescent.quantum.circuits") / "data" / f"{name}.json"
    data = json.loads(file.read_text())
    places = zip(data["symbols"], map(tuple, data["geometry_angstrom"]), strict=True)
    return Molecule(
        name,
        pauli_sum(data["terms"], data["num_qubits"]),
        data["num_electrons"],
        GROUND_ENERGIES[name],
        tuple(places),
        data["source"],
    )


def excitation_circuit(molecule: Molecule) -> Circuit:
    """Returns the circuit of all excitations of a molecule; at parameters 0 it is Hartree-Fock.

    Args:
      molecule: a molecule.

    Returns:
      A circuit with params f[n]: first the double excitations, then the single ones. n is 3 for H2
      and 92 for LiH.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> hydrogen = jd.quantum.molecule("h2")
      >>> circuit = jd.quantum.excitation_circuit(hydrogen)
      >>> energy = circuit.expectation(hydrogen.observable)
      >>> round(float(energy(jnp.zeros(3))), 4)  # Hartree-Fock
      -1.117
    """
    if not isinstance(molecule, Molecule):
        raise TypeError(
            f"molecule must be a jd.quantum.Molecule, got {validation.shown(molecule)}; make it by "
            "jd.quantum.molecule('h2')"
        )
    occupied = range(molecule.num_electrons)
    free = range(molecule.num_electrons, molecule.observable.num_qubits)
    doubles = [
        (*pair, *target)
        for pair in itertools.combinations(occupied, 2)
        for target in itertools.combinations(free, 2)
        if sum(i % 2 for i in pair) == sum(i % 2 for i in target)
    ]
    singles = [(i, j) for i in occupied for j in free if i % 2 == j % 2]
    return Circuit(
        molecule.observable.num_qubits,
        [
            [gates.x(i) for i in occupied],
            [gates.double_excitation(gates.param(i), *each) for i, each in enumerate(doubles)],
            [
                gates.single_excitation(gates.param(i), *each)
                for i, each in enumerate(singles, start=len(doubles))
            ],
        ],
    )
