"""The density of a loss's curvature: all eigenvalues of the Hessian at once, by quadrature.

For a random unit vector v and m Lanczos steps with the tridiagonal T = U diag(t) U^T,

    v^T f(H) v  =  sum_i U[0, i]^2 f(t_i)        exactly for polynomials up to degree 2m - 1,

and its mean over v is tr f(H) / n: nodes t_i and weights U[0, i]^2 are a quadrature rule for the
spectral density. This is stochastic Lanczos quadrature (S. Ubaru, J. Chen, Y. Saad, SIAM J.
Matrix Anal. Appl. 38, 2017; B. Ghorbani et al. 2019, arXiv:1901.10159). The spread between
probes says how far the estimate is to be trusted.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.stability import curvature
from jaxdescent.stability.lanczos import lanczos
from jaxdescent.stability.sharpness import check_preconditioner, preconditioned


class SpectralDensity(NamedTuple):
    """A quadrature rule for each probe.

    Attributes:
      nodes: f[probes, m], Ritz values.
      weights: f[probes, m], not negative, of sum 1 for each probe.
      size: how many eigenvalues the matrix has.
    """

    nodes: jax.Array
    weights: jax.Array
    size: int

    def mean(
        self, fn: Callable[[jax.Array], jax.Array] = lambda x: x
    ) -> tuple[jax.Array, jax.Array]:
        """The mean of fn over the eigenvalues, and its standard error over the probes.

        Times `size` it is a trace: of the matrix, of its square, of its inverse.
        """
        return _over_probes(jnp.sum(self.weights * fn(self.nodes), axis=1))

    def density(self, grid: jax.Array, width: float) -> tuple[jax.Array, jax.Array]:
        """The density on a grid, each node a Gaussian, and its standard error over the probes.

        Args:
          grid: f[points], eigenvalues.
          width: standard deviation of the Gaussians, in the eigenvalues' unit, positive.

        Returns:
          f[points] and f[points], per unit of the eigenvalue; the integral is 1.

        Raises:
          ValueError: the width is not positive.
        """
        validation.positive("width", width)

        def at(point: jax.Array) -> jax.Array:
            bumps = jax.scipy.stats.norm.pdf(point, self.nodes, width)
            return jnp.sum(self.weights * bumps, axis=1)

        return jax.lax.map(lambda point: _over_probes(at(point)), jnp.asarray(grid))


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
    """The spectral density of a loss's Hessian or Gauss-Newton matrix.

    Args:
      loss_fn: from (params, batch) to a scalar; with a `model_fn` from (outputs, batch).
      params: pytree of real arrays.
      batch: pytree of arrays, handed on.
      num_probes: how many random vectors. The error falls with the square root of it, and with
        that of the number of parameters: a large network needs few.
      num_steps: Lanczos steps for each, at most the number of parameters; memory is that many
        copies of them. It is the resolution.
      preconditioner: pytree like the parameters, positive: the spectrum of P^-1/2 H P^-1/2.
      model_fn: from (params, batch) to outputs: takes the Gauss-Newton matrix.
      num_microbatches: parts that the batch is cut into, for a loss that is a mean over it.
      key: for the probes. None for a fixed one.

    Returns:
      A quadrature rule for each probe, with `mean` and `density`.

    Raises:
      ValueError: an argument is out of its range; a leaf is not of floating point; the loss is
        no scalar.
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
    curvature.check(loss_fn, model_fn, params, batch, num_microbatches)
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


@functools.partial(
    jax.jit, static_argnames=("loss_fn", "model_fn", "num_steps", "num_microbatches")
)
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
        matvec = preconditioned(matvec, flat.flat(preconditioner))

    size, _ = curvature.scale(matvec, keys[0], flat)

    def rule(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        probe = jax.random.normal(key, (flat.size,), flat.dtype)
        found = lanczos(lambda v: matvec(v) / size, probe, num_steps)
        usable = found.usable
        # A row that is not usable is not coupled to the first: its node has no weight, and is
        # put where a function of it is sure to be finite.
        small = jnp.where(usable & usable[:, None], found.matrix, 0)
        small += jnp.diag(jnp.where(usable, 0, found.matrix[0, 0]))
        nodes, vectors = jnp.linalg.eigh((small + small.T) / 2)
        return size * nodes, jnp.square(vectors[0])

    return jax.lax.map(rule, keys)


def _over_probes(estimates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard error; of a single probe the error is not known, and NaN."""
    number = len(estimates)
    if number == 1:
        return estimates[0], jnp.full_like(estimates[0], jnp.nan)
    return jnp.mean(estimates), jnp.std(estimates, ddof=1) / number**0.5
