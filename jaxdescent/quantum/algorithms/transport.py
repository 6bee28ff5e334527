"""The gradient term of quantum Hamiltonian descent as orthogonal matrices.

    dpsi/dt = -(c / 2) (g d + d g) psi,    g = df/dx along a line of the grid

moves |psi|^2 with velocity c g and keeps its sum. On N points, with the derivative D of the
trigonometric interpolation, which is an antisymmetric matrix, the operator is

    A_mn = -(c / 2) (g_m + g_n) D_mn,

antisymmetric as well, and exp(h A) is orthogonal. There is one matrix for each line of the grid and
each side of the box. The sides follow one another, in reverse order in every other step. Their
operators commute if f is a sum of functions of one coordinate; otherwise the error is of order h^2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.quantum.algorithms.grid import Grid


def derivative_matrix(points: int) -> np.ndarray:
    """Returns the derivative of the trigonometric interpolation on [0, 1), f64[N, N].

    N is even. The wave of the highest frequency has no derivative.
    """
    difference = np.arange(points)[:, None] - np.arange(points)
    with np.errstate(divide="ignore"):
        entries = np.pi * (-1.0) ** difference / np.tan(np.pi * difference / points)
    return np.where(difference == 0, 0.0, entries)


def matrices(grid: Grid, gradients: list[jax.Array], weight: jax.Array) -> list[jax.Array]:
    """Returns the matrices of each side, f[d][..., N, N]; the leading axes are the other sides.

    Args:
      grid: the grid.
      gradients: the partial derivatives of the potential on the grid, f[N, ..., N] each.
      weight: h c.
    """
    points = grid.axes.shape[1]
    derivative = jnp.asarray(derivative_matrix(points), grid.potential.dtype)

    def one_side(axis: int) -> jax.Array:
        slopes = jnp.moveaxis(gradients[axis], axis, -1)
        sums = slopes[..., :, None] + slopes[..., None, :]
        generator = -weight / 2 * sums * derivative / grid.sides[axis]
        found = jax.scipy.linalg.expm(generator, max_squarings=30)
        # One step of Newton's method takes rounding errors of orthogonality away.
        product = jnp.matmul(found.mT, found, precision="highest")
        return jnp.matmul(found, 1.5 * jnp.eye(points) - product / 2, precision="highest")

    return [one_side(axis) for axis in range(len(gradients))]


def apply(found: list[jax.Array], wave: jax.Array, number: jax.Array) -> jax.Array:
    """Returns the wave after the matrices of all sides, in reverse order in every other step."""

    def one_side(wave: jax.Array, axis: int) -> jax.Array:
        lines = jnp.moveaxis(wave, axis, -1)[..., None]
        parts = jnp.concatenate([lines.real, lines.imag], -1)
        moved = jnp.matmul(found[axis], parts, precision="highest")
        return jnp.moveaxis(jax.lax.complex(moved[..., 0], moved[..., 1]), -1, axis)

    axes = range(len(found))
    if len(found) == 1:
        return one_side(wave, 0)
    return jax.lax.cond(
        number % 2 == 0,
        lambda wave: functools.reduce(one_side, axes, wave),
        lambda wave: functools.reduce(one_side, reversed(axes), wave),
        wave,
    )
