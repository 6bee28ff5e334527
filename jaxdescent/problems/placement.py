"""Problems from textbook functions: as they are, shifted, or shifted and rotated.

A textbook function f with minimizer a becomes

    value(x) = f(a + R (x - x_opt)),    x_opt = a + shift,

in the same box. x_opt is uniform over the middle of the box, 0.8 of each side, so that no method
profits from a minimizer at the center. R is uniform over the orthogonal matrices: it is the Q of
the QR decomposition of a Gaussian matrix, with signs that make the diagonal of R positive.

Sources: N. Hansen et al., 2009, INRIA RR-6829 (the fraction of 0.8); F. Mezzadri, 2007,
arXiv:math-ph/0609050 (the rotation).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem

MIDDLE_FRACTION = 0.8
"""The fraction of each side of the box, around its middle, that contains shifted optima."""


@dataclasses.dataclass(frozen=True)
class ShiftedFunction:
    """A shifted and rotated function. Instances of one function are equal, as jit requires."""

    function: Callable[[jax.Array], jax.Array]

    def __call__(
        self, x: jax.Array, anchor: jax.Array, x_opt: jax.Array, rotation: jax.Array | None = None
    ) -> jax.Array:
        """Evaluates the function at `anchor + rotation (x - x_opt)`."""
        x = x.astype(jnp.result_type(float, x))  # an integer dtype would round the constants
        offset = x - x_opt.astype(x.dtype)
        if rotation is not None:
            precision = jax.lax.Precision.HIGHEST
            offset = jnp.matmul(rotation.astype(x.dtype), offset, precision=precision)
        return self.function(anchor.astype(x.dtype) + offset)


def make_problem(
    function: Callable[[jax.Array], jax.Array],
    box: tuple[Any, Any],
    optima: Any,
    minimum: float,
    name: str,
    key: jax.Array | None,
    rotated: bool,
) -> Problem:
    """Creates a problem from a textbook function, shifted and rotated at random.

    Args:
      function: called with x, `f32[n]`; returns a scalar.
      box: the lower and upper corner, `f32[n]`.
      optima: `f32[m, n]`, all global optima in the box. Several optima move as a rigid body,
        whose bounding box stays in the middle of the box, or is centered if it is too wide.
      minimum: the value at the optima.
      name: the problem's name.
      key: random key of the shift and rotation, or None for the textbook's function.
      rotated: whether to rotate the function.

    Raises:
      ValueError: `rotated` is True without a key.
      TypeError: `key` is not a random key.
    """
    if rotated and key is None:
        raise ValueError("rotated must be False without a key, got True")
    if key is None:
        return _problem(function, box, optima, minimum, name)
    shift_key, rotation_key = jax.random.split(validation.random_key("key", key))
    lower, upper, original = (jnp.asarray(value, float) for value in (*box, optima))
    offsets, rotation = original - original[0], ()
    if rotated:
        matrix = orthogonal(rotation_key, lower.size)
        offsets, rotation = jnp.matmul(offsets, matrix, precision="highest"), (matrix,)
    x_opt = _sample_optimum(shift_key, lower, upper, offsets)
    data = (original[0], x_opt, *rotation)
    return _problem(ShiftedFunction(function), box, x_opt + offsets, minimum, name, data)


def make_rotated_problem(
    function: Callable[[jax.Array], jax.Array],
    box: tuple[Any, Any],
    minimizer: Any,
    minimum: float,
    name: str,
    key: jax.Array,
) -> Problem:
    """Creates a problem from a function that is rotated about its only minimizer."""
    center = jnp.asarray(minimizer, float)
    data = (center, center, orthogonal(key, center.size))
    return _problem(ShiftedFunction(function), box, center[None], minimum, name, data)


def _problem(
    function: Callable[..., jax.Array],
    box: tuple[Any, Any],
    optima: Any,
    minimum: float,
    name: str,
    data: tuple[Any, ...] = (),
) -> Problem:
    lower, upper, points, value = (jnp.asarray(x, float) for x in (*box, optima, minimum))
    return Problem(function, lower, upper, data, points, value, name)


def orthogonal(key: jax.Array, dimension: int) -> jax.Array:
    """Samples a uniform orthogonal matrix, `f32[dimension, dimension]`."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (dimension, dimension)))
    return q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)


def _sample_optimum(
    key: jax.Array, lower: jax.Array, upper: jax.Array, offsets: jax.Array
) -> jax.Array:
    """Samples the first minimizer such that all minimizers are in the middle of the box."""
    middle, reach = (lower + upper) / 2, MIDDLE_FRACTION * (upper - lower) / 2
    low, high = middle - reach - offsets.min(0), middle + reach - offsets.max(0)
    center, room = (low + high) / 2, jnp.maximum(high - low, 0)
    return center + room * jax.random.uniform(key, lower.shape, lower.dtype, -0.5, 0.5)


def cube(dimension: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and the upper corner of a cube."""
    return np.full(dimension, low), np.full(dimension, high)


def distance_outside(x: jax.Array, low: Any, high: Any) -> jax.Array:
    """Returns the distance of each coordinate from [low, high], 0 inside."""
    return jnp.maximum(low - x, 0) + jnp.maximum(x - high, 0)
