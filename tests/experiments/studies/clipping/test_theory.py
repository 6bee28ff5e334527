"""Predictions agree with independent computations, and fits recover known exponents."""

import jax
import numpy as np
import pytest

from experiments.studies.clipping import theory
from experiments.studies.clipping.noisy import GROWING_NORM, NO_CLIPPING, Noise
from experiments.studies.clipping.settings import DIMENSIONS


def test_the_predicted_loss_agrees_with_the_recursion():
    """The average's coefficients come from sending each unit of noise through the steps."""
    p, T = 1.5, 400
    x, average = np.zeros((2, T))  # a unit of noise at step s, for all s at once
    for t in range(T):
        average = average + 2 / (t + 2) * (x - average)
        x = x - 4 / (t + 2) * (x + np.eye(T)[t])
    uniform = np.random.default_rng(0).uniform(size=200_000)
    sizes = uniform ** (-1 / p) - 1
    ends = np.arange(1, T + 1) ** (1 / p)
    variance = [np.mean(np.minimum(sizes, end) ** 2) for end in ends[::20]]
    variance = np.interp(ends, ends[::20], variance)
    exact = DIMENSIONS / 2 * np.sum(average**2 * variance)
    assert theory.growing_norm_loss(p, np.array([T]))[0] == pytest.approx(exact, rel=0.03)


def test_predicted_exponents_tend_to_their_limit():
    far = np.array([10**6, 2 * 10**6])
    noise = Noise(1.3)
    predicted = theory.predict_exponents(noise, GROWING_NORM, far)
    assert predicted.mean == pytest.approx(-2 * 0.3 / 1.3)
    assert predicted.finite_mean == pytest.approx(predicted.mean, abs=0.02)
    assert theory.predict_exponents(noise, NO_CLIPPING, far).mean == np.inf


def test_the_mean_of_the_clipped_gradient_is_0_at_the_biased_point():
    assert theory.clipping_bias(Noise(1.5), 3.0) == pytest.approx(0, abs=1e-6)
    noise = Noise(1.5, skewed=True)
    bias = theory.clipping_bias(noise, 3.0)
    with jax.enable_x64(True):
        drawn = np.asarray(noise.draw(jax.random.key(1), (1_000_000,)))
    assert np.mean(np.clip(bias + drawn, -3, 3)) == pytest.approx(0, abs=0.01)
    assert bias > 0.5


def test_the_interval_contains_the_true_exponent():
    grid = 2 ** np.arange(4, 10)
    rng = np.random.default_rng(0)
    losses = 3 * grid[:, None] ** -0.7 * rng.exponential(size=(6, 500))
    fit = theory.fit_exponent(losses, grid, np.mean)
    assert fit.low < -0.7 < fit.high
    assert fit.low < fit.exponent < fit.high
    assert theory.exponent(grid, 3.0 * grid**-0.7) == pytest.approx(-0.7)
