"""Functions with one valley or none, in any dimension: hard because they are ill-conditioned.

All are sums of squares, or of squares and powers, with minimum 0, here and outside the box.

Source: S. Surjanovic and D. Bingham, Virtual Library of Simulation Experiments, 2013.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems.placement import cube, placed


def _indices(x: jax.Array) -> jax.Array:
    return jnp.arange(1, x.size + 1, dtype=x.dtype)


def _rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[:-1] - 1) ** 2)


def rosenbrock(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """Rosenbrock's function: a bent valley, minimum 0 at (1, ..., 1), in [-5, 10]^n.

        f(x) = sum_{i<n} 100 (x_{i+1} - x_i^2)^2 + (x_i - 1)^2

    Args:
      dimension: n, at least 2.
      key: what a shift is drawn from; None leaves the minimizer where the textbook has it.
        The shifted one is uniform over the middle of the box, 0.8 of each side.
      rotated: whether the key also gives a rotation, about the minimizer.

    Returns:
      The problem. From 4 dimensions on it has a second, local minimum near (-1, 1, ..., 1).

    Raises:
      ValueError: the dimension is too small, or there is no key to draw a rotation from.

    Example:
      >>> float(rosenbrock().value(jnp.array([-1.2, 1.0]))).__round__(3)
      24.2
    """
    n = validation.integer_in("dimension", dimension, 2)
    return placed(_rosenbrock, cube(n, -5, 10), np.ones((1, n)), 0, "Rosenbrock", key, rotated)


def _dixon_price(x: jax.Array) -> jax.Array:
    steps = _indices(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2
    return (x[0] - 1) ** 2 + jnp.sum(steps)


def dixon_price(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """The function of Dixon and Price: two bent valleys that meet, in [-10, 10]^n.

        f(x) = (x_1 - 1)^2 + sum_{i>1} i (2 x_i^2 - x_{i-1})^2

    The minimum 0 is at x_i = 2^-(1 - 2^(1 - i)), and where the last coordinate is minus that.
    Arguments and errors are those of `rosenbrock`.

    Example:
      >>> dixon_price(3).optima.shape
      (2, 3)
    """
    n = validation.integer_in("dimension", dimension, 2)
    best = 2.0 ** (2.0 ** (1.0 - np.arange(1, n + 1)) - 1)
    best = np.stack([best, best * np.where(np.arange(n) == n - 1, -1, 1)])
    return placed(_dixon_price, cube(n, -10, 10), best, 0, "Dixon-Price", key, rotated)


def _zakharov(x: jax.Array) -> jax.Array:
    along = jnp.sum(_indices(x) * x) / 2
    return jnp.sum(x**2) + along**2 + along**4


def zakharov(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Zakharov's function: a bowl that is steep along one direction, in [-5, 10]^n.

        f(x) = sum x^2 + s^2 + s^4,    s = sum i x_i / 2

    The minimum 0 is at 0. Arguments and errors are those of `sum_squares`.

    Example:
      >>> float(zakharov().value(jnp.ones(2))).__round__(4)
      9.3125
    """
    n = validation.integer_in("dimension", dimension, 1)
    return placed(_zakharov, cube(n, -5, 10), np.zeros((1, n)), 0, "Zakharov", key, rotated)


def _sum_squares(x: jax.Array) -> jax.Array:
    return jnp.sum(_indices(x) * x**2)


def sum_squares(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """Squares with weights 1 to n: a bowl of condition n, in [-10, 10]^n.

        f(x) = sum i x_i^2

    The minimum 0 is at 0. The dimension may be 1; otherwise arguments and errors are those of
    `rosenbrock`.

    Example:
      >>> float(sum_squares(3).value(jnp.ones(3)))
      6.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return placed(_sum_squares, cube(n, -10, 10), np.zeros((1, n)), 0, "Sum-squares", key, rotated)
