"""Functions with many local minima, in any dimension.

The formulas avoid cancellation near the minimum: 1 - cos t is 2 sin^2(t/2), and 1 - exp(-t) is
-expm1(-t). If the minimum is 0, float32 can then represent values down to 1e-7 above it. The
minima of Styblinski-Tang and Michalewicz are proportional to the dimension, as in the textbook,
and are rounded accordingly: float32 numbers near -783 are 6e-5 apart.

Outside the box, Schwefel's and Michalewicz's functions fall below their minimum. A quadratic
penalty, with zero value and derivative at the border, prevents this.

Sources: S. Surjanovic and D. Bingham, Virtual Library of Simulation Experiments, 2013;
M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems.placement import cube, distance_outside, make_problem, make_rotated_problem


def _indices(x: jax.Array) -> jax.Array:
    return jnp.arange(1, x.size + 1, dtype=x.dtype)


def _ackley(x: jax.Array) -> jax.Array:
    square = jnp.mean(x**2)
    # The derivative of the root is infinite at 0. The function has a cone there, and 0 is one of
    # its subgradients.
    radius = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    bowl = -20 * jnp.expm1(-0.2 * radius)
    return bowl - math.e * jnp.expm1(-2 * jnp.mean(jnp.sin(jnp.pi * x) ** 2))


def ackley(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Ackley's function: a funnel with many local minima, minimum 0 at 0, in [-32.768, 32.768]^n.

        f(x) = 20 (1 - exp(-0.2 sqrt(mean x^2))) + e - exp(mean cos(2 pi x))

    Args:
      dimension: n, at least 1.
      key: random key of a shift, or None for the textbook's minimizer. The shifted minimizer is
        uniform over the middle of the box, 0.8 of each side.
      rotated: whether to rotate the function about its minimizer too; needs a key.

    Returns:
      The problem. At the minimum, which is the tip of a cone, the gradient is 0.

    Raises:
      ValueError: the dimension is too small, or `rotated` is True without a key.

    Example:
      >>> problem = ackley(3, key=jax.random.key(0))
      >>> float(problem.value(problem.optima[0]))
      0.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(
        _ackley, cube(n, -32.768, 32.768), np.zeros((1, n)), 0, "Ackley", key, rotated
    )


def _rastrigin(x: jax.Array) -> jax.Array:
    return jnp.sum(x**2 + 20 * jnp.sin(jnp.pi * x) ** 2)


def rastrigin(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """Rastrigin's function: a bowl with a regular grid of minima, 0 at 0, in [-5.12, 5.12]^n.

        f(x) = sum x^2 + 10 (1 - cos(2 pi x))

    See `ackley` for the arguments and errors.

    Example:
      >>> float(rastrigin().value(jnp.array([1.0, 0.0]))).__round__(5)
      1.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(
        _rastrigin, cube(n, -5.12, 5.12), np.zeros((1, n)), 0, "Rastrigin", key, rotated
    )


def rotated_rastrigin(dimension: int = 2, *, key: jax.Array | None = None) -> Problem:
    """Rastrigin's function, rotated, so that it is not separable.

    Args:
      dimension: n, at least 2.
      key: random key of the rotation and a shift. If it is missing, the function is not shifted,
        and rotated with `jax.random.key(0)`.

    Returns:
      The problem; minimum 0, box [-5.12, 5.12]^n.

    Raises:
      ValueError: the dimension is too small.

    Example:
      >>> float(rotated_rastrigin(5).value(jnp.zeros(5)))
      0.0
    """
    n = validation.integer_in("dimension", dimension, 2)
    name, box, best = "rotated Rastrigin", cube(n, -5.12, 5.12), np.zeros((1, n))
    if key is None:
        return make_rotated_problem(_rastrigin, box, best[0], 0, name, jax.random.key(0))
    return make_problem(_rastrigin, box, best, 0, name, key, rotated=True)


def _griewank(x: jax.Array) -> jax.Array:
    below = 2 * jnp.sin(x / jnp.sqrt(_indices(x)) / 2) ** 2
    # 1 - (1 - a) (1 - b) = a + b - a b, which is accurate for small a and b.
    ripples = jax.lax.associative_scan(lambda a, b: a + b - a * b, below)
    return jnp.sum(x**2) / 4000 + ripples[-1]


def griewank(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Griewank's function: a wide bowl with fine ripples, minimum 0 at 0, in [-600, 600]^n.

        f(x) = sum x^2 / 4000 + 1 - prod cos(x_i / sqrt(i))

    See `ackley` for the arguments and errors.

    Example:
      >>> float(griewank(4).value(jnp.zeros(4)))
      0.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(
        _griewank, cube(n, -600, 600), np.zeros((1, n)), 0, "Griewank", key, rotated
    )


def _levy(x: jax.Array) -> jax.Array:
    w = 1 + (x - 1) / 4
    inner, last = w[:-1], w[-1]
    # The definition has sin(pi w + 1): the 1 is a phase.
    steps = jnp.sum((inner - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * inner + 1) ** 2))
    ends = jnp.sin(jnp.pi * w[0]) ** 2 + (last - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * last) ** 2)
    return steps + ends


def levy(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Levy's function: a rippled bowl, minimum 0 at (1, ..., 1), in [-10, 10]^n.

    With w = 1 + (x - 1) / 4,

        f(x) = sin^2(pi w_1) + sum_{i<n} (w_i - 1)^2 (1 + 10 sin^2(pi w_i + 1))
               + (w_n - 1)^2 (1 + sin^2(2 pi w_n))

    See `ackley` for the arguments and errors.

    Example:
      >>> round(float(levy(3).value(jnp.ones(3))), 6)
      0.0
    """
    n = validation.integer_in("dimension", dimension, 1)
    return make_problem(_levy, cube(n, -10, 10), np.ones((1, n)), 0, "Levy", key, rotated)


_STYBLINSKI = -2.903534027771177  # the smallest root of 4 x^3 - 32 x + 5
_STYBLINSKI_MINIMUM = -39.16616570377142


def _styblinski_tang(x: jax.Array) -> jax.Array:
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


def styblinski_tang(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """The Styblinski-Tang function: 2^n local minima, one of them global, in [-5, 5]^n.

        f(x) = sum(x^4 - 16 x^2 + 5 x) / 2

    The minimum is -39.166166 n, at -2.903534 in every coordinate.
    See `ackley` for the arguments and errors.

    Example:
      >>> problem = styblinski_tang()
      >>> round(float(problem.value(problem.optima[0])), 4)
      -78.3323
    """
    n = validation.integer_in("dimension", dimension, 1)
    best = np.full((1, n), _STYBLINSKI)
    name = "Styblinski-Tang"
    return make_problem(
        _styblinski_tang, cube(n, -5, 5), best, n * _STYBLINSKI_MINIMUM, name, key, rotated
    )


_SCHWEFEL = 420.96874635998205  # s^2 for the root of tan(s) = -s / 2 near 20.5
_SCHWEFEL_DEPTH = 418.9828872724339  # x sin(sqrt(x)) at this x


def schwefel_terms(x: jax.Array) -> jax.Array:
    """Computes the largest x sin(sqrt|x|) in [-500, 500] minus its value at each coordinate."""
    # With a = sqrt(x*), b = sqrt(x) and d = x* - x, for x > 0:
    # x* sin a - x sin b = d sin a + 2 x cos((a + b) / 2) sin(d / (2 (a + b))),
    # which is accurate for small d. The difference of the two products is not.
    a = math.sqrt(_SCHWEFEL)
    positive = x > 0
    right = jnp.where(positive, x, 1)
    b, d = jnp.sqrt(right), _SCHWEFEL - right
    near = d * math.sin(a) + 2 * right * jnp.cos((a + b) / 2) * jnp.sin(d / (2 * (a + b)))
    left = jnp.where(x < 0, x, -1)
    far = _SCHWEFEL_DEPTH - jnp.where(x < 0, left * jnp.sin(jnp.sqrt(-left)), 0)
    return jnp.where(positive, near, far)


def _schwefel(x: jax.Array) -> jax.Array:
    return jnp.sum(schwefel_terms(x) + 0.1 * distance_outside(x, -500, 500) ** 2)


def schwefel(dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Schwefel's function: the two best minima are far apart, in [-500, 500]^n.

        f(x) = 418.98288727 n - sum x sin(sqrt|x|) + 0.1 sum max(|x| - 500, 0)^2

    The minimum is 0, at 420.968746 in every coordinate. The last sum is added to the textbook
    function. It is 0 in the box, and keeps the function above 0 outside, where it would otherwise
    be unbounded below.
    See `ackley` for the arguments and errors.

    Example:
      >>> problem = schwefel(key=jax.random.key(0))
      >>> bool(problem.value(problem.optima[0]) < 1e-5)
      True
    """
    n = validation.integer_in("dimension", dimension, 1)
    best = np.full((1, n), _SCHWEFEL)
    return make_problem(_schwefel, cube(n, -500, 500), best, 0, "Schwefel", key, rotated)


def _michalewicz(x: jax.Array) -> jax.Array:
    waves = jnp.sin(x) * jnp.sin(_indices(x) * x**2 / jnp.pi) ** 20
    return jnp.sum(distance_outside(x, 0, math.pi) ** 2 - waves)


def michalewicz(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> Problem:
    """Michalewicz's function: narrow valleys on a plateau, in [0, pi]^n.

        f(x) = -sum sin(x_i) sin^20(i x_i^2 / pi) + sum dist(x_i, [0, pi])^2

    The minimum is -1.8013 for n = 2 and -9.6602 for n = 10; it is found coordinate by
    coordinate. The last sum is not the textbook's; it is 0 in the box and keeps the function
    above its minimum outside.
    See `ackley` for the arguments and errors.

    Example:
      >>> round(float(michalewicz(10).minimum), 4)
      -9.6602
    """
    n = validation.integer_in("dimension", dimension, 1)
    best, minimum = _michalewicz_minimum(n)
    return make_problem(
        _michalewicz, cube(n, 0, math.pi), best[None], minimum, "Michalewicz", key, rotated
    )


@functools.lru_cache(maxsize=64)
def _michalewicz_minimum(dimension: int) -> tuple[np.ndarray, float]:
    """Returns the position of the highest wave of each coordinate, and the minimum."""
    index = np.arange(1, dimension + 1)[:, None]
    # The k-th wave is highest near sin(i x^2 / pi) = +-1. Newton's method refines its position.
    x = np.sqrt(np.pi**2 * (np.arange(dimension) + 0.5) / index)
    x = np.where(x < np.pi, x, np.pi / 2)
    for _ in range(50):
        phase, slope = index * x**2 / np.pi, 2 * index * x / np.pi
        # First and second derivative of the wave's logarithm.
        first = 1 / np.tan(x) + 20 * slope / np.tan(phase)
        second = -1 / np.sin(x) ** 2 + 20 * (
            2 * index / np.pi / np.tan(phase) - slope**2 / np.sin(phase) ** 2
        )
        x = np.clip(x - first / second, 1e-3, np.pi - 1e-3)
    height = np.sin(x) * np.sin(index * x**2 / np.pi) ** 20
    best = np.argmax(height, axis=1)[:, None]
    found = np.take_along_axis(height, best, 1)
    return np.take_along_axis(x, best, 1)[:, 0], -float(found.sum())
