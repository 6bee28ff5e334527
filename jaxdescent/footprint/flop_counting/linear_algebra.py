"""Leading-order FLOPs of matrix factorizations, for m x n matrices with m >= n.

The formulas count the textbook algorithms. Libraries use other algorithms, and iterative ones need
different numbers of sweeps, so the interval is half to twice the count.

Sources: Golub and Van Loan, Matrix Computations, 4th ed. (2013): 3.2 (LU), 4.2 (Cholesky),
5.2 (QR), 7.4 (Hessenberg), 7.5 (eig, schur), 8.3 (eigh, tridiagonal), 8.6 (SVD: Golub and
Reinsch, with all of U if full); LAPACK Working Note 41 (1994) for forming Q.
"""

import math
from collections.abc import Callable

from jaxdescent import jax_internals as core
from jaxdescent.footprint.flop_counting.operands import real_per_complex, shape, size

Formula = Callable[[core.JaxprEqn], float | None]


def _per_matrix(flops: Callable[[core.JaxprEqn, int, int], float]) -> Formula:
    """Returns a formula of the long and the short side of the first operand's matrices."""

    def count(eqn: core.JaxprEqn) -> float:
        *batch, rows, columns = shape(eqn.invars[0])
        sides = max(rows, columns), min(rows, columns)
        return math.prod(batch) * flops(eqn, *sides) * real_per_complex(eqn)

    return count


def _triangle_of_qr(_eqn: core.JaxprEqn, m: int, n: int) -> float:
    return 2 * m * n**2 - 2 / 3 * n**3


def _forming_q(m: int, columns: int, reflectors: int) -> float:
    k = reflectors
    return 4 * m * columns * k - 2 * (m + columns) * k**2 + 4 / 3 * k**3


def _qr(eqn: core.JaxprEqn, m: int, n: int) -> float:
    *_, rows, columns = shape(eqn.outvars[0])  # the shape of Q
    return _triangle_of_qr(eqn, m, n) + _forming_q(rows, columns, n)


def _svd(eqn: core.JaxprEqn, m: int, n: int) -> float:
    if not eqn.params["compute_uv"]:
        return 4 * m * n**2 - 4 / 3 * n**3
    if eqn.params["full_matrices"]:
        return 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    return 14 * m * n**2 + 8 * n**3


def _eig(eqn: core.JaxprEqn, n: int, _: int) -> float:
    sides = ("compute_left_eigenvectors", "compute_right_eigenvectors")
    return (25 if any(eqn.params[side] for side in sides) else 10) * n**3


def _householder_product(eqn: core.JaxprEqn) -> float:
    *batch, m, n = shape(eqn.invars[0])
    return math.prod(batch) * _forming_q(m, n, shape(eqn.invars[1])[-1]) * real_per_complex(eqn)


def _triangular_solve(eqn: core.JaxprEqn) -> int:
    return shape(eqn.invars[0])[-1] * size(eqn.invars[1]) * real_per_complex(eqn)


FORMULAS: dict[str, Formula] = {
    "cholesky": _per_matrix(lambda _eqn, n, _: n**3 / 3),
    "eig": _per_matrix(_eig),
    "eigh": _per_matrix(lambda _eqn, n, _: 9 * n**3),
    "hessenberg": _per_matrix(lambda _eqn, n, _: 10 / 3 * n**3),
    "householder_product": _householder_product,
    "lu": _per_matrix(lambda _eqn, m, n: m * n**2 - n**3 / 3),
    "qr": _per_matrix(_qr),
    "schur": _per_matrix(lambda _eqn, n, _: 25 * n**3),
    "svd": _per_matrix(_svd),
    "triangular_solve": _triangular_solve,
    "tridiagonal": _per_matrix(lambda _eqn, n, _: 4 / 3 * n**3),
    "tridiagonal_solve": lambda eqn: 8 * size(eqn.invars[3]) * real_per_complex(eqn),
}
