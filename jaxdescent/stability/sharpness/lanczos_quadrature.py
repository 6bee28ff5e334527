"""Spectral density of a loss's Hessian, by stochastic Lanczos quadrature.

For a random unit vector v and m Lanczos steps with the tridiagonal T = U diag(t) U^T,

    v^T f(H) v  =  sum_i U[0, i]^2 f(t_i)        exactly for polynomials up to degree 2m - 1,

and its mean over v is tr f(H) / n: nodes t_i and weights U[0, i]^2 are a quadrature rule for the
spectral density. The spread between probes estimates the error.

Source: S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38, 2017; B. Ghorbani et al. 2019,
arXiv:1901.10159.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.programs import compiled
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.arguments import check_loss, check_preconditioner
from jaxdescent.stability.sharpness.lanczos import lanczos


class SpectralDensity(NamedTuple):
    """A quadrature rule for each probe.

    Attributes:
      nodes: f[probes, m], Ritz values.
      weights: f[probes, m], non-negative, with sum 1 for each probe.
      size: number of eigenvalues of the matrix.
    """

    nodes: jax.Array
    weights: jax.Array
    size: int

    def mean(
        self, fn: Callable[[jax.Array], jax.Array] = lambda x: x
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the mean of fn over the eigenvalues, and its standard error over the probes.

        Multiply by `size` for a trace: of the matrix, of its square, of its inverse.
        """
        return _over_probes(jnp.sum(self.weights * fn(self.nodes), axis=1))

    def density(self, grid: jax.Array, width: float) -> tuple[jax.Array, jax.Array]:
        """Returns the density on a grid, with Gaussian bumps, and its standard error over probes.

        Args:
          grid: f[points], eigenvalues.
          width: standard deviation of the Gaussians, in units of the eigenvalues, positive.

        Returns:
          f[points] and f[points], per unit of the eigenvalue; the integral is 1.

        Raises:
          ValueError: the width is not positive.
        """
        validation.positive("width", width)

        def at(point: jax.Array) -> tuple[jax.Array, jax.Array]:
            bumps = jax.scipy.stats.norm.pdf(point, self.nodes, width)
            return _over_probes(jnp.sum(self.weights * bumps, axis=1))

        return jax.lax.map(at, jnp.asarray(grid))


def spectral_density(
    loss_fn: Callable[[Any, Any], jax.Array],
    params: Any,
    batch: Any = None,
    /,
    *,
    num_probes: int = 4,
    num_steps: int = 40,
    preconditioner: Any = None,
    model_fn: Callable[[Any, Any], Any] | None = None,
    num_microbatches: int = 1,
    key: jax.Array | None = None,
) -> SpectralDensity:
    """Estimates the spectral density of a loss's Hessian or Gauss-Newton matrix.

    Args:
      loss_fn: called as `loss_fn(params, batch)`, with a `model_fn` as `loss_fn(outputs, batch)`;
        returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn` and `model_fn`.
      num_probes: number of random vectors. The error decreases with the square root of this
        number times the number of parameters, so that a large network needs few.
      num_steps: Lanczos steps for each vector, at most the number of parameters; more steps
        resolve finer detail. Memory is that many copies of the parameters.
      preconditioner: positive pytree like the parameters; the matrix is then P^-1/2 H P^-1/2.
      model_fn: called as `model_fn(params, batch)`; returns outputs. The matrix is then the
        Gauss-Newton matrix.
      num_microbatches: number of parts that the batch is split into, for a loss that is a mean
        over it.
      key: for the random vectors. None for a fixed key.

    Returns:
      A quadrature rule for each random vector, with methods `mean` and `density`.

    Raises:
      ValueError: an argument is out of its range; a leaf of params is not floating-point; the
        loss is not a scalar.
      ImportError: matfree is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxdescent as jd
      >>> def loss(w, scales):
      ...     return 0.5 * jnp.sum(scales * w**2)
      >>> found = jd.spectral_density(loss, jnp.ones(8), jnp.arange(8.0), num_steps=8)
      >>> trace, error = (8 * x for x in found.mean())
      >>> bool(abs(trace - 28) < 3 * error)
      True
    """
    flat = curvature.layout(params)
    validation.integer_in("num_probes", num_probes, 1)
    validation.integer_in("num_steps", num_steps, 1)
    check_loss(loss_fn, model_fn, params, batch, num_microbatches)
    if preconditioner is not None:
        check_preconditioner(preconditioner, params)
    nodes, weights = _rules(
        params,
        batch,
        preconditioner,
        jax.random.split(jax.random.key(0) if key is None else key, num_probes),
        loss_fn=loss_fn,
        model_fn=model_fn,
        num_steps=min(num_steps, flat.size),
        num_microbatches=num_microbatches,
    )
    return SpectralDensity(nodes, weights, flat.size)


@compiled("loss_fn", "model_fn", "num_steps", "num_microbatches")
def _rules(
    params: Any,
    batch: Any,
    preconditioner: Any,
    keys: jax.Array,
    *,
    loss_fn: Any,
    model_fn: Any,
    num_steps: int,
    num_microbatches: int,
) -> tuple[jax.Array, jax.Array]:
    flat = curvature.layout(params)
    matvec = curvature.product(loss_fn, model_fn, params, batch, flat, num_microbatches)
    if preconditioner is not None:
        matvec = curvature.preconditioned(matvec, flat.flat(preconditioner))

    size, _ = curvature.scale(matvec, keys[0], flat)

    def rule(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        probe = jax.random.normal(key, (flat.size,), flat.dtype)
        found = lanczos(lambda v: matvec(v) / size, probe, num_steps)
        usable = found.usable
        # Unusable rows are not coupled to the first: their nodes have weight 0, and are moved to
        # the first Rayleigh quotient, where functions of them are finite.
        small = jnp.where(usable & usable[:, None], found.matrix, 0)
        small += jnp.diag(jnp.where(usable, 0, found.matrix[0, 0]))
        nodes, vectors = jnp.linalg.eigh((small + small.T) / 2)
        return size * nodes, jnp.square(vectors[0])

    return jax.lax.map(rule, keys)


def _over_probes(estimates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and standard error, which is NaN for a single probe."""
    num_probes = len(estimates)
    if num_probes == 1:
        return estimates[0], jnp.full_like(estimates[0], jnp.nan)
    return jnp.mean(estimates), jnp.std(estimates, ddof=1) / num_probes**0.5
