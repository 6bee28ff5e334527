"""The top of a spectrum that moves slowly, followed rather than found anew.

Orthonormal columns Q that spanned the top eigenspace a moment ago still nearly do. One round
of Rayleigh and Ritz in span [Q, M Q], which is what a Krylov method would build from k starts
in two products each, makes the error smaller by the square of how much the rest of the
spectrum is damped; rounds go on until every residual |M q - value q| is small or a limit is
reached. Both products of the new Q are known from the old ones, so that nothing is computed
twice, and the residuals certify the values: each has an eigenvalue of M within its residual.

Source: Y. Saad, "Numerical Methods for Large Eigenvalue Problems", 2011, chapter 5.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Tracked(NamedTuple):
    """Ritz pairs, the greatest first.

    Attributes:
      values: `f[k]`.
      vectors: `f[n, k]`, orthonormal.
      residuals: `f[k]`, |M q - value q|: an eigenvalue of M is that near.
      rounds: `i32[]`, each of 2 k products with M, and k at the start.
    """

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array
    rounds: jax.Array


class _Round(NamedTuple):
    Q: jax.Array
    image: jax.Array  # M Q
    values: jax.Array
    residuals: jax.Array
    rounds: jax.Array


def track(
    apply: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    *,
    tolerance: jax.Array | float,
    max_rounds: int,
) -> Tracked:
    """The top eigenpairs of a symmetric matrix near a subspace.

    Args:
      apply: M, from `f[n, k]` to `f[n, k]`.
      start: `f[n, k]`, any columns that are linearly independent.
      tolerance: on the residuals, in the units of the values.
      max_rounds: at least 1.

    Example:
      >>> M = jnp.diag(jnp.arange(1.0, 6.0))
      >>> found = track(lambda x: M @ x, jnp.ones((5, 1)), tolerance=1e-3, max_rounds=50)
      >>> print(f"{found.values[0]:.3f}")
      5.000
    """
    k = start.shape[1]

    def residual(Q: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jnp.sum(Q * image, axis=0)
        return values, jnp.linalg.norm(image - Q * values, axis=0)

    def unfinished(at: _Round) -> jax.Array:
        return jnp.any(at.residuals > tolerance) & (at.rounds < max_rounds)

    def improve(at: _Round) -> _Round:
        basis, _ = jnp.linalg.qr(jnp.concatenate([at.Q, at.image - at.Q * at.values], axis=1))
        more = basis[:, k:]
        images = jnp.concatenate([at.image, apply(more)], axis=1)
        basis = jnp.concatenate([at.Q, more], axis=1)
        small = basis.T @ images
        _, mixing = jnp.linalg.eigh((small + small.T) / 2)
        mixing = mixing[:, ::-1][:, :k]
        Q, image = basis @ mixing, images @ mixing
        return _Round(Q, image, *residual(Q, image), at.rounds + 1)

    Q, _ = jnp.linalg.qr(start)
    image = apply(Q)
    small = Q.T @ image
    _, mixing = jnp.linalg.eigh((small + small.T) / 2)
    Q, image = Q @ mixing[:, ::-1], image @ mixing[:, ::-1]
    first = _Round(Q, image, *residual(Q, image), jnp.array(0))
    last = jax.lax.while_loop(unfinished, improve, first)
    return Tracked(last.values, last.Q, last.residuals, last.rounds)
