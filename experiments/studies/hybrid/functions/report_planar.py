"""Fifteen functions of two variables that are only reported: no method may be developed on them.

Source, unless stated otherwise: M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008. Minima
are computed by long searches in float64; comments say where another value is often given.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.hybrid.functions.known import Known, norm, root


def _ursem_1(x: jax.Array) -> jax.Array:
    return -jnp.sin(2 * x[0] - math.pi / 2) - 3 * jnp.cos(x[1]) - x[0] / 2


def _ursem_waves(x: jax.Array) -> jax.Array:
    a, b = x
    wave = jnp.cos(3 * a - b**2 * (2 + a)) * jnp.sin(2.5 * math.pi * a)
    return -0.9 * a**2 + (b**2 - 4.5 * b**2) * a * b + 4.7 * wave


def _price_4(x: jax.Array) -> jax.Array:
    a, b = x
    return (2 * a**3 * b - b**3) ** 2 + (6 * a - b**2 + b) ** 2


def _mishra_3(x: jax.Array) -> jax.Array:
    return root(jnp.abs(jnp.cos(norm(x)))) + 0.01 * (x[0] + x[1])


def _mishra_5(x: jax.Array) -> jax.Array:
    first = jnp.sin(jnp.sum(jnp.cos(x)) ** 2) ** 2
    second = jnp.cos(jnp.sum(jnp.sin(x)) ** 2) ** 2
    return (first + second + x[0]) ** 2 + 0.01 * x[0] + 0.1 * x[1]


def _zettl(x: jax.Array) -> jax.Array:
    return (x @ x - 2 * x[0]) ** 2 + x[0] / 4


def _hosaki(x: jax.Array) -> jax.Array:
    a, b = x
    return (1 - 8 * a + 7 * a**2 - 7 / 3 * a**3 + a**4 / 4) * b**2 * jnp.exp(-b)


def _parsopoulos(x: jax.Array) -> jax.Array:
    return jnp.cos(x[0]) ** 2 + jnp.sin(x[1]) ** 2


def _keane(x: jax.Array) -> jax.Array:
    """The survey's formula lacks the sign; its value at the minimizer has it."""
    length = norm(x)
    bump = (jnp.sin(x[0] - x[1]) * jnp.sin(x[0] + x[1])) ** 2
    return -jnp.where(length > 0, bump / jnp.where(length > 0, length, 1), 0)


def _bird(x: jax.Array) -> jax.Array:
    a, b = x
    first = jnp.sin(a) * jnp.exp((1 - jnp.cos(b)) ** 2)
    return first + jnp.cos(b) * jnp.exp((1 - jnp.sin(a)) ** 2) + (a - b) ** 2


def _adjiman(x: jax.Array) -> jax.Array:
    return jnp.cos(x[0]) * jnp.sin(x[1]) - x[0] / (x[1] ** 2 + 1)


def _chichinadze(x: jax.Array) -> jax.Array:
    a, b = x
    waves = 10 * jnp.cos(math.pi * a / 2) + 8 * jnp.sin(5 * math.pi * a / 2)
    return a**2 - 12 * a + 11 + waves - math.sqrt(0.2) * jnp.exp(-((b - 0.5) ** 2) / 2)


def _giunta(x: jax.Array) -> jax.Array:
    angle = 16 / 15 * x - 1
    return 0.6 + jnp.sum(jnp.sin(angle) + jnp.sin(angle) ** 2 + jnp.sin(4 * angle) / 50)


_ODD_SQUARE_CENTER = np.array([1.0, 1.3])


def _odd_square(x: jax.Array) -> jax.Array:
    squares = (x - _ODD_SQUARE_CENTER) ** 2
    d, h = 2 * jnp.max(squares), jnp.sum(squares)
    return -jnp.exp(-d / (2 * math.pi)) * jnp.cos(math.pi * d) * (1 + 0.02 * h / (d + 0.01))


def _rana(x: jax.Array) -> jax.Array:
    a, b = x
    outer, inner = root(jnp.abs(b + a + 1)), root(jnp.abs(b - a + 1))
    first = (b + 1) * jnp.cos(inner) * jnp.sin(outer)
    return first + a * jnp.cos(outer) * jnp.sin(inner)


_PI = math.pi
PLANAR = {
    "ursem_1": Known(_ursem_1, (-2.5, -2), (3, 2), (1.697136454366098, 0), -4.816814063734823),
    "ursem_waves": Known(_ursem_waves, (-0.9, -1.2), 1.2, (1.2, 1.2), -8.5536),
    "price_4": Known(_price_4, -50, 50, (2, 4), 0),
    # Often given: -0.18467. The minimum is at a cusp, where the norm is 4.5 pi.
    "mishra_3": Known(
        _mishra_3, -10, 10, (-4.5 * _PI / 2**0.5, -4.5 * _PI / 2**0.5), -0.045 * 2**0.5 * _PI
    ),
    "mishra_5": Known(_mishra_5, -10, 10, (-1.9868206464261486, -10), -1.0198295199309433),
    "zettl": Known(_zettl, -5, 10, (-0.029895985050602442, 0), -0.0037912372204688986),
    "hosaki": Known(_hosaki, 0, (5, 6), (4, 2), -2.345811576101304),
    "parsopoulos": Known(_parsopoulos, -5, 5, (_PI / 2, _PI), 0),
    "keane": Known(_keane, 0, 10, (1.393249075322482, 0), -0.673667521146855),
    "bird": Known(
        _bird, -2 * _PI, 2 * _PI, (4.701043130414075, 3.1529385036952142), -106.76453674926475
    ),
    "adjiman": Known(_adjiman, -1, (2, 1), (2, 0.1057834694375709), -2.021806783359787),
    # Often given: -43.3159 at (5.90133, 0.5), where this formula has a higher value.
    "chichinadze": Known(_chichinadze, -30, 30, (6.189866586976956, 0.5), -42.94438701899099),
    "giunta": Known(_giunta, -1, 1, (0.4673200253983059, 0.4673200254003), 0.06447042053690555),
    "odd_square": Known(
        _odd_square, -5 * _PI, 5 * _PI, (0.9126647349319522, 1.387335265068047), -1.0084672811394724
    ),
    # Often given: -928.5478 at (-500, -500), where this formula has a higher value.
    "rana": Known(_rana, -500, 500, (-300.33763274266664, 500), -500.8021602966644),
}
