"""Predicted losses and exponents under heavy-tailed noise, and measured exponents."""

from typing import Any, NamedTuple

import numpy as np

from experiments.studies.clipping.noisy import GROWING_NORM, NO_CLIPPING, Noise
from experiments.studies.clipping.settings import DIMENSIONS

RESAMPLES = 300


class Fit(NamedTuple):
    """Power of T that a statistic of the losses follows.

    Attributes:
      exponent: the exponent, by least squares of logarithms.
      low, high: its 95% interval, by resampling seeds.
    """

    exponent: float
    low: float
    high: float


def fit_exponent(losses: np.ndarray, grid: np.ndarray, statistic: Any, seed: int = 0) -> Fit:
    """Fits the exponent of a statistic over seeds.

    Args:
      losses: f64[grid, seeds].
      grid: the numbers of steps.
      statistic: a function with `axis`, such as `numpy.mean`.
      seed: the seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    seeds = losses.shape[1]
    resampled = [
        exponent(grid, statistic(losses[:, rng.integers(seeds, size=seeds)], axis=1))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Fit(exponent(grid, statistic(losses, axis=1)), float(low), float(high))


def exponent(grid: np.ndarray, values: np.ndarray) -> float:
    """Returns the exponent of T that the values follow, by least squares of logarithms."""
    x = np.log(grid) - np.mean(np.log(grid))
    return float(x @ np.log(values) / (x @ x))


class PredictedExponents(NamedTuple):
    """Exponents that theory predicts; None if there is no prediction.

    Attributes:
      mean: the exponent of the mean loss in the limit; inf if the mean does not exist.
      median: the exponent of the median loss in the limit.
      finite_mean: the exponent of the mean loss over the numbers of steps in the study.
    """

    mean: float | None
    median: float | None
    finite_mean: float | None = None


def predict_exponents(noise: Noise, clipping: str, grid: np.ndarray) -> PredictedExponents:
    """Returns the exponents that theory predicts for a clipping under a noise.

    Without clipping the average iterate has an infinite variance and a width of T^(1/p - 1). A
    constant threshold makes the variance finite. Under symmetric noise it leaves the minimum
    unchanged; under skewed noise the iterates converge to another point.
    """
    heavy_tailed = 2 * (1 - noise.p) / noise.p
    if clipping == NO_CLIPPING:
        return PredictedExponents(np.inf, heavy_tailed)
    if clipping == GROWING_NORM:
        if noise.skewed or noise.p <= 1:
            return PredictedExponents(heavy_tailed if noise.p > 1 else None, None)
        finite = exponent(grid, growing_norm_loss(noise.p, grid))
        return PredictedExponents(heavy_tailed, None, finite)
    return PredictedExponents(0.0, 0.0) if noise.skewed else PredictedExponents(-1.0, -1.0)


def growing_norm_loss(p: float, grid: np.ndarray) -> np.ndarray:
    """Predicts the mean loss with the norm of symmetric noise clipped at t^(1/p), f64[grid].

    To first order in 1 / T the average is (4 / T^2) sum_s s (1 - (s / T)^2) noise_s. The
    variance of a clipped coordinate is the integral of 2 s P(|noise| > s) up to the threshold,
    because a large norm comes from a single large coordinate.
    """
    losses = []
    for T in grid:
        s = np.arange(1, T + 1.0)
        end = 1 + s ** (1 / p)
        variance = 2 * ((end ** (2 - p) - 1) / (2 - p) - (end ** (1 - p) - 1) / (1 - p))
        weights = 4 / T**2 * s * (1 - (s / T) ** 2)
        losses.append(DIMENSIONS / 2 * np.sum(weights**2 * variance))
    return np.array(losses)


def clipping_bias(noise: Noise, threshold: float) -> float:
    """Computes where the mean of a clipped coordinate's gradient is 0, minus the minimizer.

    The mean is taken over quantiles of the noise, and the zero is found by bisection.
    """
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    drawn = quantiles ** (-1 / noise.p) - 1
    drawn = drawn - 1 / (noise.p - 1) if noise.skewed else np.concatenate([drawn, -drawn])
    low, high = -threshold, threshold
    for _ in range(60):
        middle = (low + high) / 2
        is_above = np.mean(np.clip(middle + drawn, -threshold, threshold)) > 0
        low, high = (low, middle) if is_above else (middle, high)
    return (low + high) / 2
