"""CMA-ES: a Gaussian distribution that moves toward low values, as pure functions.

    x_k ~ m + sigma N(0, C),    y_k = (x_k - m) / sigma,    sorted by value
    m     <- m + sigma <y>,     <y> = sum of w_k y_k over the better half
    sigma <- sigma exp(c_s / d_s (|p_s| / E|N(0, I)| - 1)),    p_s the path of C^-1/2 <y>
    C     <- (1 - c_1 - c_mu sum w) C + c_1 p_c p_c^T + c_mu sum w_k y_k y_k^T,    p_c of <y>

The weights w_k of the worse half are negative (active CMA-ES). The number of samples is an array,
at most `rows`, so that restarts with larger populations do not compile again.

Sources: N. Hansen, 2016, arXiv:1604.00772 (all constants); N. Hansen, 2011, RR-7748 (samples that
are not drawn from the distribution: their lengths are limited); N. Hansen, 2009, GECCO workshop on
BBOB (restarts in two regimes, BIPOP).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

SMALLEST_AXIS = 1e-7
"""Shortest principal axis of the distribution, relative to the longest."""

LARGE, SMALL = 0, 1
"""Regimes of restarts: populations that double, and populations between the first and those."""

_LARGEST_LOG_STEP = 1.0  # of sigma in one generation


class Gaussian(NamedTuple):
    """The distribution and its evolution paths.

    Attributes:
      mean: f[n].
      sigma: f[], the overall step size.
      covariance: f[n, n].
      basis: f[n, n], its eigenvectors, as columns.
      axes: f[n], the square roots of its eigenvalues.
      sigma_path, covariance_path: f[n].
      generation: i32[].
    """

    mean: jax.Array
    sigma: jax.Array
    covariance: jax.Array
    basis: jax.Array
    axes: jax.Array
    sigma_path: jax.Array
    covariance_path: jax.Array
    generation: jax.Array

    @property
    def width(self) -> jax.Array:
        """f[], the standard deviation along the longest principal axis."""
        return self.sigma * jnp.max(self.axes)


def default_population_size(dimension: int) -> int:
    """Returns the number of samples of the first run, 4 + 3 log n rounded down."""
    return 4 + int(3 * math.log(dimension))


def begin(mean: jax.Array, sigma: jax.Array) -> Gaussian:
    """Returns the isotropic distribution with a mean f[n] and a standard deviation f[]."""
    identity = jnp.eye(mean.size, dtype=mean.dtype)
    zeros = jnp.zeros_like(mean)
    return Gaussian(
        mean=mean,
        sigma=jnp.asarray(sigma, mean.dtype),
        covariance=identity,
        basis=identity,
        axes=jnp.ones_like(mean),
        sigma_path=zeros,
        covariance_path=zeros,
        generation=jnp.int32(0),
    )


def sample(gaussian: Gaussian, key: jax.Array, count: int) -> jax.Array:
    """Draws points, f[count, n]."""
    shape = (count, gaussian.mean.size)
    normal = jax.random.normal(key, shape, gaussian.mean.dtype)
    return gaussian.mean + gaussian.sigma * ((gaussian.axes * normal) @ gaussian.basis.T)


def update(
    gaussian: Gaussian,
    points: jax.Array,
    values: jax.Array,
    population_size: jax.Array,
    *,
    largest_width: ArrayLike,
    limits_lengths: jax.Array,
) -> Gaussian:
    """Returns the distribution after one generation.

    Args:
      gaussian: the distribution.
      points: f[rows, n].
      values: f[rows], inf in rows beyond the population.
      population_size: i32[], number of rows in use.
      largest_width: f[], the largest standard deviation along any axis.
      limits_lengths: bool[] or bool[rows], whether points may be from elsewhere, such as after a
        local search. Their Mahalanobis distances from the mean, in units of sigma, are then limited
        to sqrt(n) + 2 n / (n + 2).
    """
    n = gaussian.mean.size
    rates = _rates(n, population_size, len(points), gaussian.mean.dtype)
    w = rates.weights
    order = jnp.argsort(values)
    y = (points[order] - gaussian.mean) / gaussian.sigma
    limits = jnp.broadcast_to(limits_lengths, values.shape)[order]
    lengths = jnp.linalg.norm((y @ gaussian.basis) / gaussian.axes, axis=1)
    longest = n**0.5 + 2 * n / (n + 2)
    shrink = jnp.where(limits, longest / jnp.maximum(lengths, longest), 1)
    y, lengths = y * shrink[:, None], lengths * shrink

    expected = n**0.5 * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # length of a standard normal vector
    mean_y = jnp.maximum(w, 0) @ y
    whitened = gaussian.basis @ ((gaussian.basis.T @ mean_y) / gaussian.axes)
    c_s, c_c, c_1, c_mu = rates.sigma_path, rates.covariance_path, rates.rank_one, rates.rank_mu
    sigma_path = (1 - c_s) * gaussian.sigma_path
    sigma_path += jnp.sqrt(c_s * (2 - c_s) * rates.effective_size) * whitened
    path_length = jnp.linalg.norm(sigma_path)
    age = gaussian.generation.astype(y.dtype) + 1
    stalls = path_length / jnp.sqrt(1 - (1 - c_s) ** (2 * age)) < (1.4 + 2 / (n + 1)) * expected
    covariance_path = (1 - c_c) * gaussian.covariance_path
    covariance_path += stalls * jnp.sqrt(c_c * (2 - c_c) * rates.effective_size) * mean_y

    # A negative weight times a long vector could make the covariance indefinite.
    bounded_w = jnp.where(w < 0, w * n / jnp.maximum(lengths**2, 1e-12), w)
    kept = 1 - c_1 - c_mu * jnp.sum(w) + c_1 * (1 - stalls) * c_c * (2 - c_c)
    covariance = kept * gaussian.covariance + c_1 * jnp.outer(covariance_path, covariance_path)
    covariance += c_mu * (y.T * bounded_w) @ y
    covariance = (covariance + covariance.T) / 2
    eigenvalues, basis = jnp.linalg.eigh(covariance)
    smallest = SMALLEST_AXIS**2 * jnp.max(eigenvalues)
    axes = jnp.sqrt(jnp.maximum(eigenvalues, smallest))
    log_step = jnp.minimum(c_s / rates.damping * (path_length / expected - 1), _LARGEST_LOG_STEP)
    sigma = jnp.minimum(gaussian.sigma * jnp.exp(log_step), largest_width / jnp.max(axes))
    return Gaussian(
        mean=gaussian.mean + gaussian.sigma * mean_y,
        sigma=sigma,
        covariance=covariance,
        basis=basis,
        axes=axes,
        sigma_path=sigma_path,
        covariance_path=covariance_path,
        generation=gaussian.generation + 1,
    )


def next_population(
    spent: jax.Array, doublings: jax.Array, draw: jax.Array, *, smallest: ArrayLike, largest: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the next run's regime, the number of doublings and the population, f[] (BIPOP).

    Args:
      spent: i32[2], evaluations of the runs of each regime. The regime with fewer is next.
      doublings: i32[], number of runs of the large regime.
      draw: f[], uniform in [0, 1].
      smallest: the population of the first run.
      largest: an upper bound.
    """
    regime = jnp.argmin(spent).astype(jnp.int32)
    is_large = regime == LARGE
    doublings = doublings + is_large
    large_size = jnp.minimum(smallest * 2.0**doublings, largest)
    # The logarithm is drawn as the square of a uniform number (Hansen 2009).
    small_size = smallest * jnp.maximum(large_size / (2 * smallest), 1) ** draw**2
    return regime, doublings, jnp.where(is_large, large_size, jnp.floor(small_size))


class _Rates(NamedTuple):
    """Weights f[rows] and learning rates of one population size, in Hansen's notation."""

    weights: jax.Array
    effective_size: jax.Array  # mu_eff
    sigma_path: jax.Array  # c_sigma
    covariance_path: jax.Array  # c_c
    rank_one: jax.Array  # c_1
    rank_mu: jax.Array  # c_mu
    damping: jax.Array  # d_sigma


def _rates(n: int, population_size: jax.Array, rows: int, dtype: jnp.dtype) -> _Rates:
    size = population_size.astype(dtype)
    rank = jnp.arange(1, rows + 1, dtype=dtype)
    raw = jnp.where(rank <= size, jnp.log((size + 1) / 2) - jnp.log(rank), 0)
    is_better_half = rank <= jnp.floor(size / 2)
    better = jnp.where(is_better_half, raw, 0)
    worse = jnp.where(is_better_half, 0, raw)
    better /= jnp.sum(better)
    mu = 1 / jnp.sum(better**2)
    mu_worse = jnp.sum(worse) ** 2 / jnp.sum(worse**2)
    c_c = (4 + mu / n) / (n + 4 + 2 * mu / n)
    c_s = (mu + 2) / (n + mu + 5)
    c_1 = 2 / ((n + 1.3) ** 2 + mu)
    c_mu = jnp.minimum(1 - c_1, 2 * (0.25 + mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
    bounds = (1 + c_1 / c_mu, 1 + 2 * mu_worse / (mu_worse + 2), (1 - c_1 - c_mu) / (n * c_mu))
    worse *= jnp.minimum(jnp.minimum(bounds[0], bounds[1]), bounds[2]) / -jnp.sum(worse)
    damping = 1 + 2 * jnp.maximum(0, jnp.sqrt((mu - 1) / (n + 1)) - 1) + c_s
    return _Rates(better + worse, mu, c_s, c_c, c_1, c_mu, damping)
