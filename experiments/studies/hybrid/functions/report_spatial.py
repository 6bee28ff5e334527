"""Five functions of four to ten variables that are only reported.

No method may be developed on them. Source: M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008. Minima
are computed by long searches in float64; comments say where another value is often given.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.hybrid.functions.known import Known


def _dolan(x: jax.Array) -> jax.Array:
    a, b, c, d, e = x
    first = (a + 1.7 * b) * jnp.sin(a) - 1.5 * c - 0.1 * d * jnp.cos(d + e - a)
    return jnp.abs(first + 0.2 * e**2 - b - 1)


def _quintic(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(x**5 - 3 * x**4 + 4 * x**3 + 2 * x**2 - 10 * x - 4))


def _miele_cantrell(x: jax.Array) -> jax.Array:
    a, b, c, d = x
    first = (jnp.exp(a) - b) ** 4 + 100 * (b - c) ** 6
    return first + jnp.tan(c - d) ** 4 + a**8


_BIGGS_T = 0.1 * np.arange(1, 11)
_BIGGS_Y = np.exp(-_BIGGS_T) - 5 * np.exp(-10 * _BIGGS_T)


def _biggs_exp_4(x: jax.Array) -> jax.Array:
    fit = x[2] * jnp.exp(-_BIGGS_T * x[0]) - x[3] * jnp.exp(-_BIGGS_T * x[1])
    return jnp.sum((fit - _BIGGS_Y) ** 2)


def _paviani(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2) - jnp.prod(x) ** 0.2


SPATIAL = {
    "dolan": Known(_dolan, -100, 100, (0, -1, 0, 0, 0), 0),
    "quintic": Known(_quintic, -10, 10, (-1, -1, 2, 2), 0),
    "miele_cantrell": Known(_miele_cantrell, -1, 1, (0, 1, 1, 1), 0),
    "biggs_exp_4": Known(_biggs_exp_4, 0, 20, (1, 10, 1, 5), 0),
    "paviani": Known(_paviani, 2.001, 9.999, (9.350265833069052,) * 10, -45.77846970744629),
}
