"""The shipped observables are the molecules, and the circuits reach their ground states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.sparse.linalg import eigsh

import jaxdescent as jd
from jaxdescent.quantum.circuits.pauli import sparse_matrix

quantum = jd.quantum


@pytest.mark.parametrize(("name", "electrons", "words"), [("h2", 2, 15), ("lih", 4, 631)])
def test_ground_energies_are_the_lowest_eigenvalues(name, electrons, words):
    molecule = quantum.molecule(name)
    lowest = eigsh(sparse_matrix(molecule.observable), k=1, which="SA")[0][0]
    np.testing.assert_allclose(molecule.ground_energy, lowest, rtol=0, atol=1e-9)
    assert molecule.num_electrons == electrons
    assert len(molecule.observable.words) == words
    assert "PennyLane" in molecule.source


def test_the_observable_of_h2_is_pennylanes():
    qml = pytest.importorskip("pennylane")
    positions = np.array([[0, 0, 0], [0, 0, 0.735]]) / 0.529177210903
    hydrogen = qml.qchem.Molecule(["H", "H"], positions)
    peer, _ = qml.qchem.molecular_hamiltonian(hydrogen, method="dhf")
    found = sparse_matrix(quantum.molecule("h2").observable).toarray()
    np.testing.assert_allclose(found, qml.matrix(peer, wire_order=range(4)), atol=1e-9)


@functools.cache
def hydrogen():
    molecule = quantum.molecule("h2")
    circuit = quantum.excitation_circuit(molecule)
    return molecule, circuit, circuit.expectation(molecule.observable)


def test_hydrogen_reaches_its_ground_energy_by_the_natural_gradient_within_1e_8():
    molecule, circuit, energy = hydrogen()
    with jax.enable_x64(True):
        tx, params = quantum.quantum_natural_gradient(circuit, 0.3), jnp.zeros(3)

        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(energy)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), value

        _, values = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=40))(params)
    np.testing.assert_allclose(values[0], -1.116998996754, atol=1e-8)  # Hartree-Fock
    np.testing.assert_allclose(values[-1], molecule.ground_energy, rtol=0, atol=1e-8)


def test_hydrogen_reaches_its_ground_energy_in_one_sweep_of_rotosolve():
    molecule, _, energy = hydrogen()
    with jax.enable_x64(True):
        optimizer = quantum.rotosolve(energy, num_frequencies=2, unit=0.5)
        params, key = jnp.zeros(3), jax.random.key(0)
        _, state = jax.jit(optimizer.step)(params, optimizer.init(params, key), key)
        np.testing.assert_allclose(state.value, molecule.ground_energy, rtol=0, atol=1e-8)
    assert int(state.executions) == 2 * 2 * 3 + 1


def test_an_unknown_molecule_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of \('h2', 'lih'\), got 'h3'"):
        quantum.molecule("h3")
