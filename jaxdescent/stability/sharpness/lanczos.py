"""Top eigenpairs of a symmetric matrix from matrix-vector products, to a given tolerance.

A cycle holds orthonormal rows Y, their images Y A and Ritz values theta, hence the residuals
R = Y A - theta Y. It starts Lanczos vectors V of the deflated matrix P A P, P = I - Y^T Y, at
the largest wanted residual that is not small. On the span of Y and V the matrix A is

    [ theta    Y A V^T ]
    [ V A Y^T  T       ],       V A = T V + (the last residual) + V A Y^T Y,

so that Ritz values and residuals need no further products. They are computed after every second
step, and the cycle stops as soon as possible. A cycle that has not converged within m steps
keeps the best rows and starts the next one. This is thick-restart Lanczos (K. Wu and H. Simon,
SIAM J. Matrix Anal. Appl. 22, 2000) with matfree's Lanczos inside. Y may be any rows, so a warm
start uses the eigenvectors of an earlier matrix.

Residuals do not reveal a missed larger eigenvalue. A Krylov space has only one vector of an
eigenspace, and a warm one little of the space orthogonal to it. A search of at least a few steps,
from noise orthogonal to Y, therefore continues until the best unwanted Ritz value plus its
residual is below the wanted ones.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.extras import require
from jaxdescent.numerics import norm
from jaxdescent.stability.sharpness.curvature import Product

CHUNK = 2  # steps between evaluations of the residuals
SEARCH = 6  # smallest number of steps in a search, enough for a random vector to find the top
MAX_SKEW = 100.0  # largest error of products of orthonormal rows, in roundings
DEPENDENT = 1e-3  # smallest length of a unit row orthogonal to the rows before it


class Pairs(NamedTuple):
    """Approximate eigenpairs.

    Attributes:
      values: f[k], in descending order.
      vectors: f[k, n], orthonormal rows.
      residuals: f[k], ||A y - theta y||.
      converged: bool[k], True if the residual is within the tolerance times the largest |theta|.
      products: i32[], number of matrix-vector products.
    """

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array
    converged: jax.Array
    products: jax.Array


class Krylov(NamedTuple):
    """Krylov space after m Lanczos steps.

    Attributes:
      vectors: f[m, n], orthonormal rows V.
      matrix: f[m, m], T, tridiagonal in exact arithmetic: V A = T V + (residual in the last row).
      residual: f[n], residual of the last step.
      usable: bool[m], True for the rows before the first that is mostly rounding error.
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
    """Runs Lanczos steps.

    Args:
      matvec: v -> A v over f[n].
      start: f[n].
      num_steps: m, in [1, n].
      size: a lower bound of the norm of A, the scale of rounding errors.
      reorthogonalize: True to orthogonalize every row against all earlier rows. Without, a step
        reads much less memory, and rows are orthogonal only until an eigenvalue has converged.
    """
    decomp = require("matfree.decomp", "stability")
    if reorthogonalize:  # as Arnoldi's method, which keeps the projections
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
    start: jax.Array,
    key: jax.Array,
    k: int,
    *,
    warm: bool,
    tolerance: jax.Array,
    num_steps: int,
    max_cycles: int,
    by_magnitude: bool = False,
    mask: jax.Array | None = None,
    rounding: float = 0.0,
) -> Pairs:
    """Returns the k largest eigenvalues with eigenvectors.

    Scale A to a norm of about 1: in float32 squares of numbers below 1e-19 are 0.

    Args:
      matvec: v -> A v over f[n].
      start: cold, a random f[n]; warm, f[k, n], where a row that is zero, not finite or dependent
        on the rows before it is replaced by noise.
      key: for noise.
      k: number of eigenpairs, in [1, n].
      warm: True for a warm start.
      tolerance: for the residuals, relative to the largest |theta| of the k.
      num_steps: m, in [k, n], rounded up to an even number.
      max_cycles: at least 1.
      by_magnitude: True for the eigenvalues of largest magnitude.
      mask: bool[n] with at least k True; restricts A to these coordinates.
      rounding: rounding error of a product relative to the norm of A, if it exceeds the rounding
        of the vectors. Residuals cannot be smaller, and are evaluated with k more products.
    """
    if mask is None:
        restricted, count = matvec, jnp.asarray(start.shape[-1])
    else:
        restricted, count = functools.partial(_masked, matvec, mask), jnp.sum(mask)
    solver = _Solver(
        restricted,
        start,
        warm,
        mask,
        count,
        key,
        k,
        tolerance,
        num_steps,
        max_cycles,
        by_magnitude,
        max(rounding, 8 * float(jnp.finfo(start.dtype).eps)),
    )
    carry = jax.lax.while_loop(lambda carry: ~solver.is_done(carry), solver.cycle, solver.begin())
    basis, products = carry.basis, carry.products
    if rounding:
        image = jax.lax.map(restricted, basis.vectors[:k])
        basis = basis._replace(
            image=basis.image.at[:k].set(image),
            values=basis.values.at[:k].set(jnp.sum(basis.vectors[:k] * image, axis=1)),
        )
        products += k
    residuals = solver.residuals(basis)
    converged = residuals <= tolerance * jnp.max(jnp.abs(basis.values[:k]))
    return Pairs(basis.values[:k], basis.vectors[:k], residuals, converged, products)


def _masked(matvec: Product, mask: jax.Array, v: jax.Array) -> jax.Array:
    """Returns the product with the block of A at the mask."""
    return jnp.where(mask, matvec(jnp.where(mask, v, 0)), 0)


class _Basis(NamedTuple):
    """The rows Y, best first; missing rows are zero.

    Attributes:
      vectors, image, values: Y, Y A and theta.
      filled: True for the rows that exist.
      norm: the largest |theta| so far, a lower bound of the norm of A.
    """

    vectors: jax.Array
    image: jax.Array
    values: jax.Array
    filled: jax.Array
    norm: jax.Array


class _Carry(NamedTuple):
    """State of the loop over cycles.

    Attributes:
      basis: the k wanted rows and a few more.
      seen: the k values before the last cycle if it was a search, otherwise infinite.
      cycles, products: numbers of cycles and of matrix-vector products.
    """

    basis: _Basis
    seen: jax.Array
    cycles: jax.Array
    products: jax.Array


class _Run(NamedTuple):
    """The Lanczos vectors of a cycle.

    Attributes:
      vectors: V.
      inner: T.
      across: V A Y^T.
      residual: residual of the last step.
      usable: True for the rows that exist and are more than rounding error.
      outside: inner products of the components of the residuals R outside the span of V.
      steps: i32[], number of steps so far.
      enough: True if no more steps are needed or possible.
    """

    vectors: jax.Array
    inner: jax.Array
    across: jax.Array
    residual: jax.Array
    usable: jax.Array
    outside: jax.Array
    steps: jax.Array
    enough: jax.Array


@dataclasses.dataclass(frozen=True)
class _Solver:
    """The cycles for one matrix; attributes as the arguments of `top_eigenpairs`."""

    matvec: Product
    start: jax.Array
    warm: bool
    mask: jax.Array | None
    count: jax.Array
    key: jax.Array
    k: int
    tolerance: jax.Array
    num_steps: int
    max_cycles: int
    by_magnitude: bool
    rounding: float

    def begin(self) -> _Carry:
        """Returns an empty basis, or the rows of a warm start."""
        k, n, dtype = self.k, self.start.shape[-1], self.start.dtype
        kept = min(k + 2, n)  # a few additional rows are worth their memory
        rows, scalars = jnp.zeros((kept, n), dtype), jnp.zeros(kept, dtype)
        zero = jnp.zeros((), jnp.int32)
        basis = _Basis(rows, rows, scalars, scalars > 0, jnp.zeros((), dtype))
        carry = _Carry(basis, jnp.full(k, jnp.inf, dtype), zero, zero)
        if not self.warm:
            return carry
        start, noise = map(self.restrict, (self.start, _noise(self.key, (k, n), dtype)))
        size = norm(start, 1, keepdims=True)
        valid = jnp.isfinite(size) & (size > 0)
        start = jnp.where(valid, start / jnp.where(valid, size, 1), noise)
        if k > 1:
            lengths = jnp.abs(jnp.diagonal(jnp.linalg.qr(start.T, mode="r")))
            start = jnp.where((lengths < DEPENDENT)[:, None], noise, start)
        start = self.restrict(_orthonormal(start))
        image = jax.lax.map(self.matvec, start)
        values, rotation, filled = self.best(start @ image.T, jnp.ones(k, bool))
        basis = _Basis(
            basis.vectors.at[:k].set(rotation @ start),
            basis.image.at[:k].set(rotation @ image),
            basis.values.at[:k].set(values),
            basis.filled.at[:k].set(filled),
            jnp.max(jnp.abs(values)),
        )
        return carry._replace(basis=basis, products=zero + k)

    def is_done(self, carry: _Carry) -> jax.Array:
        """Returns True if the values have converged, are NaN, or the cycles are used up."""
        basis = carry.basis
        enough = self.is_small(basis) & (carry.cycles > 0)
        if self.k > 1:
            # A Krylov space has one vector of an eigenspace: a search must find no other.
            change = jnp.abs(basis.values[: self.k] - carry.seen)
            enough &= jnp.all(change <= self.limit(basis.values, basis.norm))
        failed = jnp.any(jnp.isnan(basis.values))
        return enough | failed | (carry.cycles >= self.max_cycles)

    def cycle(self, carry: _Carry) -> _Carry:
        """Replaces Y by the best rows in the span of Y and new Lanczos vectors."""
        basis, small = carry.basis, self.is_small(carry.basis)
        first = self.start_of_cycle(basis, carry.cycles)
        searches = small | (carry.cycles == 0) if self.warm else small
        run = self.run(basis, first, jnp.where(searches, SEARCH, 0))
        values, rotation, filled = self.ritz(basis, run)
        kept = len(basis.values)
        old, new = rotation[:kept, :kept], jnp.where(run.usable, rotation[:kept, kept:], 0)
        # Computes vectors and images together, because reading V dominates the time.
        of_run = jnp.concatenate([new, new @ run.inner]) @ run.vectors
        of_rows = jnp.concatenate([old, new @ run.across]) @ basis.vectors
        vectors, image = jnp.split(of_run + of_rows, 2)
        image += old @ basis.image + jnp.outer(new[:, run.steps - 1], run.residual)
        vectors, image = _reorthonormalize(vectors, image, filled[:kept])
        return _Carry(
            _Basis(
                vectors,
                image,
                values[:kept],
                filled[:kept],
                jnp.maximum(basis.norm, jnp.max(jnp.abs(values))),
            ),
            seen=jnp.where(small, basis.values[: self.k], jnp.inf),
            cycles=carry.cycles + 1,
            products=carry.products + run.steps,
        )

    def start_of_cycle(self, basis: _Basis, cycle: jax.Array) -> jax.Array:
        """Returns the largest wanted residual that is not small, or noise if there is none.

        The first cycle starts at their sum.
        """
        norms = self.residuals(basis)
        small = norms <= self.limit(basis.values, basis.norm)
        wanted = jnp.where(~small & jnp.isfinite(norms), norms, 0)
        index = jnp.argmax(wanted)
        residual = basis.image[index] - basis.values[index] * basis.vectors[index]
        noise = _noise(jax.random.fold_in(self.key, cycle), residual.shape, residual.dtype)
        noise = self.restrict(noise)
        noise /= jnp.linalg.norm(noise)
        if not self.warm:
            first = self.restrict(self.start)
            noise = jnp.where(cycle == 0, first, noise)
        weight = jnp.where(cycle == 0, wanted[index], 0)
        weight = jnp.where(wanted[index] > 0, weight, 1)
        first = jnp.where(wanted[index] > 0, residual, 0) + weight * noise
        first /= jnp.linalg.norm(first)
        return first - (basis.vectors @ first) @ basis.vectors

    def run(self, basis: _Basis, first: jax.Array, min_steps: jax.Array) -> _Run:
        """Makes Lanczos vectors until they are enough, at least `min_steps`."""
        rows, n = basis.vectors, basis.vectors.shape[1]
        chunk = min(CHUNK, n)
        m = -(-self.num_steps // chunk) * chunk
        room = self.count - jnp.sum(basis.filled)

        def extend(run: _Run) -> _Run:
            def project(v: jax.Array) -> jax.Array:
                return v - (rows @ v) @ rows - (run.vectors @ v) @ run.vectors

            at, zero = run.steps, jnp.zeros_like(run.steps)
            # Within a few steps, rounding errors along the other rows are negligible.
            last = jnp.where(at > 0, run.vectors[at - 1], 0)

            def project_locally(v: jax.Array) -> jax.Array:
                return v - (rows @ v) @ rows - (last @ v) * last

            coupling = jnp.where(at > 0, jnp.linalg.norm(run.residual), 0)
            start = project(run.residual / jnp.linalg.norm(run.residual))
            size = jnp.maximum(basis.norm, jnp.max(jnp.abs(run.inner)))
            found = lanczos(
                lambda v: project_locally(self.matvec(v)), start, chunk, size, reorthogonalize=False
            )
            usable = found.usable & (at + jnp.arange(chunk) < room)
            vectors = jnp.nan_to_num(found.vectors)
            across = jnp.where(usable[:, None], vectors @ basis.image.T, 0)
            put = jax.lax.dynamic_update_slice
            inner = put(run.inner, jnp.where(usable[:, None], found.matrix, 0), (at, at))
            inner = inner.at[at, at - 1].add(coupling).at[at - 1, at].add(coupling)
            new = _Run(
                put(run.vectors, vectors, (at, zero)),
                inner,
                put(run.across, across, (at, zero)),
                jnp.where(usable[-1], jnp.nan_to_num(found.residual), 0),
                put(run.usable, usable, (at,)),
                run.outside - across.T @ across,
                at + chunk,
                run.enough,
            )
            norm = jnp.linalg.norm(new.residual)
            exhausted = ~(norm > jnp.sqrt(jnp.finfo(norm.dtype).eps) * size)
            enough = self.is_enough(basis, new) & (new.steps >= min_steps)
            return new._replace(enough=enough | exhausted | (new.steps >= m))

        kept, dtype = len(rows), rows.dtype
        residuals = basis.image - basis.values[:, None] * rows
        start = _Run(
            jnp.zeros((m, n), dtype),
            jnp.zeros((m, m), dtype),
            jnp.zeros((m, kept), dtype),
            first,
            jnp.zeros(m, bool),
            residuals @ residuals.T,
            jnp.zeros((), jnp.int32),
            jnp.zeros((), bool),
        )
        return jax.lax.while_loop(lambda run: ~run.enough, extend, start)

    def is_enough(self, basis: _Basis, run: _Run) -> jax.Array:
        """Returns True if residuals are small and the best unwanted value is below the wanted."""
        k, kept = self.k, len(basis.values)
        values, rotation, exists = (x[: k + 1] for x in self.ritz(basis, run))
        old = rotation[:, :kept]
        outside = jnp.einsum("ij,jk,ik->i", old, run.outside, old)
        bounds = jnp.sqrt(jnp.maximum(outside, 0))
        bounds += jnp.abs(rotation[:, kept + run.steps - 1]) * jnp.linalg.norm(run.residual)
        limit = self.limit(values, basis.norm)
        size = jnp.abs(values) if self.by_magnitude else values
        separated = ~exists[k:] | (size[k:] + bounds[k:] <= size[k - 1] + limit)
        return jnp.all(exists[:k] & (bounds[:k] <= limit)) & jnp.all(separated)

    def ritz(self, basis: _Basis, run: _Run) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns eigenvalues and eigenvectors on the span of Y and V, and which of them exist."""
        both = run.usable[:, None] & run.usable
        matrix = jnp.block(
            [[jnp.diag(basis.values), run.across.T], [run.across, jnp.where(both, run.inner, 0)]]
        )
        return self.best(matrix, jnp.append(basis.filled, run.usable))

    def residuals(self, basis: _Basis) -> jax.Array:
        """Returns the k residual norms; infinite for missing rows."""
        values, vectors = basis.values[: self.k], basis.vectors[: self.k]
        residuals = basis.image[: self.k] - values[:, None] * vectors
        return jnp.where(basis.filled[: self.k], jnp.linalg.norm(residuals, axis=1), jnp.inf)

    def limit(self, values: jax.Array, norm: jax.Array) -> jax.Array:
        """Returns the largest acceptable residual: the tolerance, or the rounding error."""
        wanted = self.tolerance * jnp.max(jnp.abs(values[: self.k]))
        return jnp.maximum(wanted, self.rounding * norm)

    def is_small(self, basis: _Basis) -> jax.Array:
        """Returns True if all k residuals are within the limit."""
        return jnp.all(self.residuals(basis) <= self.limit(basis.values, basis.norm))

    def restrict(self, rows: jax.Array) -> jax.Array:
        """Sets rows to zero outside the mask."""
        return rows if self.mask is None else jnp.where(self.mask, rows, 0)

    def best(self, matrix: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns eigenvalues of the symmetric part, eigenvectors in rows, and which of them exist.

        The wanted eigenvalues come first. Unused rows and columns must be zero; they add no
        eigenvectors.
        """
        matrix = (matrix + matrix.T) / 2
        norm = jnp.linalg.norm(matrix)
        size = jnp.where(norm > 0, norm, 1)
        values, vectors = jnp.linalg.eigh(matrix - jnp.diag(jnp.where(used, 0, 2 * size)))
        values, vectors = values[::-1], vectors.T[::-1]
        exists = ~(values < -1.5 * size)  # True for NaN, so that it is noticed
        if self.by_magnitude:
            order = jnp.argsort(jnp.where(exists, -jnp.abs(values), jnp.inf))
            values, vectors, exists = values[order], vectors[order], exists[order]
        return jnp.where(exists, values, 0), jnp.where(exists[:, None], vectors, 0), exists


def _noise(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns numbers in [-1, 1) from a hash of their indices, as good a start as normal ones.

    The hash is C. Wellons' `lowbias32` (2018). JAX's generator would take as long as the products
    of a small network.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    x = jax.lax.iota(jnp.uint32, math.prod(shape)) + seed[0]
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor) + seed[1]
    x = (x ^ (x >> 16)).astype(jnp.int32)
    return (x.astype(dtype) * 2.0**-31).reshape(shape)


def _reorthonormalize(
    vectors: jax.Array, image: jax.Array, filled: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Makes rows orthonormal again, and transforms their images likewise.

    Each cycle loses a little orthogonality by rounding, and much of it if the matrix is little
    more than noise. The residual certifies an eigenvalue only for orthonormal rows.
    """
    one = jnp.eye(len(vectors), dtype=vectors.dtype)
    gram = jnp.where(filled[:, None] & filled, vectors @ vectors.T, one)
    skewed = jnp.max(jnp.abs(gram - one)) > MAX_SKEW * jnp.finfo(gram.dtype).eps

    def transform() -> tuple[jax.Array, jax.Array]:
        both = jnp.concatenate([vectors, image], axis=1)
        lower = jnp.linalg.cholesky(gram)
        both = jax.scipy.linalg.solve_triangular(lower, both, lower=True)
        return both[:, : vectors.shape[1]], both[:, vectors.shape[1] :]

    return jax.lax.cond(skewed, transform, lambda: (vectors, image))


def _orthonormal(rows: jax.Array) -> jax.Array:
    """Returns an orthonormal basis of the span of rows."""
    if len(rows) == 1:
        return rows / jnp.linalg.norm(rows)
    return jnp.linalg.qr(rows.T)[0].T
