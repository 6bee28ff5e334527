"""Planes for slices: the principal plane of a path, a plane through three points, a Hessian plane.

The principal plane of a path is spanned by the two leading eigenvectors of the covariance of its
points, computed from the t x t matrix of inner products of t points. The explained variance alone
is misleading: a random walk in many dimensions has 6 / pi^2 = 61% of its variance in the first
direction and 15% in the second. `distances` therefore reports the distance of the path from the
plane, and `path_losses` the loss on the path.

Sources: H. Li et al. 2018, arXiv:1712.09913 (principal planes); J. Antognini, J. Sohl-Dickstein
2018, arXiv:1806.08805 (random walks); T. Garipov et al. 2018, arXiv:1802.10026 (three points).
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape import arguments
from jaxdescent.landscape.planes import path_length
from jaxdescent.landscape.points import LossFn
from jaxdescent.numerics import at_least_float32, norm
from jaxdescent.stability.sharpness import Sharpness, sharpness

# Relative variance in the second direction that float32 rounding gives a straight path.
_STRAIGHT = 1e-10


class Projection(NamedTuple):
    """Orthogonal projections of points onto a line or a plane.

    Attributes:
      coordinates: f[..., k], coordinates of the projections, in units of the directions.
      distances: f[...], distances of the points from their projections.
    """

    coordinates: jax.Array
    distances: jax.Array


class PrincipalPlane(NamedTuple):
    """The plane of largest variance of a path.

    Attributes:
      origin: pytree, the path's last point, or its mean.
      directions: two orthonormal pytrees, with signs that make the first point's coordinates >= 0.
      coordinates: f[points, 2], coordinates of the path.
      distances: f[points], distances of the path from the plane.
      explained: f[points], fraction of the variance in every principal direction, the largest
        first; the plane has the first two.
    """

    origin: Any
    directions: tuple[Any, Any]
    coordinates: jax.Array
    distances: jax.Array
    explained: jax.Array


class PlaneThrough(NamedTuple):
    """The plane through three points.

    Attributes:
      origin: the first point.
      directions: two orthonormal pytrees, the first toward the second point.
      coordinates: f[3, 2], coordinates of the three points.
    """

    origin: Any
    directions: tuple[Any, Any]
    coordinates: jax.Array


class HessianPlane(NamedTuple):
    """The plane of the eigenvectors of the two largest Hessian eigenvalues.

    Attributes:
      origin: the parameters.
      directions: two orthonormal pytrees, the eigenvectors.
      sharpness: the eigenvalues and their residuals.
    """

    origin: Any
    directions: tuple[Any, Any]
    sharpness: Sharpness


def principal_plane(path: Any, *, origin: Literal["last", "mean"] = "last") -> PrincipalPlane:
    """Computes the plane in which a path varies most.

    Args:
      path: pytree like the parameters with a leading axis of points, 3 or more. Not traced.
      origin: the point at (0, 0): "last" for the last point of the path, which then lies in the
        plane, or "mean" for the plane nearest to all points.

    Returns:
      A `PrincipalPlane`, in float32 or wider.

    Raises:
      ValueError: there are fewer than three points, they lie on a straight line, or a point is
        not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> path = jnp.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
      >>> found = principal_plane(path)
      >>> jnp.linalg.norm(found.coordinates, axis=1).round(4).tolist()
      [3.0, 1.0, 0.0]
    """
    if origin not in ("last", "mean"):
        raise ValueError(f"origin must be 'last' or 'mean', got {origin!r}")
    length = path_length(path, least=3)
    leaves, structure = jax.tree.flatten(path)
    gram = np.zeros((length, length))
    unit = max(float(np.max(np.abs(_centered(leaf)), initial=0.0)) for leaf in leaves) or 1.0
    for leaf in leaves:
        rows = _centered(leaf) / unit
        gram += rows @ rows.T
    if not np.isfinite(gram).all():
        raise ValueError("path must be finite, got non-finite points")
    ascending, vectors = np.linalg.eigh(gram)
    variances, vectors = np.maximum(ascending[::-1], 0.0), vectors[:, ::-1]
    if not variances[1] > _STRAIGHT * variances[0]:
        raise ValueError(
            "path must leave a straight line to span a plane, got a variance of "
            f"{variances[1]:.1g} across it and {variances[0]:.1g} along it"
        )
    start = vectors[0, :2] - (vectors[-1, :2] if origin == "last" else 0.0)
    signs = np.where(start < 0, -1.0, 1.0)
    mixes = signs * vectors[:, :2] / np.sqrt(variances[:2]) / unit
    parts = [(mixes.T @ _centered(leaf), leaf) for leaf in leaves]
    directions = tuple(
        structure.unflatten(_shaped(rows[i], leaf) for rows, leaf in parts) for i in range(2)
    )
    at = structure.unflatten(leaf[-1] if origin == "last" else _mean(leaf) for leaf in leaves)
    projection = project(path, at, directions)
    return PrincipalPlane(
        at,
        directions,
        *projection,
        jnp.asarray(variances / variances.sum(), projection.distances.dtype),
    )


def plane_through(first: Any, second: Any, third: Any) -> PlaneThrough:
    """Computes the plane through three points, such as the results of three runs.

    Args:
      first: pytree of real arrays, the point at (0, 0).
      second: pytree like `first`, the end of the first axis.
      third: pytree like `first`.

    Returns:
      A `PlaneThrough`, in float32 or wider, with orthonormal directions.

    Raises:
      ValueError: the points differ in structure, are not floating point, or lie on a line.

    Example:
      >>> import jax.numpy as jnp
      >>> corners = jnp.zeros(3), jnp.array([2.0, 0.0, 0.0]), jnp.array([1.0, 5.0, 0.0])
      >>> plane_through(*corners).coordinates.tolist()
      [[0.0, 0.0], [2.0, 0.0], [1.0, 5.0]]
    """
    arguments.check_params("first", first)
    edges = []
    for name, point in {"second": second, "third": third}.items():
        validation.shaped_like(name, point, first, "first")
        edges.append(jax.tree.map(_difference, point, first))
    names = ["second - first", "third - first"]
    arguments.check_independent(names, edges, first)
    gram = arguments.gram_matrix(edges)
    length, along = np.sqrt(gram[0, 0]), gram[0, 1] / gram[0, 0]
    across = jax.tree.map(lambda u, v: v - along * u, *edges)
    height = np.sqrt(arguments.gram_matrix([across])[0, 0])
    directions = (_divided(edges[0], length), _divided(across, height))
    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second, third)
    return PlaneThrough(first, directions, project(points, first, directions).coordinates)


def hessian_plane(
    loss_fn: LossFn, params: Any, batch: Any = None, /, **options: Any
) -> HessianPlane:
    """Computes the plane of the eigenvectors of the two largest Hessian eigenvalues.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn`.
      **options: options of `jd.sharpness`, except `k` and `preconditioner`. The eigenvectors
        of a preconditioned Hessian are not directions of the parameters.

    Returns:
      A `HessianPlane`. Near the origin, the loss on it is the loss at the origin plus a linear
      term plus (values[0] x^2 + values[1] y^2) / 2.

    Raises:
      ValueError: as for `jd.sharpness`, or a preconditioner is given.
      ImportError: matfree is not installed.
    """
    if options.get("preconditioner") is not None:
        raise ValueError(
            "preconditioner must be None: its eigenvectors are not directions of the parameters"
        )
    top = sharpness(loss_fn, params, batch, 2, **options)
    directions = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], top.vectors) for i in range(2))
    return HessianPlane(params, directions, top)


def project(points: Any, origin: Any, directions: Sequence[Any]) -> Projection:
    """Projects points onto a line or a plane.

    Args:
      points: pytree like the origin with any leading axes: one point, a path
        `[points, ...]`, or the paths of agents `[agents, points, ...]`.
      origin: pytree, the point with coordinates 0.
      directions: k pytrees like the origin, linearly independent, orthogonal or not.

    Returns:
      A `Projection`: coordinates f[..., k] and distances f[...].

    Raises:
      ValueError: the points do not match the origin, or the directions are linearly dependent.

    Example:
      >>> import jax.numpy as jnp
      >>> axes = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 2.0, 0.0])
      >>> found = project(jnp.array([3.0, 4.0, 5.0]), jnp.zeros(3), axes)
      >>> found.coordinates.tolist(), found.distances.tolist()
      ([3.0, 2.0], 5.0)
    """
    arguments.check_params("origin", origin)
    names = [f"directions[{i}]" for i in range(len(directions))]
    arguments.check_independent(names, directions, origin)
    leading = _leading_axes(points, origin)
    gram = arguments.gram_matrix(directions)
    lengths = np.sqrt(np.diag(gram))
    inverse = np.linalg.inv(gram / lengths / lengths[:, None])
    offsets = jax.tree.map(_difference, points, origin)
    units = [_divided(each, length) for each, length in zip(directions, lengths, strict=True)]
    with jax.default_matmul_precision("highest"):
        products = jnp.stack([_inner(offsets, unit) for unit in units], -1)
        coordinates = products @ jnp.asarray(inverse, products.dtype)

    def off_plane(offset: jax.Array, *alongs: jax.Array) -> jax.Array:
        for i, along in enumerate(alongs):
            each = coordinates[..., i].astype(offset.dtype)
            offset = offset - jnp.tensordot(each, along.astype(offset.dtype), 0)
        return norm(offset, tuple(range(leading, offset.ndim)))

    distances = jax.tree.leaves(jax.tree.map(off_plane, offsets, *units))
    distances = norm(jnp.stack([x.astype(products.dtype) for x in distances]), 0)
    return Projection(coordinates / jnp.asarray(lengths, products.dtype), distances)


def _inner(offsets: Any, direction: Any) -> jax.Array:
    """Returns the inner products f[...] of points with a direction."""

    def product(x: jax.Array, d: jax.Array) -> jax.Array:
        return jnp.tensordot(x, d.astype(x.dtype), jnp.ndim(d))

    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(product, offsets, direction)))


def _leading_axes(points: Any, origin: Any) -> int:
    """Returns the number of leading axes that points have and the origin does not."""
    leaves, structure = jax.tree.flatten(origin)
    found = structure.flatten_up_to(points)
    shapes = [
        (jnp.shape(point), jnp.shape(leaf)) for point, leaf in zip(found, leaves, strict=True)
    ]
    leading = {point[: len(point) - len(leaf)] for point, leaf in shapes}
    matches = all(point[len(point) - len(leaf) :] == leaf for point, leaf in shapes)
    if len(leading) != 1 or not matches:
        raise ValueError(
            "points must have the shapes of origin after the same leading axes, got "
            + ", ".join(f"{point} for {leaf}" for point, leaf in shapes)
        )
    return len(leading.pop())


def _difference(point: jax.Array, origin: jax.Array) -> jax.Array:
    """Returns the difference in float32 or wider."""
    dtype = at_least_float32(jnp.result_type(origin))
    return jnp.asarray(point).astype(dtype) - jnp.asarray(origin).astype(dtype)


def _divided(tree: Any, length: float) -> Any:
    """Returns the tree divided by a number, in float32 or wider."""

    def divide(leaf: jax.Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return leaf.astype(at_least_float32(leaf.dtype)) / at_least_float32(leaf.dtype).type(length)

    return jax.tree.map(divide, tree)


def _centered(leaf: Any) -> np.ndarray:
    """Returns the points as rows f64[points, n], with their mean subtracted."""
    rows = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
    return rows - rows.mean(0)


def _mean(leaf: Any) -> jax.Array:
    return _shaped(np.asarray(leaf, np.float64).mean(0), leaf)


def _shaped(row: np.ndarray, leaf: Any) -> jax.Array:
    """Reshapes a row to a point of the path."""
    return jnp.asarray(row.reshape(jnp.shape(leaf)[1:]), at_least_float32(jnp.result_type(leaf)))
