"""Twenty functions of two variables on which the study's methods may be developed.

Source, unless stated otherwise: M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008. Minima
are computed by long searches in float64; comments say where another value is often given.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.hybrid.functions.known import Known, norm, root


def _eggholder(x: jax.Array) -> jax.Array:
    a, b = x[0], x[1] + 47
    return -b * jnp.sin(root(jnp.abs(a / 2 + b))) - a * jnp.sin(root(jnp.abs(a - b)))


def _cross(x: jax.Array) -> jax.Array:
    return jnp.abs(jnp.sin(x[0]) * jnp.sin(x[1])) * jnp.exp(jnp.abs(100 - norm(x) / math.pi))


def _cross_in_tray(x: jax.Array) -> jax.Array:
    return -1e-4 * (_cross(x) + 1) ** 0.1


def _cross_leg_table(x: jax.Array) -> jax.Array:
    return -((_cross(x) + 1) ** -0.1)


def _drop_wave(x: jax.Array) -> jax.Array:
    """S. Surjanovic and D. Bingham, Virtual Library of Simulation Experiments, 2013."""
    return -(1 + jnp.cos(12 * norm(x))) / (x @ x / 2 + 2)


def _holder_table(x: jax.Array) -> jax.Array:
    wave = jnp.sin(x[0]) * jnp.cos(x[1])
    return -jnp.abs(wave) * jnp.exp(jnp.abs(1 - norm(x) / math.pi))


def _bukin_6(x: jax.Array) -> jax.Array:
    return 100 * root(jnp.abs(x[1] - 0.01 * x[0] ** 2)) + 0.01 * jnp.abs(x[0] + 10)


def _schaffer_2(x: jax.Array) -> jax.Array:
    difference, square = x[0] ** 2 - x[1] ** 2, x @ x
    return 0.5 + (jnp.sin(difference) ** 2 - 0.5) / (1 + 1e-3 * square) ** 2


def _schaffer_4(x: jax.Array) -> jax.Array:
    difference, square = x[0] ** 2 - x[1] ** 2, x @ x
    wave = jnp.cos(jnp.sin(jnp.abs(difference))) ** 2
    return 0.5 + (wave - 0.5) / (1 + 1e-3 * square) ** 2


def _shubert(x: jax.Array) -> jax.Array:
    j = jnp.arange(1, 6)
    return jnp.prod(jnp.sum(j * jnp.cos((j + 1) * x[:, None] + j), axis=1))


_LANGERMANN_CENTERS = np.array([[3, 5], [5, 2], [2, 1], [1, 4], [7, 9]])
_LANGERMANN_WEIGHTS = np.array([1, 2, 5, 2, 3])


def _langermann(x: jax.Array) -> jax.Array:
    """S. Surjanovic and D. Bingham, 2013, with m = 5."""
    squares = jnp.sum((x - _LANGERMANN_CENTERS) ** 2, axis=1)
    waves = jnp.exp(-squares / math.pi) * jnp.cos(math.pi * squares)
    return jnp.sum(_LANGERMANN_WEIGHTS * waves)


def _levy_13(x: jax.Array) -> jax.Array:
    """S. Surjanovic and D. Bingham, 2013."""
    a, b = x
    first = (a - 1) ** 2 * (1 + jnp.sin(3 * math.pi * b) ** 2)
    return (
        jnp.sin(3 * math.pi * a) ** 2 + first + (b - 1) ** 2 * (1 + jnp.sin(2 * math.pi * b) ** 2)
    )


def _branin(x: jax.Array) -> jax.Array:
    a, b = x
    valley = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * jnp.cos(a) + 10


_FOXHOLES = np.array(
    [(a, b) for b in (-32.0, -16.0, 0.0, 16.0, 32.0) for a in (-32.0, -16.0, 0.0, 16.0, 32.0)]
)


def _de_jong_5(x: jax.Array) -> jax.Array:
    """Shekel's foxholes; the powers are written as products, whose gradients are finite."""
    terms = 1 / (jnp.arange(1, 26) + jnp.sum((x - _FOXHOLES) ** 6, axis=1))
    return 1 / (0.002 + jnp.sum(terms))


_DECEPTIVE_PEAKS = np.array([0.3, 0.7])


def _deceptive(x: jax.Array) -> jax.Array:
    """Mishra's deceptive function of type III, with the peaks at (.3, .7)."""
    p = _DECEPTIVE_PEAKS
    pieces = [
        (x <= 0.8 * p, 0.8 - x / p),
        (x <= p, 5 * x / p - 4),
        (x <= (1 + 4 * p) / 5, 5 * (x - p) / (p - 1) + 1),
        (jnp.ones(2, bool), (x - 1) / (1 - p) + 0.8),
    ]
    heights = jnp.select([where for where, _ in pieces], [height for _, height in pieces])
    return -(jnp.mean(heights) ** 2)


def _salomon(x: jax.Array) -> jax.Array:
    return 1 - jnp.cos(2 * math.pi * norm(x)) + 0.1 * norm(x)


def _alpine_1(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(x * jnp.sin(x) + 0.1 * x))


def _xin_she_yang_2(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(x)) * jnp.exp(-jnp.sum(jnp.sin(x**2)))


def _damavandi(x: jax.Array) -> jax.Array:
    needle = 1 - jnp.abs(jnp.prod(jnp.sinc(x - 2))) ** 5
    return needle * (2 + (x[0] - 7) ** 2 + 2 * (x[1] - 7) ** 2)


def _trefethen(x: jax.Array) -> jax.Array:
    a, b = x
    waves = jnp.exp(jnp.sin(50 * a)) + jnp.sin(60 * jnp.exp(b)) + jnp.sin(70 * jnp.sin(a))
    return waves + jnp.sin(jnp.sin(80 * b)) - jnp.sin(10 * (a + b)) + x @ x / 4


def _pathological(x: jax.Array) -> jax.Array:
    wave = jnp.sin(root(100 * x[0] ** 2 + x[1] ** 2)) ** 2 - 0.5
    return 0.5 + wave / (1 + 1e-3 * (x[0] - x[1]) ** 4)


_PI = math.pi
PLANAR = {
    "eggholder": Known(_eggholder, -512, 512, (512, 404.2318051137578), -959.640662720851),
    "cross_in_tray": Known(
        _cross_in_tray, -10, 10, (1.349406617154525, 1.349406617154525), -2.06261187082274
    ),
    "cross_leg_table": Known(_cross_leg_table, -10, 10, (0, 0), -1),
    "drop_wave": Known(_drop_wave, -5.12, 5.12, (0, 0), -1),
    "holder_table": Known(
        _holder_table, -10, 10, (8.05502347573911, 9.664590019242436), -19.20850256788675
    ),
    "bukin_6": Known(_bukin_6, (-15, -3), (-5, 3), (-10, 1), 0),
    "schaffer_2": Known(_schaffer_2, -100, 100, (0, 0), 0),
    "schaffer_4": Known(_schaffer_4, -100, 100, (0, 1.2531318314148776), 0.2925786320359805),
    "shubert": Known(
        _shubert, -10, 10, (4.858056878859779, 5.4828642067076965), -186.7309088310239
    ),
    "langermann": Known(
        _langermann, 0, 10, (2.7934022084977377, 1.5972325015864752), -4.155809291847786
    ),
    "levy_13": Known(_levy_13, -10, 10, (1, 1), 0),
    "branin": Known(_branin, (-5, 0), (10, 15), (_PI, 2.275), 0.397887357729738),
    "de_jong_5": Known(
        _de_jong_5, -65.536, 65.536, (-31.97833483251546, -31.978334833807462), 0.9980038377944498
    ),
    "deceptive": Known(_deceptive, 0, 1, (0.3, 0.7), -1),
    "salomon": Known(_salomon, -100, 100, (0, 0), 0),
    "alpine_1": Known(_alpine_1, -10, 10, (0, 0), 0),
    "xin_she_yang_2": Known(_xin_she_yang_2, -2 * _PI, 2 * _PI, (0, 0), 0),
    "damavandi": Known(_damavandi, 0, 14, (2, 2), 0),
    "trefethen": Known(
        _trefethen, -10, 10, (-0.02440307954685858, 0.2106124272804675), -3.306868647475241
    ),
    "pathological": Known(_pathological, -100, 100, (0, 0), 0),
}
