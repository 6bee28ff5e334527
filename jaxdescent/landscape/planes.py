"""Slices: a loss on a line or a plane through the parameters.

    line    f(a)    = L(w + a u)
    plane   f(a, b) = L(w + a u + b v)

Each is one compiled program, whatever the point, the directions, the coordinates and the data
are. `path_losses` has the loss at the points of a path themselves, with which a picture of the
path on a plane must be compared: the plane shows the loss at their projections, `losses_at`.

Source: I. Goodfellow, O. Vinyals, A. Saxe 2015, arXiv:1412.6544; planes H. Li et al. 2018,
arXiv:1712.09913.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import inputs
from jaxdescent.landscape.points import LossFn, chunk_size, in_chunks, losses_of_sums


class Line(NamedTuple):
    """A loss along a line.

    Attributes:
      x: f[n], coordinates in units of the direction.
      values: f[n], the losses, not finite where the loss is not.
      not_finite: i32[], how many of them are not.
    """

    x: jax.Array
    values: jax.Array
    not_finite: jax.Array


class Plane(NamedTuple):
    """A loss on a grid of a plane.

    Attributes:
      x, y: f[nx], f[ny], coordinates in units of the first and the second direction.
      values: f[ny, nx], the losses, not finite where the loss is not; `values[j, i]` is at
        `(x[i], y[j])`.
      not_finite: i32[], how many of them are not.
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
    """The loss along a direction.

    Args:
      loss_fn: from (params, batch) to a scalar. A program is compiled for each: pass the same
        function, not a new lambda each time, and data as `batch`.
      params: pytree of real arrays, the point at 0.
      direction: pytree like the parameters.
      batch: pytree of arrays, handed on.
      x: f[n], coordinates; by default 51 from -1 to 1.
      memory: bytes that points may take together, side by side. By default points are taken
        one by one on a CPU, and elsewhere together up to 1 GiB.

    Returns:
      A `Line`.

    Raises:
      ValueError: the direction is zero, or not like the parameters; a leaf is not of floating
        point; the loss is no scalar; there are no coordinates, or one that is not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w, _: jnp.sum(w**2)
      >>> found = line(loss, jnp.zeros(3), jnp.ones(3), x=[0.0, 1.0, 2.0])
      >>> found.values.tolist()
      [0.0, 3.0, 12.0]
    """
    xs = inputs.coordinates("x", x)
    _check(loss_fn, params, [direction], batch, ["direction"])
    weights = np.stack([np.ones_like(xs), xs], axis=1)
    values = losses_of_sums(loss_fn, [params, direction], weights, batch, memory)
    return Line(jnp.asarray(xs, values.dtype), values, not_finite(values))


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
    """The loss on a grid of the plane that two directions span.

    Args:
      loss_fn: from (params, batch) to a scalar. A program is compiled for each: pass the same
        function, not a new lambda each time, and data as `batch`.
      params: pytree of real arrays, the point at (0, 0).
      directions: two pytrees like the parameters, linearly independent.
      batch: pytree of arrays, handed on.
      x: f[nx], coordinates along the first direction; by default 51 from -1 to 1.
      y: f[ny], coordinates along the second; by default those of `x`.
      memory: bytes that points may take together, side by side. By default points are taken
        one by one on a CPU, and elsewhere together up to 1 GiB.

    Returns:
      A `Plane`.

    Raises:
      ValueError: there are not two directions, or they are linearly dependent or not like the
        parameters; a leaf is not of floating point; the loss is no scalar; there are no
        coordinates, or one that is not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w, scales: jnp.sum(scales * w**2)
      >>> axes = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> found = plane(loss, jnp.zeros(2), axes, jnp.array([1.0, 10.0]), x=[0, 1, 2], y=[0, 1])
      >>> found.values.tolist()
      [[0.0, 1.0, 4.0], [10.0, 11.0, 14.0]]
    """
    xs = inputs.coordinates("x", x)
    ys = xs if y is None else inputs.coordinates("y", y)
    if not isinstance(directions, Sequence) or len(directions) != 2:
        given = len(directions) if isinstance(directions, Sequence) else type(directions).__name__
        raise ValueError(f"directions must be a pair of trees like params, got {given}")
    _check(loss_fn, params, directions, batch)
    grid_x, grid_y = np.meshgrid(xs, ys)
    weights = np.stack([np.ones(grid_x.size), grid_x.ravel(), grid_y.ravel()], axis=1)
    values = losses_of_sums(loss_fn, [params, *directions], weights, batch, memory)
    return Plane(
        jnp.asarray(xs, values.dtype),
        jnp.asarray(ys, values.dtype),
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
    """The loss at any points of a line or a plane, such as the projections of a path.

    Args:
      loss_fn: from (params, batch) to a scalar.
      params: pytree of real arrays, the point at the coordinates 0.
      directions: k pytrees like the parameters, linearly independent.
      coordinates: f[n, k], in units of the directions.
      batch: pytree of arrays, handed on.
      memory: as for `plane`.

    Returns:
      The losses f[n].

    Raises:
      ValueError: as for `plane`.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w, _: jnp.sum(w**2)
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
    """The loss at each point of a path.

    Args:
      loss_fn: from (params, batch) to a scalar.
      path: pytree like the parameters with a leading axis of points.
      batch: pytree of arrays, handed on.
      memory: as for `plane`.

    Returns:
      The losses f[points].

    Raises:
      ValueError: the leaves' leading axes differ, one is not of floating point, or the loss is
        no scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> path_losses(lambda w, _: jnp.sum(w**2), jnp.ones((3, 2))).tolist()
      [2.0, 2.0, 2.0]
    """
    points = path_length(path)
    first = jax.tree.map(lambda leaf: leaf[0], path)
    inputs.scalar_loss("loss_fn", loss_fn, first, batch)
    chunk = chunk_size(loss_fn, first, batch, points, memory)
    return _path_losses(loss_fn, chunk, path, batch)


def path_length(path: Any, least: int = 1) -> int:
    """How many points a path has, the leading axis of each leaf.

    Raises:
      ValueError: they differ, there are fewer than `least`, or a leaf is not of floating point.
    """
    inputs.parameters("path", path)
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(path)}
    if len(lengths) != 1:
        raise ValueError(
            "path must have leaves with one leading axis of points, "
            f"got lengths {', '.join(map(str, sorted(lengths)))}"
        )
    (length,) = lengths
    return validation.integer_in("the number of points of path", length, least)


def not_finite(values: jax.Array) -> jax.Array:
    """How many values are not finite, i32[]."""
    return jnp.sum(~jnp.isfinite(values), dtype=jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _path_losses(loss_fn: LossFn, chunk: int, path: Any, batch: Any) -> jax.Array:
    return in_chunks(lambda params: loss_fn(params, batch), path, chunk)


def _check(
    loss_fn: LossFn,
    params: Any,
    directions: Sequence[Any],
    batch: Any,
    names: Sequence[str] | None = None,
) -> None:
    inputs.parameters("params", params)
    names = names or [f"directions[{i}]" for i in range(len(directions))]
    inputs.independent(names, directions, params)
    inputs.scalar_loss("loss_fn", loss_fn, params, batch)
