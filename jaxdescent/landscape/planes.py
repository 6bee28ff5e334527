"""Slices: the loss on a line or a plane through the parameters.

    line    f(a)    = L(w + a u)
    plane   f(a, b) = L(w + a u + b v)

Each is one compiled program for all points, directions, coordinates and data of the same shapes.
A plane shows the loss at the projections of a path (`losses_at`), which can differ from the loss at
the points of the path (`path_losses`).

Source: I. Goodfellow, O. Vinyals, A. Saxe 2015, arXiv:1412.6544; planes H. Li et al. 2018,
arXiv:1712.09913.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import arguments
from jaxdescent.landscape.points import LossFn, chunk_size, losses_of_sums, map_in_chunks
from jaxdescent.numerics import at_least_float32
from jaxdescent.programs import compiled


class Line(NamedTuple):
    """The loss along a line.

    Attributes:
      x: f[n], coordinates in units of the direction.
      values: f[n], losses; non-finite losses are kept.
      not_finite: i32[], number of non-finite losses.
    """

    x: jax.Array
    values: jax.Array
    not_finite: jax.Array


class Plane(NamedTuple):
    """The loss on a grid of a plane.

    Attributes:
      x, y: f[nx], f[ny], coordinates in units of the first and the second direction.
      values: f[ny, nx], losses; `values[j, i]` is at `(x[i], y[j])`; non-finite losses are
        kept.
      not_finite: i32[], number of non-finite losses.
    """

    x: jax.Array
    y: jax.Array
    values: jax.Array
    not_finite: jax.Array


def line(
    loss_fn: LossFn,
    params: Any,
    direction: Any,
    batch: Any = None,
    /,
    *,
    x: ArrayLike | None = None,
    memory: int | None = None,
) -> Line:
    """Computes the loss along a direction.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar. Each
        function is compiled once: reuse the same function, and pass data as `batch`.
      params: pytree of real arrays, the point at 0.
      direction: pytree like the parameters.
      batch: pytree of arrays, passed to `loss_fn`.
      x: f[n], coordinates; by default 51 from -1 to 1.
      memory: bytes that a batch of points may use. By default points are evaluated one at a
        time on a CPU, and in batches of up to 1 GiB elsewhere.

    Returns:
      A `Line`.

    Raises:
      ValueError: the direction is zero or does not match the parameters; a leaf is not floating
        point; the loss is not a scalar; the coordinates are empty or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, _):
      ...     return jnp.sum(w**2)
      >>> found = line(loss, jnp.zeros(3), jnp.ones(3), x=[0.0, 1.0, 2.0])
      >>> found.values.tolist()
      [0.0, 3.0, 12.0]
    """
    xs = arguments.as_coordinates("x", x)
    _check(loss_fn, params, [direction], batch, ["direction"])
    weights = np.stack([np.ones_like(xs), xs], axis=1)
    values = losses_of_sums(loss_fn, [params, direction], weights, batch, memory)
    return Line(jnp.asarray(xs, at_least_float32(values.dtype)), values, not_finite(values))


def plane(
    loss_fn: LossFn,
    params: Any,
    directions: Sequence[Any],
    batch: Any = None,
    /,
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    memory: int | None = None,
) -> Plane:
    """Computes the loss on a grid of the plane that two directions span.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar. Each
        function is compiled once: reuse the same function, and pass data as `batch`.
      params: pytree of real arrays, the point at (0, 0).
      directions: two pytrees like the parameters, linearly independent.
      batch: pytree of arrays, passed to `loss_fn`.
      x: f[nx], coordinates along the first direction; by default 51 from -1 to 1.
      y: f[ny], coordinates along the second direction; by default `x`.
      memory: bytes that a batch of points may use. By default points are evaluated one at a
        time on a CPU, and in batches of up to 1 GiB elsewhere.

    Returns:
      A `Plane`.

    Raises:
      ValueError: there are not two directions, or they are linearly dependent or do not match the
        parameters; a leaf is not floating point; the loss is not a scalar; the coordinates
        are empty or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, scales):
      ...     return jnp.sum(scales * w**2)
      >>> axes = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> found = plane(loss, jnp.zeros(2), axes, jnp.array([1.0, 10.0]), x=[0, 1, 2], y=[0, 1])
      >>> found.values.tolist()
      [[0.0, 1.0, 4.0], [10.0, 11.0, 14.0]]
    """
    xs = arguments.as_coordinates("x", x)
    ys = xs if y is None else arguments.as_coordinates("y", y)
    if not isinstance(directions, Sequence) or len(directions) != 2:
        given = len(directions) if isinstance(directions, Sequence) else type(directions).__name__
        raise ValueError(f"directions must be a pair of trees like params, got {given}")
    _check(loss_fn, params, directions, batch)
    grid_x, grid_y = np.meshgrid(xs, ys)
    weights = np.stack([np.ones(grid_x.size), grid_x.ravel(), grid_y.ravel()], axis=1)
    values = losses_of_sums(loss_fn, [params, *directions], weights, batch, memory)
    return Plane(
        jnp.asarray(xs, at_least_float32(values.dtype)),
        jnp.asarray(ys, at_least_float32(values.dtype)),
        values.reshape(grid_x.shape),
        not_finite(values),
    )


def losses_at(
    loss_fn: LossFn,
    params: Any,
    directions: Sequence[Any],
    coordinates: ArrayLike,
    batch: Any = None,
    /,
    *,
    memory: int | None = None,
) -> jax.Array:
    """Computes the loss at any points of a line or a plane, such as projections of a path.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      params: pytree of real arrays, the point with coordinates 0.
      directions: k pytrees like the parameters, linearly independent.
      coordinates: f[n, k], in units of the directions.
      batch: pytree of arrays, passed to `loss_fn`.
      memory: as for `plane`.

    Returns:
      The losses f[n].

    Raises:
      ValueError: as for `plane`.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, _):
      ...     return jnp.sum(w**2)
      >>> losses_at(loss, jnp.zeros(2), [jnp.ones(2)], [[3.0], [4.0]]).tolist()
      [18.0, 32.0]
    """
    at = validation.finite_array("coordinates", coordinates)
    if at.ndim != 2 or at.shape[1] != len(directions):
        raise ValueError(
            f"coordinates must be of shape (points, {len(directions)}), got {at.shape}"
        )
    _check(loss_fn, params, directions, batch)
    weights = np.concatenate([np.ones((len(at), 1)), at], axis=1)
    return losses_of_sums(loss_fn, [params, *directions], weights, batch, memory)


def path_losses(
    loss_fn: LossFn, path: Any, batch: Any = None, /, *, memory: int | None = None
) -> jax.Array:
    """Computes the loss at each point of a path.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      path: pytree like the parameters with a leading axis of points.
      batch: pytree of arrays, passed to `loss_fn`.
      memory: as for `plane`.

    Returns:
      The losses f[points].

    Raises:
      ValueError: the leading axes of the leaves differ, a leaf is not floating point, or the loss
        is not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> path_losses(lambda w, _: jnp.sum(w**2), jnp.ones((3, 2))).tolist()
      [2.0, 2.0, 2.0]
    """
    points = path_length(path)
    first = jax.tree.map(lambda leaf: leaf[0], path)
    validation.check_scalar_output("loss_fn", loss_fn, first, batch)
    chunk = chunk_size(loss_fn, first, batch, points, memory)
    return _path_losses(path, batch, loss_fn=loss_fn, chunk=chunk)


def path_length(path: Any, least: int = 1) -> int:
    """Returns the number of points of a path, the leading axis of each leaf.

    Raises:
      ValueError: the lengths differ or are below `least`, or a leaf is not floating point.
    """
    arguments.check_params("path", path)
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(path)}
    if len(lengths) != 1:
        raise ValueError(
            "path must have leaves with one leading axis of points, "
            f"got lengths {', '.join(map(str, sorted(lengths)))}"
        )
    (length,) = lengths
    return validation.integer_in("the number of points of path", length, least)


def not_finite(values: jax.Array) -> jax.Array:
    """Returns the number of non-finite values, i32[]."""
    return jnp.sum(~jnp.isfinite(values), dtype=jnp.int32)


@compiled("loss_fn", "chunk")
def _path_losses(path: Any, batch: Any, *, loss_fn: LossFn, chunk: int) -> jax.Array:
    return map_in_chunks(lambda params: loss_fn(params, batch), path, chunk)


def _check(
    loss_fn: LossFn,
    params: Any,
    directions: Sequence[Any],
    batch: Any,
    names: Sequence[str] | None = None,
) -> None:
    arguments.check_params("params", params)
    names = names or [f"directions[{i}]" for i in range(len(directions))]
    arguments.check_independent(names, directions, params)
    validation.check_scalar_output("loss_fn", loss_fn, params, batch)
