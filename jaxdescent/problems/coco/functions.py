"""The 24 BBOB functions, as functions of the displacement from the minimizer, u = x - x_opt.

Each is COCO's function without its minimum f_opt and its penalty outside the box. The formulas
avoid cancellation near the minimum: 1 - cos t is 2 sin^2(t / 2), 1 - exp(-t) is -expm1(-t), and
matrices are applied to u rather than to x. The value at the minimizer is then exactly 0, except
for Schwefel, whose minimizer has eleven digits, and Griewank-Rosenbrock, which takes x.

Source: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.problems.coco.constants import LUNACEK, SCHWEFEL, Constants, zoom
from jaxdescent.problems.coco.transformations import (
    asymmetric,
    conditioned,
    fractions,
    oscillated,
    power,
    rotated,
    unfused,
)
from jaxdescent.problems.multimodal import schwefel_terms


def _sphere(u: jax.Array, _: Constants) -> jax.Array:
    return jnp.sum(u**2)


def _squares(z: jax.Array) -> jax.Array:
    return jnp.sum(conditioned(1e6, z**2))


def _ellipsoid(u: jax.Array, _: Constants) -> jax.Array:
    return _squares(oscillated(u))


def _waves(z: jax.Array) -> jax.Array:
    return jnp.sum(z**2 + 20 * jnp.sin(jnp.pi * z) ** 2)


def _rastrigin(u: jax.Array, _: Constants) -> jax.Array:
    return _waves(conditioned(np.sqrt(10), asymmetric(0.2, oscillated(u))))


def _bueche_rastrigin(u: jax.Array, _: Constants) -> jax.Array:
    z = conditioned(np.sqrt(10), oscillated(u))
    steep = (z > 0) & (jnp.arange(z.size) % 2 == 0)
    return _waves(jnp.where(steep, 10 * z, z))


def _linear_slope(u: jax.Array, c: Constants) -> jax.Array:
    # u points inward from the minimizer, a corner of the box; the function is flat outside.
    inward = jnp.maximum(-jnp.sign(c.x_opt) * u, 0)
    return jnp.sum(conditioned(10, inward))


def _attractive_sector(u: jax.Array, c: Constants) -> jax.Array:
    z = rotated(c.linear, u)
    z = jnp.where(z * c.x_opt > 0, 100 * z, z)
    return power(oscillated(jnp.sum(z**2)), 0.9)


def _step_ellipsoid(u: jax.Array, c: Constants) -> jax.Array:
    before = rotated(c.linear, u)
    coarse, fine = jnp.floor(before + 0.5), jnp.floor(10 * before + 0.5) / 10
    z = rotated(c.rotation, jnp.where(jnp.abs(before) > 0.5, coarse, fine))
    return 0.1 * jnp.maximum(1e-4 * jnp.abs(before[0]), jnp.sum(conditioned(100, z**2)))


def _valley(z: jax.Array) -> jax.Array:
    """Computes Rosenbrock's function at 1 + z."""
    along, across = z[:-1], z[1:]
    return jnp.sum(100 * (along * (2 + along) - across) ** 2 + along**2)


def _rosenbrock(u: jax.Array, _: Constants) -> jax.Array:
    return _valley(zoom(u.size) * u)


def _rosenbrock_rotated(u: jax.Array, c: Constants) -> jax.Array:
    return _valley(rotated(c.rotation, u))


def _ellipsoid_rotated(u: jax.Array, c: Constants) -> jax.Array:
    return _squares(oscillated(rotated(c.rotation, u)))


def _discus(u: jax.Array, c: Constants) -> jax.Array:
    z = oscillated(rotated(c.rotation, u))
    return 1e6 * z[0] ** 2 + jnp.sum(z[1:] ** 2)


def _bent_cigar(u: jax.Array, c: Constants) -> jax.Array:
    z = rotated(c.rotation, asymmetric(0.5, rotated(c.rotation, u)))
    return z[0] ** 2 + 1e6 * jnp.sum(z[1:] ** 2)


def _sharp_ridge(u: jax.Array, c: Constants) -> jax.Array:
    z = rotated(c.linear, u)
    return z[0] ** 2 + 100 * power(jnp.sum(z[1:] ** 2), 0.5)


def _different_powers(u: jax.Array, c: Constants) -> jax.Array:
    z = jnp.abs(rotated(c.rotation, u))
    return power(jnp.sum(z ** (2 + 4 * fractions(z))), 0.5)


def _rastrigin_rotated(u: jax.Array, c: Constants) -> jax.Array:
    return _waves(rotated(c.linear, asymmetric(0.2, oscillated(rotated(c.rotation, u)))))


def _weierstrass(u: jax.Array, c: Constants) -> jax.Array:
    z = rotated(c.linear, oscillated(rotated(c.rotation, u)))
    k = np.arange(12)
    amplitudes = jnp.asarray(2 * 0.5**k, z.dtype)
    angles = jnp.pi * jnp.asarray(3.0**k, z.dtype) * z[:, None]
    return 10 * jnp.mean(jnp.sin(angles) ** 2 @ amplitudes) ** 3


def _schaffers(u: jax.Array, c: Constants) -> jax.Array:
    z = rotated(c.linear, asymmetric(0.5, rotated(c.rotation, u)))
    s = z[:-1] ** 2 + z[1:] ** 2
    return jnp.mean(power(s, 0.25) * (1 + jnp.sin(50 * power(s, 0.1)) ** 2)) ** 2


def _griewank_rosenbrock(x: jax.Array, c: Constants) -> jax.Array:
    # The argument of the cosine is in the thousands. The order of operations determines its last
    # digits, and thereby the result from the tenth digit on. This is COCO's order.
    columns = unfused(c.rotation * x).T
    z = functools.reduce(operator.add, columns) + 0.5
    across, along = unfused(z[:-1] ** 2) - z[1:], 1 - z[:-1]
    s = unfused(100 * across * across) + unfused(along**2)
    return 10 * jnp.mean(s / 4000 + 2 * jnp.sin(s / 2) ** 2)


def _schwefel(u: jax.Array, c: Constants) -> jax.Array:
    v = 2 * jnp.sign(c.x_opt) * u
    v = v.at[1:].add(0.25 * v[:-1])
    z = 100 * (conditioned(np.sqrt(10), v) + SCHWEFEL)
    return 0.01 * (jnp.mean(schwefel_terms(z)) + jnp.sum(jnp.maximum(jnp.abs(z) - 500, 0) ** 2))


def _gallagher(u: jax.Array, c: Constants) -> jax.Array:
    away = rotated(c.rotation, u) - c.peaks
    distances = jnp.sum(c.widths * away**2, axis=1) / (2 * u.size)
    depths = c.heights - (10 - c.heights) * jnp.expm1(-distances)
    # The derivative of min compares values for equality, and is 0 / 0 if the compiler computes
    # them twice with different rounding; argmin avoids this.
    return oscillated(depths[jnp.argmin(depths)]) ** 2


def _katsuura(u: jax.Array, c: Constants) -> jax.Array:
    z, n = rotated(c.linear, u), u.size
    scales = jnp.asarray(2.0 ** np.arange(1, 33), z.dtype)
    steps = scales * z[:, None]
    dents = jnp.sum(jnp.abs(steps - jnp.floor(steps + 0.5)) / scales, axis=1)
    logs = jnp.sum(jnp.log1p(jnp.arange(1, n + 1, dtype=z.dtype) * dents))
    return 10 / n**2 * jnp.expm1(10 / n**1.2 * logs)


def _lunacek(u: jax.Array, c: Constants) -> jax.Array:
    n = u.size
    s = 1 - 1 / (2 * np.sqrt(n + 20) - 8.2)
    second = -np.sqrt((LUNACEK**2 - 1) / s)
    v = 2 * jnp.sign(c.x_opt) * u
    funnels = jnp.sum(v**2), n + s * jnp.sum((v + (LUNACEK - second)) ** 2)
    return jnp.minimum(*funnels) + 20 * jnp.sum(jnp.sin(jnp.pi * rotated(c.linear, v)) ** 2)


class Function(NamedTuple):
    """One of the 24 functions.

    Attributes:
      name: the function's name.
      evaluate: called with u, or with x if `takes_x`, and the constants; returns the value above
        the minimum.
      takes_x: True if `evaluate` takes x.
    """

    name: str
    evaluate: Callable[[jax.Array, Constants], jax.Array]
    takes_x: bool = False


FUNCTIONS = (
    Function("sphere", _sphere),
    Function("ellipsoid, separable", _ellipsoid),
    Function("Rastrigin, separable", _rastrigin),
    Function("Bueche-Rastrigin", _bueche_rastrigin),
    Function("linear slope", _linear_slope),
    Function("attractive sector", _attractive_sector),
    Function("step ellipsoid", _step_ellipsoid),
    Function("Rosenbrock", _rosenbrock),
    Function("Rosenbrock, rotated", _rosenbrock_rotated),
    Function("ellipsoid", _ellipsoid_rotated),
    Function("discus", _discus),
    Function("bent cigar", _bent_cigar),
    Function("sharp ridge", _sharp_ridge),
    Function("different powers", _different_powers),
    Function("Rastrigin", _rastrigin_rotated),
    Function("Weierstrass", _weierstrass),
    Function("Schaffers F7", _schaffers),
    Function("Schaffers F7, ill-conditioned", _schaffers),
    Function("Griewank-Rosenbrock", _griewank_rosenbrock, takes_x=True),
    Function("Schwefel", _schwefel),
    Function("Gallagher, 101 peaks", _gallagher),
    Function("Gallagher, 21 peaks", _gallagher),
    Function("Katsuura", _katsuura),
    Function("Lunacek bi-Rastrigin", _lunacek),
)
