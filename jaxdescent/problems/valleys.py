"""Ill-conditioned functions with few local minima, in any dimension.

All are sums of squares or even powers, with minimum 0 inside and outside the box.

Source: S. Surjanovic and D. Bingham, Virtual Library of Simulation Experiments, 2013.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems.placement import cube, make_problem


def _indices(x: jax.Array) -> jax.Array:
    return jnp.arange(1, x.size + 1, dtype=x.dtype)


def _rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[:-1] - 1) ** 2)


def rosenbrock(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """Rosenbrock's function: a curved valley, minimum 0 at (1, ..., 1), in [-5, 10]^n.

        f(x) = sum_{i<n} 100 (x_{i+1} - x_i^2)^2 + (x_i - 1)^2

    Args:
      dimension: n, at least 2.
      key: random key of a shift, or None for the textbook's minimizer. The shifted minimizer is
        uniform over the middle of the box, 0.8 of each side.
      rotated: whether to rotate the function about its minimizer too; needs a key.

    Returns:
      The problem. In 4 or more dimensions it has a local minimum near (-1, 1, ..., 1).

    Raises:
      ValueError: the dimension is too small, or `rotated` is True without a key.

    Example:
      >>> float(rosenbrock().value(jnp.array([-1.2, 1.0]))).__round__(3)
      24.2
    """
    n = validation.integer_in("dimension", dimension, 2)
    return make_problem(
        _rosenbrock, cube(n, -5, 10), np.ones((1, n)), 0, "Rosenbrock", key, rotated
    )


def _dixon_price(x: jax.Array) -> jax.Array:
    steps = _indices(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2
    return (x[0] - 1) ** 2 + jnp.sum(steps)


def dixon_price(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """The Dixon-Price function: two curved valleys that meet, in [-10, 10]^n.

        f(x) = (x_1 - 1)^2 + sum_{i>1} i (2 x_i^2 - x_{i-1})^2

    The minimum 0 is at x_i = 2^-(1 - 2^(1 - i)), and at the same point with the last sign flipped.
    See `rosenbrock` for the arguments and errors.

    Example:
      >>> dixon_price(3).optima.shape
      (2, 3)
    """
    n = validation.integer_in("dimension", dimension, 2)
    best = 2.0 ** (2.0 ** (1.0 - np.arange(1, n + 1)) - 1)
    best = np.stack([best, best * np.where(np.arange(n) == n - 1, -1, 1)])
    return make_problem(_dixon_price, cube(n, -10, 10), best, 0, "Dixon-Price", key, rotated)


def _zakharov(x: jax.Array) -> jax.Array:
    along = jnp.sum(_indices(x) * x) / 2
    return jnp.sum(x**2) + along**2 + along**4


def zakharov(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Zakharov's function: a bowl that is steep along one direction, in [-5, 10]^n.

        f(x) = sum x^2 + s^2 + s^4,    s = sum i x_i / 2

    The minimum 0 is at 0. See `sum_squares` for the arguments and errors.

    Example:
      >>> float(zakharov().value(jnp.ones(2))).__round__(4)
      9.3125
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(_zakharov, cube(n, -5, 10), np.zeros((1, n)), 0, "Zakharov", key, rotated)


def _sum_squares(x: jax.Array) -> jax.Array:
    return jnp.sum(_indices(x) * x**2)


def sum_squares(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """The sum of squares with weights 1 to n: a bowl of condition number n, in [-10, 10]^n.

        f(x) = sum i x_i^2

    The minimum 0 is at 0. See `rosenbrock` for the arguments and errors; the dimension may be 1.

    Example:
      >>> float(sum_squares(3).value(jnp.ones(3)))
      6.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(
        _sum_squares, cube(n, -10, 10), np.zeros((1, n)), 0, "Sum-squares", key, rotated
    )
