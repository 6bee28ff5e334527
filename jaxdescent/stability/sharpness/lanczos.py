"""Top eigenpairs of a symmetric matrix that is known by its products, to a tolerance.

A cycle holds orthonormal rows Y, their images Y A and Ritz values theta, and so the residuals
R = Y A - theta Y. It starts Lanczos vectors V of the deflated matrix P A P, P = I - Y^T Y, at
the largest residual that is wanted. On the span of Y and V the matrix A is

    [ theta    Y A V^T ]
    [ V A Y^T  T       ],       V A = T V + (the last residual) + V A Y^T Y,

so that Ritz values and residuals are known without another product. They are looked at after
every other step: no more are made than are needed. A cycle that has not got there within m steps
keeps the best rows, and is followed by another: thick-restart Lanczos (K. Wu and H. Simon,
SIAM J. Matrix Anal. Appl. 22, 2000), with matfree's Lanczos in it. As Y may be any rows, it starts
warm from those of an earlier matrix.

Residuals do not tell that a greater eigenvalue was missed: a Krylov space has one vector of an
eigenspace, and a warm one few of what is orthogonal to it. So there is a search, a few
steps at least from noise beside Y, until the best that is not wanted is, with its own
residual, below what is.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.extras import require
from jaxdescent.stability.sharpness.curvature import Product

CHUNK = 2  # steps between looks at the residuals
SEARCH = 6  # steps of a search at least, in which a random vector finds the top
STRAIGHT = 100.0  # roundings by which products of orthonormal rows may be off
DEPENDENT = 1e-3  # what is left of a row's unit length beside the others: it is replaced


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
    """The k greatest eigenvalues with their vectors.

    Squares of what is below 1e-19 are 0 in float32: A should be of the order of 1.

    Args:
      matvec: v -> A v over f[n].
      start: a random f[n]; of a warm start f[k, n], in which a row that is zero, not finite or
        dependent on those before it is replaced by noise.
      key: for noise.
      k: how many, in [1, n].
      warm: which start it is.
      tolerance: of the residuals, relative to the greatest |theta| of the k.
      num_steps: m, in [k, n], made even.
      max_cycles: at least 1.
      by_magnitude: whether the greatest are those of greatest magnitude.
      mask: bool[n]; A is taken as a matrix over these coordinates. At least k are true.
      rounding: of a product, relative to the norm of A, if it is more than that of the vectors.
        Residuals cannot be less, and are then evaluated by k products more.
    """
    if mask is None:
        within, count = matvec, jnp.asarray(start.shape[-1])
    else:
        within = lambda v: jnp.where(mask, matvec(jnp.where(mask, v, 0)), 0)
        count = jnp.sum(mask)
    solver = _Solver(
        within,
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
        image = jax.lax.map(within, basis.vectors[:k])
        basis = basis._replace(
            image=basis.image.at[:k].set(image),
            values=basis.values.at[:k].set(jnp.sum(basis.vectors[:k] * image, axis=1)),
        )
        products += k
    residuals = solver.residuals(basis)
    converged = residuals <= tolerance * jnp.max(jnp.abs(basis.values[:k]))
    return Pairs(basis.values[:k], basis.vectors[:k], residuals, converged, products)


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
      seen: the k values before the last cycle if that was a search, otherwise infinite.
      cycles, products: how many.
    """

    basis: _Basis
    seen: jax.Array
    cycles: jax.Array
    products: jax.Array


class _Run(NamedTuple):
    """The Lanczos vectors of a cycle, of which there are `steps` so far.

    Attributes:
      vectors: V.
      inner: T.
      across: V A Y^T.
      residual: what the last step left.
      usable: which rows there are that are more than rounding.
      outside: inner products of what the span of V lacks of the residuals R.
      steps: i32[].
      enough: whether there is no need for more, or no room.
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
    """The cycles, for one matrix; arguments as of `top_eigenpairs`."""

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
        """No rows, or those of a warm start."""
        k, n, dtype = self.k, self.start.shape[-1], self.start.dtype
        kept = min(k + 2, n)  # a few more than are wanted are worth their memory
        nothing = lambda *shape: jnp.zeros((kept, *shape), dtype)
        zero = jnp.zeros((), jnp.int32)
        basis = _Basis(nothing(n), nothing(n), nothing(), nothing() > 0, jnp.zeros((), dtype))
        carry = _Carry(basis, jnp.full(k, jnp.inf, dtype), zero, zero)
        if not self.warm:
            return carry
        start, noise = map(self.restrict, (self.start, _noise(self.key, (k, n), dtype)))
        size = jnp.linalg.norm(start, axis=1, keepdims=True)
        sound = jnp.isfinite(size) & (size > 0)
        start = jnp.where(sound, start / jnp.where(sound, size, 1), noise)
        if k > 1:
            left = jnp.abs(jnp.diagonal(jnp.linalg.qr(start.T, mode="r")))
            start = jnp.where((left < DEPENDENT)[:, None], noise, start)
        start = self.restrict(_orthonormal(start))
        image = jax.lax.map(self.matvec, start)
        values, turn, filled = self.best(start @ image.T, jnp.ones(k, bool))
        basis = _Basis(
            basis.vectors.at[:k].set(turn @ start),
            basis.image.at[:k].set(turn @ image),
            basis.values.at[:k].set(values),
            basis.filled.at[:k].set(filled),
            jnp.max(jnp.abs(values)),
        )
        return carry._replace(basis=basis, products=zero + k)

    def is_done(self, carry: _Carry) -> jax.Array:
        """Whether there is no more to do."""
        basis = carry.basis
        enough = self.is_small(basis) & (carry.cycles > 0)
        if self.k > 1:
            # A Krylov space has one vector of an eigenspace: a search must find no other.
            change = jnp.abs(basis.values[: self.k] - carry.seen)
            enough &= jnp.all(change <= self.limit(basis.values, basis.norm))
        hopeless = jnp.any(jnp.isnan(basis.values))
        return enough | hopeless | (carry.cycles >= self.max_cycles)

    def cycle(self, carry: _Carry) -> _Carry:
        """With the best rows of the span of Y and of Lanczos vectors."""
        basis, small = carry.basis, self.is_small(carry.basis)
        first = self.start_of_cycle(basis, carry.cycles)
        searches = small | (carry.cycles == 0) if self.warm else small
        run = self.run(basis, first, jnp.where(searches, SEARCH, 0))
        values, turn, filled = self.ritz(basis, run)
        kept = len(basis.values)
        old, new = turn[:kept, :kept], jnp.where(run.usable, turn[:kept, kept:], 0)
        # Vectors and images at once: what takes time is to read V.
        of_run = jnp.concatenate([new, new @ run.inner]) @ run.vectors
        of_rows = jnp.concatenate([old, new @ run.across]) @ basis.vectors
        vectors, image = jnp.split(of_run + of_rows, 2)
        image += old @ basis.image + jnp.outer(new[:, run.steps - 1], run.residual)
        vectors, image = _straightened(vectors, image, filled[:kept])
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
        """The largest residual that is wanted; noise where there is none, and at the beginning."""
        norms = self.residuals(basis)
        small = norms <= self.limit(basis.values, basis.norm)
        wanted = jnp.where(~small & jnp.isfinite(norms), norms, 0)
        place = jnp.argmax(wanted)
        left = basis.image[place] - basis.values[place] * basis.vectors[place]
        noise = _noise(jax.random.fold_in(self.key, cycle), left.shape, left.dtype)
        noise = self.restrict(noise)
        noise /= jnp.linalg.norm(noise)
        if not self.warm:
            first = self.restrict(self.start)
            noise = jnp.where(cycle == 0, first, noise)
        beginning = jnp.where(cycle == 0, wanted[place], 0)
        share = jnp.where(wanted[place] > 0, beginning, 1)
        first = jnp.where(wanted[place] > 0, left, 0) + share * noise
        first /= jnp.linalg.norm(first)
        return first - (basis.vectors @ first) @ basis.vectors

    def run(self, basis: _Basis, first: jax.Array, least: jax.Array) -> _Run:
        """Lanczos vectors, until they are enough, at least so many."""
        rows, n = basis.vectors, basis.vectors.shape[1]
        chunk = min(CHUNK, n)
        m = -(-self.num_steps // chunk) * chunk
        room = self.count - jnp.sum(basis.filled)

        def extend(run: _Run) -> _Run:
            def rest(v: jax.Array) -> jax.Array:
                return v - (rows @ v) @ rows - (run.vectors @ v) @ run.vectors

            at, zero = run.steps, jnp.zeros_like(run.steps)
            # Within a few steps, rounding along the other rows does not come to anything.
            last = jnp.where(at > 0, run.vectors[at - 1], 0)

            def near(v: jax.Array) -> jax.Array:
                return v - (rows @ v) @ rows - (last @ v) * last

            coupling = jnp.where(at > 0, jnp.linalg.norm(run.residual), 0)
            start = rest(run.residual / jnp.linalg.norm(run.residual))
            size = jnp.maximum(basis.norm, jnp.max(jnp.abs(run.inner)))
            found = lanczos(
                lambda v: near(self.matvec(v)), start, chunk, size, reorthogonalize=False
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
            left = jnp.linalg.norm(new.residual)
            exhausted = ~(left > jnp.sqrt(jnp.finfo(left.dtype).eps) * size)
            enough = self.is_enough(basis, new) & (new.steps >= least)
            return new._replace(enough=enough | exhausted | (new.steps >= m))

        kept, dtype = len(rows), rows.dtype
        left = basis.image - basis.values[:, None] * rows
        start = _Run(
            jnp.zeros((m, n), dtype),
            jnp.zeros((m, m), dtype),
            jnp.zeros((m, kept), dtype),
            first,
            jnp.zeros(m, bool),
            left @ left.T,
            jnp.zeros((), jnp.int32),
            jnp.zeros((), bool),
        )
        return jax.lax.while_loop(lambda run: ~run.enough, extend, start)

    def is_enough(self, basis: _Basis, run: _Run) -> jax.Array:
        """Whether residuals are small, and what is not wanted is less than what is."""
        k, kept = self.k, len(basis.values)
        values, turn, there = (x[: k + 1] for x in self.ritz(basis, run))
        lacking = jnp.einsum("ij,jk,ik->i", turn[:, :kept], run.outside, turn[:, :kept])
        bounds = jnp.sqrt(jnp.maximum(lacking, 0))
        bounds += jnp.abs(turn[:, kept + run.steps - 1]) * jnp.linalg.norm(run.residual)
        limit = self.limit(values, basis.norm)
        size = jnp.abs(values) if self.by_magnitude else values
        apart = ~there[k:] | (size[k:] + bounds[k:] <= size[k - 1] + limit)
        return jnp.all(there[:k] & (bounds[:k] <= limit)) & jnp.all(apart)

    def ritz(self, basis: _Basis, run: _Run) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The eigenvalues and vectors on the span of Y and V, and which there are."""
        both = run.usable[:, None] & run.usable
        matrix = jnp.block(
            [[jnp.diag(basis.values), run.across.T], [run.across, jnp.where(both, run.inner, 0)]]
        )
        return self.best(matrix, jnp.append(basis.filled, run.usable))

    def residuals(self, basis: _Basis) -> jax.Array:
        """The k residual norms; infinite where there is no row yet."""
        values, vectors = basis.values[: self.k], basis.vectors[: self.k]
        left = basis.image[: self.k] - values[:, None] * vectors
        return jnp.where(basis.filled[: self.k], jnp.linalg.norm(left, axis=1), jnp.inf)

    def limit(self, values: jax.Array, norm: jax.Array) -> jax.Array:
        """What a residual may be: what is asked for, or what rounding leaves."""
        wanted = self.tolerance * jnp.max(jnp.abs(values[: self.k]))
        return jnp.maximum(wanted, self.rounding * norm)

    def is_small(self, basis: _Basis) -> jax.Array:
        """Whether all k are."""
        return jnp.all(self.residuals(basis) <= self.limit(basis.values, basis.norm))

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
    """Numbers in [-1, 1) from a hash of their places, a start as good as normal ones.

    The hash is C. Wellons' `lowbias32` (2018); a generator takes as long as small products.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    x = jax.lax.iota(jnp.uint32, math.prod(shape)) + seed[0]
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor) + seed[1]
    x = (x ^ (x >> 16)).astype(jnp.int32)
    return (x.astype(dtype) * 2.0**-31).reshape(shape)


def _straightened(
    vectors: jax.Array, image: jax.Array, filled: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Orthonormal rows again, and what the matrix makes of them.

    Rounding leaves them a little less so in each cycle, where the matrix has next to nothing
    but noise much less, and what is no longer orthonormal has no residual that certifies.
    """
    one = jnp.eye(len(vectors), dtype=vectors.dtype)
    gram = jnp.where(filled[:, None] & filled, vectors @ vectors.T, one)
    crooked = jnp.max(jnp.abs(gram - one)) > STRAIGHT * jnp.finfo(gram.dtype).eps

    def straight() -> tuple[jax.Array, jax.Array]:
        both = jnp.concatenate([vectors, image], axis=1)
        lower = jnp.linalg.cholesky(gram)
        both = jax.scipy.linalg.solve_triangular(lower, both, lower=True)
        return both[:, : vectors.shape[1]], both[:, vectors.shape[1] :]

    return jax.lax.cond(crooked, straight, lambda: (vectors, image))


def _orthonormal(rows: jax.Array) -> jax.Array:
    if len(rows) == 1:
        return rows / jnp.linalg.norm(rows)
    return jnp.linalg.qr(rows.T)[0].T
