"""Tracks the top eigenvectors of a slowly changing matrix from one step to the next.

Let the orthonormal columns Q span the top eigenspace of an earlier matrix M. M Q gives Ritz pairs
and residuals |M q - theta q|, and each round takes the best vectors in the span of Q and M Q. A
round costs one product with k columns. If M changes little, the first product suffices; a Krylov
method would build a much larger space to find that out. Residuals cannot reveal that an
eigenvector outside the span has overtaken one inside, so request a round now and then.

Source: Y. Saad, "Numerical Methods for Large Eigenvalue Problems", 2011, chapter 5.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import norm


class Tracked(NamedTuple):
    """Ritz pairs in descending order.

    Attributes:
      values: `f[k]`.
      vectors: `f[n, k]`, orthonormal columns.
      image: `f[n, k]`, M times the vectors.
      residuals: `f[k]`, |M q - theta q|; M has an eigenvalue within this distance.
      rounds: `i32[]`; the number of products with k columns is rounds + 1.
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
    """Returns the top eigenpairs of a symmetric matrix M, starting from a subspace.

    Args:
      apply: returns M times its argument, `f[n, k]`.
      start: `f[n, k]`, linearly independent columns.
      tolerance: for the residuals, in the units of M.
      min_rounds: number of rounds to make even if the residuals are small.
      max_rounds: largest number of rounds.

    Example:
      >>> M = jnp.diag(jnp.arange(1.0, 6.0))
      >>> start = jnp.array([[0.0], [0.0], [0.1], [0.1], [1.0]])
      >>> top = track(lambda x: M @ x, start, tolerance=1e-2)
      >>> print(f"{top.values[0]:.3f} after {top.rounds} rounds")
      5.000 after 3 rounds
    """
    k = start.shape[1]

    def ritz_pairs(basis: jax.Array, images: jax.Array, rounds: jax.Array) -> Tracked:
        small = basis.T @ images
        _, rotation = jnp.linalg.eigh((small + small.T) / 2)
        rotation = rotation[:, ::-1][:, :k]
        Q, image = basis @ rotation, images @ rotation
        values = jnp.sum(Q * image, axis=0)
        return Tracked(values, Q, image, norm(image - values * Q, 0), rounds)

    def unfinished(last: Tracked) -> jax.Array:
        needed = jnp.any(last.residuals > tolerance) | (last.rounds < min_rounds)
        return needed & (last.rounds < max_rounds)

    def improve(last: Tracked) -> Tracked:
        residuals = last.image - last.values * last.vectors
        basis, _ = jnp.linalg.qr(jnp.concatenate([last.vectors, residuals], axis=1))
        added = basis[:, k:]
        images = jnp.concatenate([last.image, apply(added)], axis=1)
        return ritz_pairs(jnp.concatenate([last.vectors, added], axis=1), images, last.rounds + 1)

    Q, _ = jnp.linalg.qr(start)
    first = ritz_pairs(Q, apply(Q), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, improve, first)
