"""The arithmetic of a problem's box: bounds, units, rounding, and the map to the unit box.

    z = (x - center) / scale,    center = (lower + upper) / 2,    scale = upper - lower,

are the coordinates that optimizers see in `minimize`. Along a coordinate where the box is not
finite, center is 0 and scale is 1. Derivatives by z are scale * derivatives by x, and an update of
z changes x by scale * update.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Box(NamedTuple):
    """The box of a problem in the dtypes of x, trees like x.

    Attributes:
      lower, upper: the corners.
      center: the origin of each coordinate for optimizers.
      scale: its unit.
    """

    lower: Any
    upper: Any
    center: Any
    scale: Any

    def move(self, x: Any, *, reflect: bool) -> Any:
        """Returns points moved into the box."""

        def move(x: Any, low: jax.Array, high: jax.Array) -> jax.Array:
            if reflect:
                x = jnp.where(x < low, 2 * low - x, jnp.where(x > high, 2 * high - x, x))
            # Unlike `jnp.clip`, the derivative at a bound is 1, as at other points of the box.
            return jnp.where(x < low, low, jnp.where(x > high, high, x))

        return jax.tree.map(move, x, self.lower, self.upper)

    def project_grads(self, x: Any, grads: Any) -> Any:
        """Returns gradients that are 0 where x is at a bound and descent would leave the box."""

        def project(x: jax.Array, grad: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
            outward = ((x <= low) & (grad > 0)) | ((x >= high) & (grad < 0))
            return jnp.where(outward, jnp.zeros_like(grad), grad)

        return jax.tree.map(project, x, grads, self.lower, self.upper)

    def in_units(self, x: Any) -> Any:
        """Returns z = (x - center) / scale."""
        return jax.tree.map(lambda x, c, s: (x - c) / s, x, self.center, self.scale)

    def from_units(self, z: Any) -> Any:
        """Returns x = center + z scale, the inverse of `in_units`."""
        return jax.tree.map(lambda z, c, s: c + z * s, z, self.center, self.scale)

    def times_scale(self, tree: Any) -> Any:
        """Returns updates of x for updates of z, or derivatives by z for derivatives by x."""
        return jax.tree.map(jnp.multiply, tree, self.scale)


@dataclasses.dataclass(frozen=True)
class InUnitBox:
    """A problem's function in coordinates in [0, 1].

    Two of the same function are equal, so that they share compiled programs.

    Attributes:
      value_fn: the function in the original coordinates.
      bounded: whether x is projected to the box.
    """

    value_fn: Callable[..., jax.Array]
    bounded: bool

    def __call__(self, x: Any, lower: Any, upper: Any, *data: Any) -> jax.Array:
        """Returns the value at the point of the box."""
        return self.value_fn(self.original(x, lower, upper), *data)

    def original(self, x: Any, lower: Any, upper: Any) -> Any:
        """Returns the original coordinates of a point."""

        def move(x: Any, low: Any, high: Any) -> Any:
            x = jnp.asarray(x)
            from_low = low + x * (high - low)
            if not self.bounded:
                return from_low
            # Exact at both corners, and monotone between them.
            original = jnp.where(x > 0.5, high - (1 - x) * (high - low), from_low)
            return jnp.where(x < 0, low, jnp.where(x > 1, high, original))

        return jax.tree.map(move, x, lower, upper)


@dataclasses.dataclass(frozen=True)
class SampleInUnitBox:
    """A problem's `sample_fn` in coordinates in [0, 1].

    Two of the same functions are equal, so that they share compiled programs.
    """

    value_fn: Callable[..., jax.Array]
    sample_fn: Callable[[jax.Array, Any], Any]

    def __call__(self, key: jax.Array, problem: Any) -> Any:
        """Draws a start of a problem that `in_unit_box` made."""
        lower, upper, *data = problem.data

        def original(tree: Any) -> Any:
            return None if tree is None else from_unit_box(tree, lower, upper)

        unscaled = dataclasses.replace(
            problem,
            value_fn=self.value_fn,
            lower=lower,
            upper=upper,
            data=tuple(data),
            optima=original(problem.optima),
            sample_fn=self.sample_fn,
            start_lower=original(problem.start_lower),
            start_upper=original(problem.start_upper),
        )
        return to_unit_box(self.sample_fn(key, unscaled), lower, upper)


def to_unit_box(z: Any, lower: Any, upper: Any) -> Any:
    """Returns points in coordinates in which the box is [0, 1]."""
    return jax.tree.map(lambda z, low, high: (z - low) / (high - low), z, lower, upper)


def from_unit_box(x: Any, lower: Any, upper: Any) -> Any:
    """Returns points in the original coordinates, the inverse of `to_unit_box`."""
    return jax.tree.map(lambda u, low, high: low + u * (high - low), x, lower, upper)


def rounded(bound: Any, dtype: Any, toward: float) -> jax.Array:
    """Returns a bound in the dtype of x, rounded into the box if the dtype is less precise."""
    bound = jnp.asarray(bound)
    cast = bound.astype(dtype)
    if jnp.finfo(dtype).nmant >= jnp.finfo(bound.dtype).nmant:
        return cast
    wide = cast.astype(bound.dtype)
    outside = wide < bound if toward > 0 else wide > bound
    return jnp.where(outside, jnp.nextafter(cast, jnp.full_like(cast, toward)), cast)


def narrowed(bound: Any, toward: float) -> Any:
    """Returns a NumPy bound in the dtype that JAX would convert it to, rounded into the box."""
    if not isinstance(bound, (np.ndarray, np.generic)):
        return bound
    dtype = jax.dtypes.canonicalize_dtype(bound.dtype)
    if dtype == bound.dtype:
        return bound
    cast = np.asarray(bound).astype(dtype)
    outside = cast < bound if toward > 0 else cast > bound
    return np.where(outside, np.nextafter(cast, dtype.type(toward)), cast)
