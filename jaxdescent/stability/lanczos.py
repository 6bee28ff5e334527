"""Top eigenpairs of a symmetric matrix that is known by its products, to a tolerance.

A cycle holds orthonormal rows Y, their images Y A and Ritz values theta, and so the residuals
R = Y A - theta Y. It starts m Lanczos vectors V of the deflated matrix P A P, P = I - Y^T Y, at
the largest residual that is wanted, and keeps the best of the span of Y and V, where A is

    [ theta    Y A V^T ]
    [ V A Y^T  T       ],       V A = T V + (the last residual) + V A Y^T Y,

without another product. Steps are plain three-term ones; a row that is no longer orthogonal
to those before it is not used. This is thick-restart Lanczos (K. Wu and H. Simon, SIAM J.
Matrix Anal. Appl. 22, 2000), with matfree's Lanczos in it; as Y may be any rows, it starts warm
from those of an earlier matrix, with a little noise to let in a direction to which they are
orthogonal.

What is returned is evaluated: Ritz values and residuals of k products that are made at the end
for this purpose. If they are not as small as the recurrence claimed, the cycles go on.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.extras import require
from jaxdescent.stability.curvature import Product

NOISE = 0.01  # of a warm start's first cycle, relative to its residual
DEPENDENT = 1e-3  # what is left of a row's unit length beside the others: it is replaced
LEAK = 1e-3  # of a Lanczos vector into those before it, from which on it is not used


class Pairs(NamedTuple):
    """Approximate eigenpairs.

    Attributes:
      values: f[k], the greatest first.
      vectors: f[k, n], orthonormal rows.
      residuals: f[k], ||A y - theta y||.
      converged: bool[k], whether they are within the tolerance times the greatest |theta|.
      products: i32[], how many were made.
    """

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array
    converged: jax.Array
    products: jax.Array


class Krylov(NamedTuple):
    """What m Lanczos steps found.

    Attributes:
      vectors: f[m, n], orthonormal rows.
      matrix: f[m, m] T, in exact arithmetic tridiagonal: V A = T V + (the residual, last).
      residual: f[n], what the last step left.
      usable: bool[m], the rows before one that is little more than rounding.
    """

    vectors: jax.Array
    matrix: jax.Array
    residual: jax.Array
    usable: jax.Array


def lanczos(
    matvec: Product,
    start: jax.Array,
    num_steps: int,
    size: jax.Array | float = 0.0,
    *,
    reorthogonalize: bool = True,
) -> Krylov:
    """Lanczos steps.

    Args:
      matvec: v -> A v over f[n].
      start: f[n].
      num_steps: m, in [1, n].
      size: a lower bound of the norm of A, by which rounding is judged.
      reorthogonalize: whether every row is made orthogonal to all before it. Without, a step
        takes a fraction of the memory's time, and rows are orthogonal until an eigenvalue
        has converged.
    """
    decomp = require("matfree.decomp", "stability")
    if reorthogonalize:  # as Arnoldi's method, so that what is projected is kept
        found = decomp.hessenberg(num_steps, reortho="full", custom_vjp=False)(matvec, start)
        vectors, matrix = found.Q_tall, found.J_small.T
    else:
        found = decomp.tridiag_sym(num_steps, reortho="none", custom_vjp=False)(matvec, start)
        vectors, matrix = found.Q_tall, found.J_small
    size = jnp.maximum(size, jnp.max(jnp.abs(jnp.nan_to_num(matrix))))
    coupled = jnp.diagonal(matrix, 1) > jnp.sqrt(jnp.finfo(vectors.dtype).eps) * size
    finite = jnp.isfinite(jnp.sum(vectors, axis=1))
    usable = jnp.cumprod(finite & jnp.append(True, coupled)).astype(bool)
    return Krylov(vectors, matrix, found.residual, usable)


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

    Squares of what is below 1e-19 are 0 in float32: A should be of the order of 1.

    Args:
      matvec: v -> A v over f[n].
      start: f[k, n], or none; a row that is zero, not finite or dependent on those before it is
        replaced by noise.
      key: for noise.
      like: shape (k, n) and dtype.
      tolerance: of the residuals, relative to the greatest |theta| of the k.
      num_steps: m, in [k, n].
      max_cycles: at least 1.
      by_magnitude: whether the greatest are those of greatest magnitude.
      mask: bool[n]; A is taken as a matrix over these coordinates. At least k are true.
    """
    k, n = like.shape
    if mask is None:
        within, count = matvec, jnp.asarray(n)
    else:
        within = lambda v: jnp.where(mask, matvec(jnp.where(mask, v, 0)), 0)
        count = jnp.sum(mask)
    solver = _Solver(within, mask, count, key, k, tolerance, num_steps, max_cycles, by_magnitude)
    carry = jax.lax.while_loop(
        lambda carry: ~(carry.exact & solver.is_done(carry)),
        solver.cycle,
        solver.begin(start, n, like.dtype),
    )
    basis, residuals = carry.basis, solver.residuals(carry.basis)
    converged = residuals <= tolerance * jnp.max(jnp.abs(basis.values[:k]))
    return Pairs(basis.values[:k], basis.vectors[:k], residuals, converged, carry.products)


class _Basis(NamedTuple):
    """Rows, best first; those that there are not yet are zero.

    Attributes:
      vectors, image, values: Y, Y A and theta.
      filled: which rows there are.
      norm: the greatest |theta| that was ever seen, a lower bound of the norm of A.
    """

    vectors: jax.Array
    image: jax.Array
    values: jax.Array
    filled: jax.Array
    norm: jax.Array


class _Carry(NamedTuple):
    """The basis and how far it is.

    Attributes:
      basis: the k rows that are wanted and some more.
      exact: whether the images of the k are products, not recurrences.
      seen: the k values when they were last as exact as is wanted.
      cycles, products: how many.
    """

    basis: _Basis
    exact: jax.Array
    seen: jax.Array
    cycles: jax.Array
    products: jax.Array


@dataclasses.dataclass(frozen=True)
class _Solver:
    """The cycles, for one matrix; arguments as of `top_eigenpairs`."""

    matvec: Product
    mask: jax.Array | None
    count: jax.Array
    key: jax.Array
    k: int
    tolerance: jax.Array
    num_steps: int
    max_cycles: int
    by_magnitude: bool

    def begin(self, start: jax.Array | None, n: int, dtype: Any) -> _Carry:
        """No rows, or those of a warm start, whose images are not known yet."""
        kept = min(2 * self.k + 2, n)  # a few more than are wanted are worth their memory
        rows, filled = jnp.zeros((kept, n), dtype), jnp.zeros(kept, bool)
        if start is not None:
            start, noise = map(self.restrict, (start, _noise(self.key, start.shape, dtype)))
            size = jnp.linalg.norm(start, axis=1, keepdims=True)
            sound = jnp.isfinite(size) & (size > 0)
            start = jnp.where(sound, start / jnp.where(sound, size, 1), noise)
            if self.k > 1:
                left = jnp.abs(jnp.diagonal(jnp.linalg.qr(start.T, mode="r")))
                start = jnp.where((left < DEPENDENT)[:, None], noise, start)
            rows = rows.at[: self.k].set(_orthonormal(start))
            filled = filled.at[: self.k].set(True)
        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.zeros_like(rows), jnp.zeros(kept, dtype)
        basis = _Basis(rows, *nothing, filled, jnp.zeros((), dtype))
        return _Carry(basis, jnp.zeros((), bool), jnp.full(self.k, jnp.inf, dtype), zero, zero)

    def cycle(self, carry: _Carry) -> _Carry:
        """Makes the k images anew if that may be the end, else adds vectors."""
        unknown = (carry.products == 0) & jnp.any(carry.basis.filled)
        evaluate = ~carry.exact & (self.is_done(carry) | unknown)
        return jax.lax.cond(evaluate, self.evaluated, self.expanded, carry)

    def is_done(self, carry: _Carry) -> jax.Array:
        """Whether there is no more to do, if the residuals are what they seem."""
        basis = carry.basis
        enough = self.is_small(basis) & (carry.cycles > 0)
        if self.k > 1:
            # A Krylov space has one vector of an eigenspace: noise must find no other.
            change = jnp.abs(basis.values[: self.k] - carry.seen)
            enough &= ~carry.exact | jnp.all(change <= self.limit(basis))
        hopeless = jnp.any(jnp.isnan(basis.values))
        return enough | hopeless | (carry.cycles >= self.max_cycles)

    def evaluated(self, carry: _Carry) -> _Carry:
        """With the products, Ritz values and residuals of the k rows."""
        k, basis = self.k, carry.basis
        filled = basis.filled[:k]
        vectors = self.restrict(_orthonormal(basis.vectors[:k]))
        vectors = jnp.where(filled[:, None], vectors, 0)
        image = jax.lax.map(self.matvec, vectors)
        values, turn, filled = self.best(vectors @ image.T, filled)
        basis = _Basis(
            basis.vectors.at[:k].set(turn @ vectors),
            basis.image.at[:k].set(turn @ image),
            basis.values.at[:k].set(values),
            basis.filled.at[:k].set(filled),
            jnp.maximum(basis.norm, jnp.max(jnp.abs(values))),
        )
        return carry._replace(
            basis=basis, exact=jnp.ones((), bool), products=carry.products + self.k
        )

    def expanded(self, carry: _Carry) -> _Carry:
        """With the best rows of the span of Y and m Lanczos vectors."""
        basis = carry.basis
        rows, shift = basis.vectors, basis.values[-1]
        first = self.start_of_cycle(basis, carry.cycles)

        def deflated(v: jax.Array) -> jax.Array:
            # Y's values go to the edge of the rest, where rounding along Y does not grow.
            image = self.matvec(v)
            return image + (shift * (rows @ v) - rows @ image) @ rows

        found = lanczos(deflated, first, self.num_steps, basis.norm, reorthogonalize=False)
        among = jnp.tril(found.vectors @ found.vectors.T, -1)
        leak = jnp.linalg.norm(jnp.hstack([found.vectors @ rows.T, among]), axis=1)
        # What comes after the space is exhausted is rounding.
        usable = found.usable & (jnp.arange(self.num_steps) < self.count - jnp.sum(basis.filled))
        usable &= jnp.cumprod(leak < LEAK).astype(bool)
        onward = jnp.where(usable[:, None], jnp.nan_to_num(found.matrix), 0)
        image = onward @ jnp.nan_to_num(found.vectors)
        image = image.at[-1].add(jnp.where(usable[-1], jnp.nan_to_num(found.residual), 0))
        added = jnp.where(usable[:, None], found.vectors, 0)
        across = added @ basis.image.T - shift * (added @ rows.T)
        image += across @ rows
        inner = lambda a, b, c, d: jnp.block([[a @ c.T, a @ d.T], [b @ c.T, b @ d.T]])
        matrix = inner(basis.image, image, rows, added)
        gram = inner(rows, added, rows, added)
        # To first order gram^-1/2: where a residual was small the rows are not orthogonal.
        straight = 1.5 * jnp.eye(len(gram), dtype=gram.dtype) - 0.5 * gram
        used = jnp.append(basis.filled, usable)
        values, turn, filled = self.best(straight @ matrix @ straight, used)
        turn, kept = turn @ straight, len(basis.values)
        old, new = turn[:kept, :kept], turn[:kept, kept:]
        reached = carry.exact & self.is_small(basis)
        return _Carry(
            _Basis(
                old @ rows + new @ added,
                old @ basis.image + new @ image,
                values[:kept],
                filled[:kept],
                jnp.maximum(basis.norm, jnp.max(jnp.abs(values))),
            ),
            exact=jnp.zeros((), bool),
            seen=jnp.where(reached, basis.values[: self.k], carry.seen),
            cycles=carry.cycles + 1,
            products=carry.products + self.num_steps,
        )

    def start_of_cycle(self, basis: _Basis, cycle: jax.Array) -> jax.Array:
        """The largest residual that is wanted; noise where there is none, and at a warm start."""
        deflate = lambda v: v - (basis.vectors @ v) @ basis.vectors
        norms = self.residuals(basis)
        wanted = jnp.where((norms > self.limit(basis)) & jnp.isfinite(norms), norms, 0)
        place = jnp.argmax(wanted)
        image = basis.image
        noise = _noise(jax.random.fold_in(self.key, cycle), image.shape[1:], image.dtype)
        noise = deflate(deflate(self.restrict(noise)))
        noise /= jnp.linalg.norm(noise)
        left = deflate(basis.image[place] - basis.values[place] * basis.vectors[place])
        share = jnp.where(cycle == 0, NOISE * wanted[place], 0)
        return jnp.where(wanted[place] > 0, left + share * noise, noise)

    def residuals(self, basis: _Basis) -> jax.Array:
        """The k residual norms; infinite where there is no row yet."""
        values, vectors = basis.values[: self.k], basis.vectors[: self.k]
        left = basis.image[: self.k] - values[:, None] * vectors
        return jnp.where(basis.filled[: self.k], jnp.linalg.norm(left, axis=1), jnp.inf)

    def limit(self, basis: _Basis) -> jax.Array:
        """What a residual may be: what is asked for, or what rounding leaves."""
        rounding = 8 * jnp.finfo(basis.norm.dtype).eps * basis.norm
        wanted = self.tolerance * jnp.max(jnp.abs(basis.values[: self.k]))
        return jnp.maximum(wanted, rounding)

    def is_small(self, basis: _Basis) -> jax.Array:
        """Whether all k are."""
        return jnp.all(self.residuals(basis) <= self.limit(basis))

    def restrict(self, rows: jax.Array) -> jax.Array:
        """Zero outside the mask."""
        return rows if self.mask is None else jnp.where(self.mask, rows, 0)

    def best(self, matrix: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Eigenvalues of the symmetric part, vectors in rows, and which of these there are.

        Those that are wanted come first. Rows and columns that are not used must be zero; they
        make no vectors.
        """
        matrix = (matrix + matrix.T) / 2
        norm = jnp.linalg.norm(matrix)
        size = jnp.where(norm > 0, norm, 1)
        values, vectors = jnp.linalg.eigh(matrix - jnp.diag(jnp.where(used, 0, 2 * size)))
        values, vectors = values[::-1], vectors.T[::-1]
        there = ~(values < -1.5 * size)  # what is not a number is there, and is seen
        if self.by_magnitude:
            order = jnp.argsort(jnp.where(there, -jnp.abs(values), jnp.inf))
            values, vectors, there = values[order], vectors[order], there[order]
        return jnp.where(there, values, 0), jnp.where(there[:, None], vectors, 0), there


def _noise(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Of 256 values, which cost a tenth of normal ones and are as good a start."""
    return jax.random.bits(key, shape, jnp.uint8).astype(dtype) - 127.5


def _orthonormal(rows: jax.Array) -> jax.Array:
    if len(rows) == 1:
        return rows / jnp.linalg.norm(rows)
    return jnp.linalg.qr(rows.T)[0].T
