"""Semidefinite linear complementarity problems of a few rows, by an interior-point method.

Given a symmetric A and a positive semidefinite linear map B on symmetric matrices, find X with

    X >= 0,    S = A + B[X] >= 0,    <X, S> = 0

(>= 0: positive semidefinite). This is the optimality condition of the convex problem
min_{X >= 0} <A, X> + <X, B[X]> / 2. For 1 x 1 matrices x = max(0, -a / b).

A central flow solves it in every substep. A is the rate at which the stability margin of the
directions at the edge changes without oscillation, and B[X] is the rate at which an oscillation
of covariance X restores it. The matrices have one row for each such direction. An interior-point
method is therefore exact and cheap: Newton steps on X S = mu I in Nesterov-Todd scaling, mu -> 0,
each one Cholesky solve with k (k + 1) / 2 unknowns.

Source: Y. E. Nesterov, M. J. Todd, "Self-scaled barriers and interior-point methods for convex
programming", 1997; M. Kojima, S. Shindoh, S. Hara, "Interior-point methods for the monotone
semidefinite linear complementarity problem", 1997.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from jaxdescent.numerics import norm

MAX_ITERATIONS = 50
SMALLEST = 1e-6  # smallest unit of a mode, relative to the largest


class Complementarity(NamedTuple):
    """A solution with its residual.

    Attributes:
      X: `f[k, k]`, positive definite, close to the boundary where a solution is on it; 0 if A
        is 0.
      slack: `f[k, k]`, S, positive definite likewise.
      residual: `f[]`, the larger of |A + B[X] - S| / |A| and <X, S> / (|A| max(|X|, |A| / b)),
        in Frobenius norms, with b the mean eigenvalue of B. X and S are positive, so that a
        residual of 0 certifies X.
      rank: `i32[]`, number of directions in which X is larger than S.
      iterations: `i32[]`, number of Newton steps.
    """

    X: jax.Array
    slack: jax.Array
    residual: jax.Array
    rank: jax.Array
    iterations: jax.Array


def symmetric_basis(k: int) -> np.ndarray:
    """Returns an orthonormal basis of the symmetric matrices, `f64[k (k + 1) / 2, k, k]`.

    Example:
      >>> basis = symmetric_basis(3)
      >>> np.allclose(np.einsum("aij,bij->ab", basis, basis), np.eye(6))
      True
    """
    rows, columns = np.triu_indices(k)
    basis = np.zeros((len(rows), k, k))
    weight = np.where(rows == columns, 0.5, np.sqrt(0.5))
    index = np.arange(len(rows))
    basis[index, rows, columns] += weight
    basis[index, columns, rows] += weight
    return basis


class _Iterate(NamedTuple):
    X: jax.Array
    S: jax.Array
    error: jax.Array
    better: jax.Array
    iterations: jax.Array


def solve_complementarity(A: jax.Array, B: jax.Array) -> Complementarity:
    """Solves X >= 0, S = A + B[X] >= 0, <X, S> = 0.

    A singular B is shifted by a rounding error of its trace, which selects one of the solutions.
    If no solution exists, X and the residual are large. Differentiation is not supported.

    Args:
      A: `f[k, k]`, symmetric.
      B: `f[d, d]`, d = k (k + 1) / 2, positive semidefinite; the map in `symmetric_basis(k)`.

    Returns:
      The solution with its residual, about 1e-6 in float32 and 1e-12 in float64.

    Raises:
      ValueError: the shapes do not match.

    Example:
      >>> solution = solve_complementarity(jnp.array([[-3.0]]), jnp.array([[2.0]]))
      >>> print(f"{solution.X[0, 0]:.3f}")
      1.500
    """
    k = A.shape[0] if A.ndim else 0
    d = k * (k + 1) // 2
    if A.shape != (k, k) or not k:
        raise ValueError(f"A must be a square matrix, got shape {A.shape}")
    if B.shape != (d, d):
        raise ValueError(f"B must have shape {(d, d)} for A of shape {A.shape}, got {B.shape}")
    basis = jnp.asarray(symmetric_basis(k), A.dtype)
    # Scaled to the unit of each mode: one far below the edge must not hide one at the edge.
    diagonal = jnp.abs(jnp.diagonal(A))
    unit = jnp.maximum(diagonal, _positive(SMALLEST * jnp.max(diagonal))) ** -0.5
    outer = unit[:, None] * unit
    change = jnp.einsum("aij,ij,bij->ab", basis, outer, basis)
    posed, A, B = (A, B), outer * A, change.T @ B @ change
    eps = float(jnp.finfo(A.dtype).eps)
    size, strength = _positive(jnp.linalg.norm(A)), _positive(jnp.trace(B) / d)
    a, b = A / size, B / strength
    shifted = b + eps * jnp.eye(d, dtype=A.dtype)
    tolerance = 4 * eps

    def apply(X: jax.Array) -> jax.Array:
        return jnp.einsum("a,aij->ij", b @ jnp.einsum("aij,ij->a", basis, X), basis)

    def error(X: jax.Array, S: jax.Array) -> jax.Array:
        gap = jnp.vdot(X, S) / jnp.maximum(jnp.linalg.norm(X), 1)
        return jnp.maximum(jnp.linalg.norm(a + apply(X) - S), gap)

    def unfinished(last: _Iterate) -> jax.Array:
        return (last.error > tolerance) & last.better & (last.iterations < MAX_ITERATIONS)

    def improve(last: _Iterate) -> _Iterate:
        X, S = _newton(last.X, last.S, a + apply(last.X) - last.S, shifted, basis)
        new_error = error(X, S)
        better = new_error < last.error  # False for NaN
        X, S, new_error = (
            jnp.where(better, new, old)
            for new, old in ((X, last.X), (S, last.S), (new_error, last.error))
        )
        return _Iterate(X, S, new_error, better, last.iterations + 1)

    start = jnp.eye(k, dtype=A.dtype)
    first = _Iterate(start, start, error(start, start), jnp.array(True), jnp.array(0))
    last = jax.lax.while_loop(unfinished, improve, first)
    rank = jnp.sum(jnp.linalg.eigvalsh(last.X - last.S) > 0)
    X, slack = outer * last.X * (size / strength), last.S * size / outer
    # The scales above are meaningless for A = 0, which X = 0 solves.
    is_zero = jnp.all(posed[0] == 0)
    X, slack, rank = (jnp.where(is_zero, jnp.zeros_like(x), x) for x in (X, slack, rank))
    residual = _residual(posed, X, slack, basis)
    return Complementarity(X, slack, residual, rank, last.iterations)


def _residual(
    posed: tuple[jax.Array, jax.Array], X: jax.Array, S: jax.Array, basis: jax.Array
) -> jax.Array:
    A, B = posed
    size, strength = _positive(norm(A)), _positive(jnp.trace(B) / len(B))
    image = jnp.einsum("a,aij->ij", B @ jnp.einsum("aij,ij->a", basis, X), basis)
    gap = jnp.vdot(X / jnp.maximum(norm(X), size / strength), S / size)
    return jnp.maximum(norm(A + image - S) / size, gap)


def _positive(value: jax.Array) -> jax.Array:
    return jnp.where(value > 0, value, 1)


def _newton(
    X: jax.Array, S: jax.Array, infeasibility: jax.Array, b: jax.Array, basis: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Takes a predictor and a corrector step in the scaling W with W S W = X."""
    k = X.shape[0]
    eye = jnp.eye(k, dtype=X.dtype)
    root, slack_root = jnp.linalg.cholesky(X), jnp.linalg.cholesky(S)
    inverse = solve_triangular(root, eye, lower=True)
    slack_inverse = solve_triangular(slack_root, eye, lower=True)
    values, vectors = jnp.linalg.eigh(root.T @ S @ root)
    half = inverse.T @ (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ (inverse.T @ vectors).T
    scaled = jnp.einsum("aij,bij->ab", basis, half @ basis @ half)
    factor = jax.scipy.linalg.cho_factor(scaled + b)
    mu = jnp.vdot(X, S) / k

    def direction(center: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        wanted = center * mu * (inverse.T @ inverse) - S - infeasibility
        step = jax.scipy.linalg.cho_solve(factor, jnp.einsum("aij,ij->a", basis, wanted))
        dX = jnp.einsum("a,aij->ij", step, basis)
        return dX, jnp.einsum("a,aij->ij", b @ step, basis) + infeasibility

    def length(dX: jax.Array, dS: jax.Array) -> jax.Array:
        """Returns the step length at which both stay positive definite."""
        relative = jnp.stack([inverse @ dX @ inverse.T, slack_inverse @ dS @ slack_inverse.T])
        lowest = jnp.min(jnp.linalg.eigvalsh(relative))
        return jnp.minimum(1, 0.95 / jnp.maximum(-lowest, 1e-3))

    dX, dS = direction(0.0)
    t = length(dX, dS)
    gap_ratio = jnp.vdot(X + t * dX, S + t * dS) / (k * mu)
    dX, dS = direction(jnp.clip(gap_ratio, 0, 1) ** 3)
    t = length(dX, dS)
    return X + t * dX, S + t * dS
