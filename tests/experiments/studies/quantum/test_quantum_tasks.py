"""Barren plateaus have the variances of the theory, and the classifier's data are standardized."""

import numpy as np
import pytest

from experiments.studies.quantum import classifier, plateaus


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
