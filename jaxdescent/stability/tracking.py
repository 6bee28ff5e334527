"""The top of a spectrum that moves slowly, followed rather than found anew.

Orthonormal columns Q that spanned the top eigenspace of M a moment ago nearly still do. M Q
gives Ritz pairs and residuals |M q - theta q|, and each round then takes the best of the span
of Q and M Q; what it costs is one product with k columns. Where M moves little, the
first product will do: a Krylov method builds far more only to find out. But residuals cannot
tell that an eigenvector outside the span has overtaken one within, so that a round should be
asked for now and then whatever they are.

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
      image: `f[n, k]`, M times the vectors.
      residuals: `f[k]`, |M q - theta q|: M has an eigenvalue that near.
      rounds: `i32[]`; products with k columns were one more.
    """

    values: jax.Array
    vectors: jax.Array
    image: jax.Array
    residuals: jax.Array
    rounds: jax.Array


def track(
    apply: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    *,
    tolerance: jax.Array | float,
    min_rounds: jax.Array | int = 0,
    max_rounds: int = 4,
) -> Tracked:
    """The top eigenpairs of a symmetric matrix M, near a subspace.

    Args:
      apply: from `f[n, k]` to M times it.
      start: `f[n, k]`, columns that are linearly independent.
      tolerance: of the residuals, in the units of M.
      min_rounds: how many there are whatever the residuals.
      max_rounds: how many there are at most.

    Example:
      >>> M = jnp.diag(jnp.arange(1.0, 6.0))
      >>> start = jnp.array([[0.0], [0.0], [0.1], [0.1], [1.0]])
      >>> top = track(lambda x: M @ x, start, tolerance=1e-2)
      >>> print(f"{top.values[0]:.3f} after {top.rounds} rounds")
      5.000 after 3 rounds
    """
    k = start.shape[1]

    def best(basis: jax.Array, images: jax.Array, rounds: jax.Array) -> Tracked:
        small = basis.T @ images
        _, turn = jnp.linalg.eigh((small + small.T) / 2)
        turn = turn[:, ::-1][:, :k]
        Q, image = basis @ turn, images @ turn
        values = jnp.sum(Q * image, axis=0)
        return Tracked(values, Q, image, jnp.linalg.norm(image - values * Q, axis=0), rounds)

    def unfinished(at: Tracked) -> jax.Array:
        wanted = jnp.any(at.residuals > tolerance) | (at.rounds < min_rounds)
        return wanted & (at.rounds < max_rounds)

    def improve(at: Tracked) -> Tracked:
        left = at.image - at.values * at.vectors
        basis, _ = jnp.linalg.qr(jnp.concatenate([at.vectors, left], axis=1))
        more = basis[:, k:]
        images = jnp.concatenate([at.image, apply(more)], axis=1)
        return best(jnp.concatenate([at.vectors, more], axis=1), images, at.rounds + 1)

    Q, _ = jnp.linalg.qr(start)
    first = best(Q, apply(Q), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, improve, first)
