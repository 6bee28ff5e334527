"""Functions of two variables, with minima known in closed form or to 16 digits.

Goldstein-Price is written as a product of two sums of positive terms, which equals its usual form:
with v = x + y and u = 2 x - 3 y,

    f = (1 + (v + 1)^2 (3 v^2 - 14 v + 19)) (3 + (u - 3)^2 (3 u^2 + 2 u + 3)),

where both quadratics are positive. McCormick's function is unbounded below along x = y. Outside
its box, a quadratic penalty with zero value and derivative at the border prevents this. The other
functions attain their minimum over the whole plane.

Sources: S. Surjanovic and D. Bingham, Virtual Library of Simulation Experiments, 2013;
M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008.
"""

import math

import jax
import jax.numpy as jnp

from jaxdescent.problem import Problem
from jaxdescent.problems.placement import cube, distance_outside, make_problem


def _himmelblau(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


_HIMMELBLAU = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.283185991286170),
    (3.584428340330492, -1.848126526964404),
)


def himmelblau(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Himmelblau's function: four minima, all 0, in [-5, 5]^2.

        f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2

    Args:
      key: random key of a shift, or None for the textbook's optima. All shifted optima are in the
        middle of the box, 0.8 of each side. Himmelblau's rotated optima may be wider than that;
        they are centered then.
      rotated: whether to rotate the function too; needs a key.

    Returns:
      The problem, in 2 dimensions.

    Raises:
      ValueError: `rotated` is True without a key.

    Example:
      >>> himmelblau().optima.shape, float(himmelblau().value(jnp.array([3.0, 2.0])))
      ((4, 2), 0.0)
    """
    return make_problem(_himmelblau, cube(2, -5, 5), _HIMMELBLAU, 0, "Himmelblau", key, rotated)


def _beale(x: jax.Array) -> jax.Array:
    first = 1.5 - x[0] * (1 - x[1])
    second = 2.25 - x[0] * (1 - x[1] ** 2)
    return first**2 + second**2 + (2.625 - x[0] * (1 - x[1] ** 3)) ** 2


def beale(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Beale's function: a flat valley with steep corners, minimum 0 at (3, 0.5), in [-4.5, 4.5]^2.

        f(x, y) = (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2

    See `himmelblau` for the arguments and errors.

    Example:
      >>> float(beale().value(jnp.array([3.0, 0.5])))
      0.0
    """
    return make_problem(_beale, cube(2, -4.5, 4.5), [[3.0, 0.5]], 0, "Beale", key, rotated)


def _booth(x: jax.Array) -> jax.Array:
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def booth(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Booth's function: a quadratic, minimum 0 at (1, 3), in [-10, 10]^2.

        f(x, y) = (x + 2 y - 7)^2 + (2 x + y - 5)^2

    See `himmelblau` for the arguments and errors.

    Example:
      >>> float(booth().value(jnp.zeros(2)))
      74.0
    """
    return make_problem(_booth, cube(2, -10, 10), [[1.0, 3.0]], 0, "Booth", key, rotated)


def _easom(x: jax.Array) -> jax.Array:
    return -jnp.cos(x[0]) * jnp.cos(x[1]) * jnp.exp(-jnp.sum((x - math.pi) ** 2))


def easom(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """Easom's function: a narrow hole in a plateau, minimum -1, in [-100, 100]^2.

        f(x, y) = -cos x cos y exp(-(x - pi)^2 - (y - pi)^2)

    The minimum is at (pi, pi). Far from it, value and gradient underflow to 0.
    See `himmelblau` for the arguments and errors.

    Example:
      >>> float(easom().value(jnp.full(2, jnp.pi)))
      -1.0
    """
    return make_problem(_easom, cube(2, -100, 100), [[math.pi] * 2], -1, "Easom", key, rotated)


def _goldstein_price(x: jax.Array) -> jax.Array:
    v, u = x[0] + x[1], 2 * x[0] - 3 * x[1]
    first = 1 + (v + 1) ** 2 * (3 * v**2 - 14 * v + 19)
    return first * (3 + (u - 3) ** 2 * (3 * u**2 + 2 * u + 3))


def goldstein_price(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """The Goldstein-Price function: values from 3 to 1e6, in [-2, 2]^2.

        f(x, y) = (1 + (x + y + 1)^2 (19 - 14 x + 3 x^2 - 14 y + 6 x y + 3 y^2))
                  (30 + (2 x - 3 y)^2 (18 - 32 x + 12 x^2 + 48 y - 36 x y + 27 y^2))

    The minimum 3 is at (0, -1). See `himmelblau` for the arguments and errors.

    Example:
      >>> float(goldstein_price().value(jnp.array([0.0, -1.0])))
      3.0
    """
    box, best = cube(2, -2, 2), [[0.0, -1.0]]
    return make_problem(_goldstein_price, box, best, 3, "Goldstein-Price", key, rotated)


_MCCORMICK_BOX = ((-1.5, -3.0), (4.0, 4.0))


def _mccormick(x: jax.Array) -> jax.Array:
    low, high = (jnp.array(corner, x.dtype) for corner in _MCCORMICK_BOX)
    waves = jnp.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2
    return waves - 1.5 * x[0] + 2.5 * x[1] + 1 + jnp.sum(distance_outside(x, low, high) ** 2)


def mccormick(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """McCormick's function: a wave along a diagonal valley, in [-1.5, 4] x [-3, 4].

        f(x, y) = sin(x + y) + (x - y)^2 - 1.5 x + 2.5 y + 1 + dist(box)^2

    The minimum -sqrt(3) / 2 - pi / 3 is at (1 / 2 - pi / 3, -1 / 2 - pi / 3). The last term is
    added to the textbook function. It is 0 in the box, and keeps the function bounded below.
    See `himmelblau` for the arguments and errors.

    Example:
      >>> round(float(mccormick().minimum), 4)
      -1.9132
    """
    best = [[0.5 - math.pi / 3, -0.5 - math.pi / 3]]
    minimum = -math.sqrt(3) / 2 - math.pi / 3
    return make_problem(_mccormick, _MCCORMICK_BOX, best, minimum, "McCormick", key, rotated)


def _three_hump_camel(x: jax.Array) -> jax.Array:
    return 2 * x[0] ** 2 - 1.05 * x[0] ** 4 + x[0] ** 6 / 6 + x[0] * x[1] + x[1] ** 2


def three_hump_camel(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """The three-hump camel function: three minima, the middle one global, in [-5, 5]^2.

        f(x, y) = 2 x^2 - 1.05 x^4 + x^6 / 6 + x y + y^2

    The minimum 0 is at 0. See `himmelblau` for the arguments and errors.

    Example:
      >>> float(three_hump_camel().value(jnp.zeros(2)))
      0.0
    """
    return make_problem(
        _three_hump_camel, cube(2, -5, 5), [[0.0, 0.0]], 0, "three-hump camel", key, rotated
    )


def _six_hump_camel(x: jax.Array) -> jax.Array:
    along = (4 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3) * x[0] ** 2
    return along + x[0] * x[1] + (4 * x[1] ** 2 - 4) * x[1] ** 2


_SIX_HUMP = ((0.08984201310031806, -0.7126564030207396), (-0.08984201310031806, 0.7126564030207396))


def six_hump_camel(*, key: jax.Array | None = None, rotated: bool = False) -> Problem:
    """The six-hump camel function: six minima, two of them global, in [-3, 3] x [-2, 2].

        f(x, y) = (4 - 2.1 x^2 + x^4 / 3) x^2 + x y + (4 y^2 - 4) y^2

    The minimum -1.0316284535 is at +-(0.0898420, -0.7126564).
    See `himmelblau` for the arguments and errors.

    Example:
      >>> six_hump_camel().optima.shape
      (2, 2)
    """
    box = ((-3.0, -2.0), (3.0, 2.0))
    minimum = -1.0316284534898774
    return make_problem(_six_hump_camel, box, _SIX_HUMP, minimum, "six-hump camel", key, rotated)
