"""Ten functions of three to six variables on which the study's methods may be developed.

Source, unless stated otherwise: M. Jamil and X.-S. Yang, 2013, arXiv:1308.4008. Minima
are computed by long searches in float64; comments say where another value is often given.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.hybrid.functions.known import Known

_HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN_3_A = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
_HARTMANN_3_P = np.array(
    [
        [0.3689, 0.1170, 0.2673],
        [0.4699, 0.4387, 0.7470],
        [0.1091, 0.8732, 0.5547],
        [0.03815, 0.5743, 0.8828],
    ]
)
_HARTMANN_6_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_6_P = np.array(
    [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ]
)


def _hartmann_3(x: jax.Array) -> jax.Array:
    wells = jnp.exp(-jnp.sum(_HARTMANN_3_A * (x - _HARTMANN_3_P) ** 2, axis=1))
    return -jnp.sum(_HARTMANN_WEIGHTS * wells)


def _hartmann_6(x: jax.Array) -> jax.Array:
    wells = jnp.exp(-jnp.sum(_HARTMANN_6_A * (x - _HARTMANN_6_P) ** 2, axis=1))
    return -jnp.sum(_HARTMANN_WEIGHTS * wells)


_SHEKEL_CENTERS = np.array(
    [
        [4, 4, 4, 4],
        [1, 1, 1, 1],
        [8, 8, 8, 8],
        [6, 6, 6, 6],
        [3, 7, 3, 7],
        [2, 9, 2, 9],
        [5, 5, 3, 3],
        [8, 1, 8, 1],
        [6, 2, 6, 2],
        [7, 3.6, 7, 3.6],
    ]
)
_SHEKEL_WIDTHS = np.array([0.1, 0.2, 0.2, 0.4, 0.4, 0.6, 0.3, 0.7, 0.5, 0.5])


def _shekel_wells(x: jax.Array) -> jax.Array:
    return -1 / (jnp.sum((x - _SHEKEL_CENTERS) ** 2, axis=1) + _SHEKEL_WIDTHS)


def _shekel_5(x: jax.Array) -> jax.Array:
    return jnp.sum(_shekel_wells(x)[:5])


def _shekel_7(x: jax.Array) -> jax.Array:
    return jnp.sum(_shekel_wells(x)[:7])


def _shekel_10(x: jax.Array) -> jax.Array:
    return jnp.sum(_shekel_wells(x))


def _powell(x: jax.Array) -> jax.Array:
    first = (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2
    return first + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def _colville(x: jax.Array) -> jax.Array:
    a, b, c, d = x
    valleys = 100 * (a**2 - b) ** 2 + 90 * (c**2 - d) ** 2 + (a - 1) ** 2 + (c - 1) ** 2
    return valleys + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)


def _trid(x: jax.Array) -> jax.Array:
    return jnp.sum((x - 1) ** 2) - jnp.sum(x[1:] * x[:-1])


def _perm(x: jax.Array) -> jax.Array:
    """S. Surjanovic and D. Bingham, 2013: the function with parameters d and beta = 1/2."""
    j = jnp.arange(1, 5)
    inner = jnp.stack([jnp.sum((j**i + 0.5) * ((x / j) ** i - 1)) for i in range(1, 5)])
    return jnp.sum(inner**2)


_GULF_U = 25 + (-50 * np.log(0.01 * np.arange(1, 100))) ** (2 / 3)


def _gulf(x: jax.Array) -> jax.Array:
    distance = jnp.abs(_GULF_U - x[1])
    is_positive = distance > 1e-12
    power = jnp.where(is_positive, jnp.where(is_positive, distance, 1) ** x[2], 0)
    return jnp.sum((jnp.exp(-power / x[0]) - 0.01 * jnp.arange(1, 100)) ** 2)


SPATIAL = {
    "hartmann_3": Known(
        _hartmann_3,
        0,
        1,
        (0.11461433858967603, 0.5556488499718559, 0.852546953520866),
        -3.862782147820755,
    ),
    "hartmann_6": Known(
        _hartmann_6,
        0,
        1,
        (
            0.20168951101030758,
            0.15001069207545123,
            0.47687397421651856,
            0.27533243050837475,
            0.3116516166441574,
            0.6573005339888874,
        ),
        -3.322368011415515,
    ),
    "shekel_5": Known(
        _shekel_5,
        0,
        10,
        (4.00003715282582, 4.000133276589982, 4.000037152810549, 4.000133276583236),
        -10.153199679058229,
    ),
    "shekel_7": Known(
        _shekel_7,
        0,
        10,
        (4.000572917117383, 4.000689365279376, 3.9994897087137553, 3.999606158999453),
        -10.402940566818664,
    ),
    "shekel_10": Known(
        _shekel_10,
        0,
        10,
        (4.000746531251427, 4.000592934601464, 3.9996633973556275, 3.9995097994235596),
        -10.536409816692046,
    ),
    "powell": Known(_powell, -4, 5, (0, 0, 0, 0), 0),
    "colville": Known(_colville, -10, 10, (1, 1, 1, 1), 0),
    "trid": Known(_trid, -36, 36, (6, 10, 12, 12, 10, 6), -50),
    "perm": Known(_perm, -4, 4, (1, 2, 3, 4), 0),
    "gulf": Known(_gulf, (0.1, 0, 0), (100, 25.6, 5), (50, 25, 1.5), 0),
}
