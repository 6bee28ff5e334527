"""Top eigenpairs of a symmetric matrix that is known by its products, to a tolerance.

A cycle holds orthonormal rows Y, their images Y A and Ritz values theta, and so the residuals
R = Y A - theta Y. It starts m Lanczos vectors V of the deflated matrix P A P, P = I - Y^T Y, at
the largest residual that is wanted, and keeps the best of the span of Y and V, where A is

    [ theta    Y A V^T ]
    [ V A Y^T  T       ],       V A = T V + (the last residual) + V A Y^T Y,

without another product. This is thick-restart Lanczos (K. Wu and H. Simon, SIAM J. Matrix Anal.
Appl. 22, 2000), with matfree's Lanczos in it; as Y may be any rows, it starts warm from those of
an earlier matrix, with a little noise to let in a direction to which they are orthogonal.

What is returned is evaluated: Ritz values and residuals of k products that are made at the end
for this purpose. If they are not as small as the recurrence claimed, the cycles go on.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.extras import require
from jaxdescent.stability.curvature import Product

NOISE = 0.1  # of a warm start's first cycle, relative to its residual


class Pairs(NamedTuple):
    """Approximate eigenpairs.

    Attributes:
      values: f[k], the greatest first.
      vectors: f[k, n], orthonormal rows.
      residuals: f[k], ||A y - theta y||.
      products: i32[], how many were made.
    """

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array
    products: jax.Array


class _Basis(NamedTuple):
    """Y, Y A, theta, and which rows there are yet."""

    vectors: jax.Array
    image: jax.Array
    values: jax.Array
    filled: jax.Array


class _Carry(NamedTuple):
    basis: _Basis
    exact: jax.Array  # whether the images of the first k rows are products, not recurrences
    seen: jax.Array  # the k values when they were last as exact as is wanted
    cycles: jax.Array
    products: jax.Array


def top_eigenpairs(
    matvec: Product,
    start: jax.Array | None,
    key: jax.Array,
    like: jax.ShapeDtypeStruct,
    *,
    tolerance: jax.Array,
    num_steps: int,
    max_cycles: int,
    by_magnitude: bool = False,
    mask: jax.Array | None = None,
) -> Pairs:
    """The k greatest eigenvalues with their vectors.

    Args:
      matvec: v -> A v over f[n].
      start: f[k, n], or none; a row that is zero or not finite is replaced by noise.
      key: for noise.
      like: shape (k, n) and dtype.
      tolerance: of the residuals, relative to the greatest |theta| of the k.
      num_steps: m, in [k, n].
      max_cycles: at least 1.
      by_magnitude: whether the greatest are those of greatest magnitude.
      mask: bool[n]; A is taken as a matrix over these coordinates. At least k are true.
    """
    k, n = like.shape
    restrict = lambda x: x if mask is None else jnp.where(mask, x, 0)
    count = n if mask is None else jnp.sum(mask)
    within = lambda v: restrict(matvec(restrict(v)))
    score = lambda x: jnp.abs(x) if by_magnitude else x

    def residuals(basis: _Basis) -> jax.Array:
        left = basis.image[:k] - basis.values[:k, None] * basis.vectors[:k]
        return jnp.where(basis.filled[:k], _norms(left), jnp.inf)

    def limit(basis: _Basis) -> jax.Array:
        return tolerance * jnp.max(jnp.abs(basis.values[:k]))

    def is_hopeless(basis: _Basis) -> jax.Array:
        return jnp.any(jnp.isnan(basis.values[:k]))

    def evaluated(carry: _Carry) -> _Carry:
        basis = carry.basis
        filled = basis.filled[:k]
        vectors = jnp.where(filled[:, None], _orthonormal(basis.vectors[:k]), 0)
        image = jax.lax.map(within, vectors)
        values, turn, filled = _best(vectors @ image.T, filled, score)
        basis = _Basis(
            basis.vectors.at[:k].set(turn @ vectors),
            basis.image.at[:k].set(turn @ image),
            basis.values.at[:k].set(values),
            basis.filled.at[:k].set(filled),
        )
        products = carry.products + k
        return carry._replace(basis=basis, exact=jnp.ones((), bool), products=products)

    def expanded(carry: _Carry) -> _Carry:
        basis, cycles = carry.basis, carry.cycles
        deflate = lambda v: v - (basis.vectors @ v) @ basis.vectors
        noise = restrict(jax.random.normal(jax.random.fold_in(key, cycles), (n,), like.dtype))
        noise = deflate(deflate(noise))
        noise = noise / jnp.linalg.norm(noise)
        norms = residuals(basis)
        wanted = jnp.where(
            (norms > limit(basis)) & jnp.isfinite(norms), norms, jnp.zeros_like(norms)
        )
        place = jnp.argmax(wanted)
        left = basis.image[place] - basis.values[place] * basis.vectors[place]
        amount = jnp.where(cycles == 0, NOISE * wanted[place], jnp.zeros_like(wanted[place]))
        amount = jnp.where(wanted[place] > 0, amount, jnp.ones_like(amount))
        first = jnp.where(wanted[place] > 0, deflate(left), jnp.zeros_like(left)) + amount * noise
        added, small, last = _lanczos(lambda v: deflate(within(v)), first, num_steps)
        # What comes after the space is exhausted is rounding, or not a number.
        usable = jnp.arange(num_steps) < count - jnp.sum(basis.filled)
        usable &= _before_breakdown(added, small)
        image = jnp.where(usable[:, None], jnp.nan_to_num(small), 0) @ jnp.nan_to_num(added)
        image = image.at[-1].add(jnp.where(usable[-1], last, 0))
        added = jnp.where(usable[:, None], added, 0)
        small = jnp.where(usable & usable[:, None], small, 0)
        cross = basis.image @ added.T
        image += cross.T @ basis.vectors
        whole = jnp.block([[jnp.diag(basis.values), cross], [cross.T, small]])
        values, turn, filled = _best(whole, jnp.append(basis.filled, usable), score)
        kept = len(basis.values)
        basis = _Basis(
            turn[:kept, :kept] @ basis.vectors + turn[:kept, kept:] @ added,
            turn[:kept, :kept] @ basis.image + turn[:kept, kept:] @ image,
            values[:kept],
            filled[:kept],
        )
        seen = jnp.where(carry.exact & is_small(carry.basis), carry.basis.values[:k], carry.seen)
        products = carry.products + num_steps
        return _Carry(basis, jnp.zeros((), bool), seen, cycles + 1, products)

    def is_small(basis: _Basis) -> jax.Array:
        return jnp.all(residuals(basis) <= limit(basis))

    def is_done(carry: _Carry) -> jax.Array:
        basis = carry.basis
        enough = is_small(basis) & (carry.cycles > 0)
        if k > 1 and start is None:
            # A Krylov space has one vector of an eigenspace: noise must find no other.
            known = jnp.all(jnp.abs(basis.values[:k] - carry.seen) <= limit(basis))
            enough &= known | ~carry.exact
        return enough | (carry.cycles >= max_cycles) | is_hopeless(basis)

    def cycle(carry: _Carry) -> _Carry:
        unknown = (carry.cycles == 0) & (carry.products == 0) & jnp.any(carry.basis.filled)
        evaluate = ~carry.exact & (is_done(carry) | unknown)
        return jax.lax.cond(evaluate, evaluated, expanded, carry)

    kept = min(2 * k + 2, n)  # a few more than are wanted are worth their memory
    rows, filled = jnp.zeros((kept, n), like.dtype), jnp.arange(kept) < (0 if start is None else k)
    if start is not None:
        noise = jax.random.normal(key, start.shape, like.dtype)
        size = jnp.sum(jnp.square(start), axis=1, keepdims=True)
        start = jnp.where(jnp.isfinite(size) & (size > 0), start, noise)
        rows = rows.at[:k].set(_orthonormal(jax.vmap(restrict)(start)))
    nothing = jnp.zeros((), jnp.int32)
    basis = _Basis(rows, jnp.zeros_like(rows), jnp.zeros(kept, like.dtype), filled)
    unseen = jnp.full(k, jnp.inf, like.dtype)
    carry = _Carry(basis, jnp.zeros((), bool), unseen, nothing, nothing)
    carry = jax.lax.while_loop(lambda carry: ~(carry.exact & is_done(carry)), cycle, carry)
    basis = carry.basis
    return Pairs(basis.values[:k], basis.vectors[:k], residuals(basis), carry.products)


def _lanczos(
    matvec: Product, start: jax.Array, num_steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Lanczos vectors f[m, n], the tridiagonal f[m, m], and what the last step left f[n]."""
    decompose = require("matfree.decomp", "stability").tridiag_sym(num_steps, custom_vjp=False)
    found = decompose(matvec, start)
    return found.Q_tall, found.J_small, found.residual


def _best(
    matrix: jax.Array, used: jax.Array, score: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Eigenvalues of the symmetric part, vectors in rows, those of the highest score first.

    Rows and columns that are not used must be zero. They come last, and are not filled.
    """
    matrix = (matrix + matrix.T) / 2
    size = jnp.linalg.norm(matrix) + 1
    beyond = jnp.where(used, jnp.zeros_like(size), 2 * size)
    values, vectors = jnp.linalg.eigh(matrix + jnp.diag(beyond))
    real = ~(values > 1.5 * size)
    order = jnp.argsort(jnp.where(real, -score(values), jnp.inf))
    real = real[order]
    return jnp.where(real, values[order], 0), jnp.where(real[:, None], vectors.T[order], 0), real


def _before_breakdown(added: jax.Array, tridiagonal: jax.Array) -> jax.Array:
    """Which Lanczos vectors are there before one that is little more than rounding."""
    size = jnp.max(jnp.abs(jnp.nan_to_num(tridiagonal)))
    coupled = jnp.diagonal(tridiagonal, 1) > jnp.sqrt(jnp.finfo(added.dtype).eps) * size
    finite = jnp.isfinite(jnp.sum(added, axis=1))
    return jnp.cumprod(finite & jnp.append(True, coupled)).astype(bool)


def _orthonormal(rows: jax.Array) -> jax.Array:
    return jnp.linalg.qr(rows.T)[0].T


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.linalg.norm(rows, axis=1)
