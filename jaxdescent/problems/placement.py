"""Where a test function lies in its box: as in the textbook, shifted, or shifted and rotated.

A function f of the textbook, with minimizer a, becomes

    value(x) = f(a + R (x - x_opt)),    x_opt = a + shift,

and its box stays. x_opt is drawn uniformly from the middle of the box, 0.8 of each side, so
that a method cannot profit from a minimizer at the center. R is orthogonal and uniform over
the orthogonal matrices: the Q of a Gaussian matrix's QR factors, with the signs that make the
other factor's diagonal positive.

Sources: the share of 0.8 is that of N. Hansen et al., 2009, INRIA RR-6829; the rotation is that
of F. Mezzadri, 2007, arXiv:math-ph/0609050.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem

SHARE = 0.8
"""The part of each side of the box, around its middle, in which shifted optima lie."""


@dataclasses.dataclass(frozen=True)
class Placed:
    """A function moved to another place; two of the same function are equal, as jit needs."""

    function: Callable[[jax.Array], jax.Array]

    def __call__(
        self, x: jax.Array, anchor: jax.Array, x_opt: jax.Array, rotation: jax.Array | None = None
    ) -> jax.Array:
        """The function at `anchor + rotation (x - x_opt)`."""
        x = x.astype(jnp.result_type(float, x))  # whole numbers would round the others
        away = x - x_opt.astype(x.dtype)
        if rotation is not None:
            away = jnp.matmul(rotation.astype(x.dtype), away, precision=jax.lax.Precision.HIGHEST)
        return self.function(anchor.astype(x.dtype) + away)


def placed(
    function: Callable[[jax.Array], jax.Array],
    box: tuple[Any, Any],
    optima: Any,
    minimum: float,
    name: str,
    key: jax.Array | None,
    rotated: bool,
) -> Problem:
    """A function of the textbook as a problem, at a place drawn from the key.

    Args:
      function: from `f32[n]` to a scalar.
      box: its lower and upper corners, `f32[n]`.
      optima: `f32[m, n]`, all of its global optima in the box. Several move as a rigid
        body, whose bounding box stays in the middle share; one wider than that is centered.
      minimum: its value there.
      name: its name.
      key: what the place is drawn from, or None for that of the textbook.
      rotated: whether to rotate as well.

    Raises:
      ValueError: there is no key to draw a rotation from.
      TypeError: the key is none.
    """
    if rotated and key is None:
        raise ValueError("rotated must be False where there is no key to draw from, got True")
    if key is None:
        return _problem(function, box, optima, minimum, name)
    for_shift, for_rotation = jax.random.split(validation.random_key("key", key))
    lower, upper, places = (jnp.asarray(value, float) for value in (*box, optima))
    offsets, rotation = places - places[0], ()
    if rotated:
        matrix = orthogonal(for_rotation, lower.size)
        offsets, rotation = jnp.matmul(offsets, matrix, precision="highest"), (matrix,)
    x_opt = _drawn(for_shift, lower, upper, offsets)
    data = (places[0], x_opt, *rotation)
    return _problem(Placed(function), box, x_opt + offsets, minimum, name, data)


def rotated_in_place(
    function: Callable[[jax.Array], jax.Array],
    box: tuple[Any, Any],
    minimizer: Any,
    minimum: float,
    name: str,
    key: jax.Array,
) -> Problem:
    """A function with one minimizer, rotated about it by a rotation drawn from the key."""
    center = jnp.asarray(minimizer, float)
    data = (center, center, orthogonal(key, center.size))
    return _problem(Placed(function), box, center[None], minimum, name, data)


def _problem(
    function: Callable[..., jax.Array],
    box: tuple[Any, Any],
    optima: Any,
    minimum: float,
    name: str,
    data: tuple[Any, ...] = (),
) -> Problem:
    lower, upper, places, least = (jnp.asarray(value, float) for value in (*box, optima, minimum))
    return Problem(function, lower, upper, data, places, least, name)


def orthogonal(key: jax.Array, dimension: int) -> jax.Array:
    """An orthogonal matrix `f32[dimension, dimension]`, uniform over all of them."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (dimension, dimension)))
    return q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)


def _drawn(key: jax.Array, lower: jax.Array, upper: jax.Array, offsets: jax.Array) -> jax.Array:
    """A place for the first minimizer such that all are in the middle of the box."""
    middle, reach = (lower + upper) / 2, SHARE * (upper - lower) / 2
    low, high = middle - reach - offsets.min(0), middle + reach - offsets.max(0)
    center, room = (low + high) / 2, jnp.maximum(high - low, 0)
    return center + room * jax.random.uniform(key, lower.shape, lower.dtype, -0.5, 0.5)


def cube(dimension: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a cube."""
    return np.full(dimension, low), np.full(dimension, high)


def beyond(x: jax.Array, low: Any, high: Any) -> jax.Array:
    """How far x is outside [low, high], coordinate by coordinate: 0 inside."""
    return jnp.maximum(low - x, 0) + jnp.maximum(x - high, 0)
