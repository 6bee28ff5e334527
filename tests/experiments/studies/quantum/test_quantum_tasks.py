"""Plateaus have the variances of the theory, data are standardized, and frozen noise is frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.studies.quantum import classifier, noise, plateaus


def test_a_product_circuit_has_the_variance_of_an_integral():
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    slope = np.mean((np.sin(angles) / 2) ** 2)  # of cos^2(theta / 2)
    others = np.mean(np.cos(angles / 2) ** 4)
    for n in (2, 5):
        expected = [slope * others ** (n - 1), slope / n**2, np.mean(np.sin(angles) ** 2) / 2]
        np.testing.assert_allclose(plateaus.theory("one layer", n), expected)


def test_the_variance_of_two_designs_is_the_mean_over_random_unitaries():
    rng, n = np.random.default_rng(0), 2
    d, count = 2**n, 20_000

    def haar():
        parts = rng.normal(size=(2, count, d, d))
        q, r = np.linalg.qr(parts[0] + 1j * parts[1])
        phases = np.einsum("kii->ki", r)
        return q * (phases / np.abs(phases))[:, None, :]

    z, identity = np.diag([1.0, -1.0]), np.eye(2)
    generator = np.kron(np.array([[0, -1j], [1j, 0]]), identity)
    first = np.diag([1.0, 0, 0, 0])
    local = (np.kron(z, identity) + np.kron(identity, z)) / (2 * n)
    state, after = haar()[:, :, 0], haar()
    for observable, expected in zip(
        (first, local, np.kron(z, z)), plateaus.theory("deep", n), strict=True
    ):
        turned = np.conj(np.swapaxes(after, 1, 2)) @ observable @ after
        slopes = 0.5j * (generator @ turned - turned @ generator)
        found = np.einsum("ki,kij,kj->k", np.conj(state), slopes, state).real
        assert np.mean(found**2) == pytest.approx(expected, rel=0.05)


def test_data_are_standardized_by_the_training_part():
    for name in classifier.DATA:
        split = classifier.load(name, 0)
        (x, y), *others = split
        assert x.shape == (200, 2)
        assert len(others[0][1]) == 100
        assert len(others[1][1]) == 269
        np.testing.assert_allclose([x.mean(0), x.std(0)], [[0, 0], [1, 1]], atol=1e-12)
        assert {*y} == {-1.0, 1.0}


def test_the_lowest_energy_of_the_glass_is_below_every_product_state():
    glass = noise.load("glass")
    configurations = np.pi * (np.arange(2**noise.QUBITS)[:, None] >> np.arange(noise.QUBITS) & 1)
    energies = jax.vmap(glass.energy)(jnp.asarray(configurations, jnp.float32))
    assert float(energies.min()) == pytest.approx(glass.lowest, abs=1e-5)


def test_frozen_noise_is_a_function_of_the_parameters():
    gates = jd.quantum.gates
    circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
    function = noise.frozen_noise(circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0})), 1_000)
    both = jax.jit(jax.value_and_grad(function))
    (value, _), (again, _) = both(jnp.array([0.7])), both(jnp.array([0.7]))
    assert value == again
    values, slopes = jax.vmap(both)(jnp.linspace(0.7, 0.7001, 20)[:, None])
    assert len(np.unique(values)) > 10
    assert float(values.mean()) == pytest.approx(np.cos(0.7), abs=4 * 0.65 / 20_000**0.5)
    assert float(slopes.mean()) == pytest.approx(-np.sin(0.7), abs=4 * 0.77 / 40_000**0.5)
