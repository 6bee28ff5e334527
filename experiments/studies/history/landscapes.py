"""The landscapes: functions of two variables with a start, and one of a 2 x 2 matrix.

    ravine      1/2 (x - c)' H (x - c), eigenvalues 1 and 100 of H, axes turned by 30 degrees
    rosenbrock  100 (y - x^2)^2 + (x - 1)^2
    beale       a flat valley with steep corners
    saddle      1/2 x^2 + 1/4 (y^2 - 1)^2: a saddle at 0 between minima at (0, +-1)
    rastrigin   about 100 local minima, shifted
    roof        |u| + 10 |v|, not differentiable at its minimum nor along its ridges, turned
    matrix      1/2 sum_ij s_ij (M - T)_ij^2, M = U' W V, of a 2 x 2 matrix W

The minimum of each is 0. The last landscape is for Muon. T is diagonal, and so is M at the start.
Gradient descent, momentum and Muon turn with the coordinates and keep M diagonal, so that its
diagonal is their whole path. Methods that treat each coordinate of W by itself leave this plane.
Their paths are projected onto it, and their values are the values at W.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd

CONDITION = 100.0
"""Ratio of the eigenvalues of the ravine."""


Window = tuple[tuple[float, float], tuple[float, float]]
"""The lower left and the upper right corner of a rectangle."""


class Landscape(NamedTuple):
    """A function with a start and a window to draw.

    Attributes:
      title: name in tables and figures.
      problem: the function, and the box from which agents start.
      optima: f32[k, 2] or f32[k, 2, 2], its minima.
      start: f32[2] or f32[2, 2], the start of all methods that descend from one point.
      window: the part of the plane that is drawn.
    """

    title: str
    problem: jd.Problem
    optima: np.ndarray
    start: np.ndarray
    window: Window

    @property
    def is_matrix(self) -> bool:
        """True if the parameter is a matrix."""
        return self.start.ndim == 2

    def to_plane(self, x: Any) -> np.ndarray:
        """Returns coordinates in the plane, f32[..., 2], of parameters, f32[..., 2] or [..., 2, 2].

        The plane of a matrix W is the diagonal of U' W V.
        """
        x = np.asarray(x)
        return np.einsum("ai,...ab,bi->...i", LEFT, x, RIGHT) if self.is_matrix else x

    def from_plane(self, point: Any) -> Any:
        """Returns the parameters at a point of the plane, f32[2]."""
        return LEFT @ jnp.diag(point) @ RIGHT.T if self.is_matrix else point


def rotation(degrees: float) -> np.ndarray:
    """Returns the matrix that turns by an angle, f32[2, 2]."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]], np.float32)


AXES = rotation(30)
CENTER = np.array([1.0, 0.5], np.float32)
HESSIAN = (AXES * np.array([1.0, CONDITION], np.float32)) @ AXES.T
LEFT, RIGHT = rotation(30), rotation(-50)
STIFFNESS = np.array([[1.0, 10.0], [10.0, 100.0]], np.float32)
TARGET = np.diag(np.array([1.0, 0.5], np.float32))
RASTRIGIN_KEY = 1


def _ravine(x: jax.Array) -> jax.Array:
    difference = x - CENTER
    return difference @ HESSIAN @ difference / 2


def _saddle(x: jax.Array) -> jax.Array:
    return x[0] ** 2 / 2 + (x[1] ** 2 - 1) ** 2 / 4


def _roof(x: jax.Array) -> jax.Array:
    along, across = (x - CENTER) @ AXES
    return jnp.abs(along) + 10 * jnp.abs(across)


def _matrix(x: jax.Array) -> jax.Array:
    return jnp.sum(STIFFNESS * (LEFT.T @ x @ RIGHT - TARGET) ** 2) / 2


_CLASSIC = {
    "rosenbrock": jd.problems.rosenbrock(2),
    "beale": jd.problems.beale(),
    "rastrigin": jd.problems.rastrigin(2, key=jax.random.key(RASTRIGIN_KEY)),
}
_VECTOR_FUNCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "ravine": _ravine,
    "saddle": _saddle,
    "roof": _roof,
    **{name: problem.value for name, problem in _CLASSIC.items()},
}


def _select(x: jax.Array, number: jax.Array) -> jax.Array:
    """Value of one of the functions of a vector: they share compiled programs."""
    return jax.lax.switch(number, [*_VECTOR_FUNCTIONS.values()], x)


def _problem(name: str, box: float) -> jd.Problem:
    """Returns the problem of a function whose minimum is 0."""
    if name == "matrix":
        side = np.full((2, 2), box, np.float32)
        return jd.Problem(_matrix, -side, side, minimum=np.float32(0))
    number = np.int32(list(_VECTOR_FUNCTIONS).index(name))
    classic = _CLASSIC.get(name)
    low, high = (classic.lower, classic.upper) if classic else ([-box] * 2, [box] * 2)
    low, high = (np.asarray(side, np.float32) for side in (low, high))
    return jd.Problem(_select, low, high, data=(number,), minimum=np.float32(0))


def make_landscapes() -> Mapping[str, Landscape]:
    """Returns the landscapes by name."""
    turned = CENTER + AXES @ np.array([-2.6, 0.5])
    near = ((-2.2, -1.6), (2.0, 1.8))
    best, begin = (LEFT @ np.diag(x) @ RIGHT.T for x in (np.diag(TARGET), [-1.5, -0.7]))
    return {
        "ravine": _landscape("ravine", "quadratic ravine", turned, near, [CENTER]),
        "rosenbrock": _landscape("rosenbrock", "Rosenbrock", [-1.2, 1], ((-1.8, -0.8), (1.8, 2))),
        "beale": _landscape("beale", "Beale", [1.0, 1.5], ((-0.5, -1.2), (4.2, 2.0))),
        "saddle": _landscape(
            "saddle", "saddle", [-1.8, 1e-3], ((-2.1, -1.5), (1.3, 1.5)), [[0, 1], [0, -1]]
        ),
        "rastrigin": _landscape(
            "rastrigin", "Rastrigin", [-3.6, 3.4], ((-5.12, -5.12), (5.12, 5.12))
        ),
        "roof": _landscape("roof", "roof, not smooth", turned, near, [CENTER]),
        "matrix": _landscape("matrix", "2 x 2 matrix", begin, ((-1.9, -1.3), (1.7, 1.1)), [best]),
    }


def _landscape(
    name: str, title: str, start: Any, window: Window, optima: Any = None, box: float = 3.0
) -> Landscape:
    optima = np.asarray(_CLASSIC[name].optima if optima is None else optima, np.float32)
    return Landscape(title, _problem(name, box), optima, np.asarray(start, np.float32), window)
