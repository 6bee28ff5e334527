"""Noise has the specified tail, and all methods get the same noise."""

import jax
import numpy as np
import pytest

from experiments.studies.clipping import noisy
from experiments.studies.clipping.noisy import Noise


@pytest.mark.parametrize("noise", [Noise(1.2), Noise(1.8), Noise(1.5, skewed=True)])
def test_noise_has_a_pareto_tail_and_a_zero_center(noise):
    with jax.enable_x64(True):
        drawn = np.asarray(noise.draw(jax.random.key(0), (400_000,)))
    shift = 1 / (noise.p - 1) if noise.skewed else 0
    sizes = 1 + np.abs(drawn + shift)
    for s in (2.0, 10.0, 100.0):
        fraction = np.mean(sizes > s)
        assert fraction == pytest.approx(s**-noise.p, abs=5 * np.sqrt(s**-noise.p / 400_000))
    if not noise.skewed:
        assert np.mean(drawn > 0) == pytest.approx(0.5, abs=0.005)


def test_all_methods_get_the_same_noise_and_one_vector_is_one_block():
    with jax.enable_x64(True):
        losses = np.asarray(noisy.compute_losses(jax.random.key(0), 1.5, False, (2, 5), 3))
    names = [*noisy.clippings(1.5)]
    assert losses.shape == (len(names), 2, 3)
    norm, rms = (losses[names.index(name)] for name in (noisy.GLOBAL_NORM, noisy.BLOCK_RMS))
    np.testing.assert_allclose(norm, rms, rtol=1e-12)
    assert len(np.unique(losses[:, -1, 0].round(12))) >= 4
