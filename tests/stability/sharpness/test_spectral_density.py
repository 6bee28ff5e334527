"""Quadrature over the spectrum against dense eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from tests.stability.sharpness import networks


def test_a_probe_integrates_polynomials_exactly():
    spectrum = np.random.default_rng(0).normal(size=60)
    with jax.enable_x64(True):
        found = jd.spectral_density(
            networks.quadratic, jnp.zeros(60), jnp.diag(jnp.asarray(spectrum)),
            num_probes=1, num_steps=5, key=jax.random.key(3),
        )  # fmt: skip
        key = jax.random.split(jax.random.key(3), 1)[0]
        overlaps = jax.random.normal(key, (60,)) ** 2
        overlaps /= overlaps.sum()
        for power in range(11):
            value, error = found.mean(lambda x, power=power: x**power)
            exact = jnp.sum(overlaps * spectrum**power)
            assert (abs(value / exact - 1) < 1e-11) == (power < 10)
            assert np.isnan(error)  # a single probe has no standard error


def test_traces_are_within_their_standard_errors():
    hessian = networks.hessian()
    found = jd.spectral_density(
        networks.loss, networks.params(), networks.batch(), num_probes=200, num_steps=6
    )
    assert found.size == len(hessian)
    for fn, exact in ((lambda x: x, np.trace(hessian)), (jnp.square, np.sum(hessian**2))):
        mean, error = found.mean(fn)
        assert abs(found.size * mean - exact) < 4 * found.size * error
        assert found.size * error < 0.05 * exact


def test_density_integrates_to_one_and_peaks_at_the_eigenvalues():
    spectrum = jnp.repeat(jnp.array([-1.0, 0.0, 2.0]), jnp.array([5, 85, 10]))
    found = jd.spectral_density(
        networks.quadratic, jnp.zeros(100), jnp.diag(spectrum), num_probes=100, num_steps=10
    )
    grid = np.linspace(-3, 4, 1401)
    density, error = found.density(grid, 0.1)

    def mass(low, high):
        return np.trapezoid(np.where((grid > low) & (grid < high), density, 0), grid)

    assert abs(mass(-3, 4) - 1) < 1e-5
    for place, weight in ((-1, 0.05), (0, 0.85), (2, 0.1)):
        assert abs(mass(place - 0.5, place + 0.5) - weight) < 0.02
        peak = np.argmin(np.abs(grid - place))
        expected = weight / (0.1 * np.sqrt(2 * np.pi))
        assert abs(density[peak] - expected) < 4 * error[peak]


def test_more_steps_than_distinct_eigenvalues_stay_finite():
    found = jd.spectral_density(networks.quadratic, jnp.zeros(30), 2 * jnp.eye(30), num_steps=30)
    assert np.isfinite(found.nodes).all()
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    for fn, value in ((lambda x: x, 2), (lambda x: 1 / x, 0.5), (jnp.log, np.log(2))):
        np.testing.assert_allclose(found.mean(fn)[0], value, rtol=1e-5)


def test_preconditioned_gauss_newton_in_microbatches_equals_the_batch():
    inputs = networks.params(), networks.batch()
    options = {"num_steps": 6, "model_fn": networks.outputs}
    twos = jax.tree.map(lambda x: jnp.full_like(x, 2.0), inputs[0])
    whole = jd.spectral_density(networks.output_loss, *inputs, **options)
    parts = jd.spectral_density(
        networks.output_loss, *inputs, preconditioner=twos, num_microbatches=4, **options
    )
    np.testing.assert_allclose(parts.nodes, whole.nodes / 2, atol=1e-4)
    assert whole.nodes.min() > -1e-5


def test_bad_arguments_are_named():
    inputs = networks.quadratic, jnp.ones(4), jnp.eye(4)
    with pytest.raises(ValueError, match="num_probes must be an integer at least 1, got 0"):
        jd.spectral_density(*inputs, num_probes=0)
    with pytest.raises(ValueError, match="num_steps must be an integer at least 1, got 0"):
        jd.spectral_density(*inputs, num_steps=0)
    with pytest.raises(ValueError, match=r"width must be in \(0, inf\), got 0"):
        jd.spectral_density(*inputs).density(jnp.zeros(3), 0)
