"""Planes through what a run has found: a path's principal plane, three points, curvature.

The principal plane of a path is spanned by the two leading eigenvectors of the covariance of its
points, found from the t x t matrix of inner products of t points. What it explains of the
variance flatters: the path of a random walk in many dimensions has 6 / pi^2 = 61 % of its
variance in the first direction and 15 % in the second. So `distances` say how far the path is
from the plane, and `path_losses` what the loss is there.

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
from jaxdescent.landscape import inputs
from jaxdescent.landscape.planes import path_length
from jaxdescent.landscape.points import LossFn
from jaxdescent.stability.sharpness import Sharpness, sharpness

# Of the variance in the first direction: what float32 leaves of a straight path in the second.
_STRAIGHT = 1e-10


class Projection(NamedTuple):
    """Points as a plane sees them.

    Attributes:
      coordinates: f[..., k], of the nearest points of the plane, in units of its directions.
      distances: f[...], from them.
    """

    coordinates: jax.Array
    distances: jax.Array


class PrincipalPlane(NamedTuple):
    """The plane of the most variance of a path.

    Attributes:
      origin: pytree, the path's last point, or its mean.
      directions: two orthonormal pytrees; the path's first point has no negative coordinate.
      coordinates: f[points, 2], of the path.
      distances: f[points], of the path from the plane.
      explained: f[points], the share of the variance in each principal direction, not only the
        two of the plane, greatest first.
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
      coordinates: f[3, 2], of the points.
    """

    origin: Any
    directions: tuple[Any, Any]
    coordinates: jax.Array


class HessianPlane(NamedTuple):
    """The plane of the two greatest eigenvalues.

    Attributes:
      origin: the parameters.
      directions: two orthonormal pytrees, the eigenvectors.
      sharpness: with the eigenvalues and their residuals.
    """

    origin: Any
    directions: tuple[Any, Any]
    sharpness: Sharpness


def principal_plane(path: Any, *, origin: Literal["last", "mean"] = "last") -> PrincipalPlane:
    """The plane in which a path varies most.

    Args:
      path: pytree like the parameters with a leading axis of points, 3 or more. Not traced.
      origin: the point at (0, 0): the path's "last", so that the plane holds what it came to,
        or the "mean", for the plane that is nearest to all points.

    Returns:
      A `PrincipalPlane`, float32 at least.

    Raises:
      ValueError: there are fewer than three points, they lie on a straight line, or one is not
        finite.

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
    for leaf in leaves:
        rows = _centered(leaf)
        gram += rows @ rows.T
    if not np.isfinite(gram).all():
        raise ValueError("path must be finite, got points that are not")
    ascending, vectors = np.linalg.eigh(gram)
    variances, vectors = np.maximum(ascending[::-1], 0.0), vectors[:, ::-1]
    if not variances[1] > _STRAIGHT * variances[0]:
        raise ValueError(
            "path must leave a straight line to span a plane, got a variance of "
            f"{variances[1]:.1g} across it and {variances[0]:.1g} along it"
        )
    start = vectors[0, :2] - (vectors[-1, :2] if origin == "last" else 0.0)
    signs = np.where(start < 0, -1.0, 1.0)
    mixes = signs * vectors[:, :2] / np.sqrt(variances[:2])
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
    """The plane through three points, such as what three runs came to.

    Args:
      first: pytree of real arrays, the point at (0, 0).
      second: pytree like it, the end of the first axis.
      third: pytree like it.

    Returns:
      A `PlaneThrough`, float32 at least, with Euclidean distances.

    Raises:
      ValueError: they are not alike, not of floating point, or lie on a straight line.

    Example:
      >>> import jax.numpy as jnp
      >>> corners = jnp.zeros(3), jnp.array([2.0, 0.0, 0.0]), jnp.array([1.0, 5.0, 0.0])
      >>> plane_through(*corners).coordinates.tolist()
      [[0.0, 0.0], [2.0, 0.0], [1.0, 5.0]]
    """
    inputs.parameters("first", first)
    edges = []
    for name, point in {"second": second, "third": third}.items():
        validation.shaped_like(name, point, first, "first")
        edges.append(jax.tree.map(_difference, point, first))
    names = ["the way from first to second", "the way from first to third"]
    inputs.independent(names, edges, first)
    gram = inputs.gram_matrix(edges)
    length, along = np.sqrt(gram[0, 0]), gram[0, 1] / gram[0, 0]
    across = jax.tree.map(lambda u, v: v - along * u, *edges)
    height = np.sqrt(inputs.gram_matrix([across])[0, 0])
    directions = (_divided(edges[0], length), _divided(across, height))
    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second, third)
    return PlaneThrough(first, directions, project(points, first, directions).coordinates)


def hessian_plane(
    loss_fn: LossFn, params: Any, batch: Any = None, /, **options: Any
) -> HessianPlane:
    """The plane of the eigenvectors of the Hessian's two greatest eigenvalues.

    Args:
      loss_fn: from (params, batch) to a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, handed on.
      **options: of `jd.sharpness`, but `k` and `preconditioner`, whose vectors are of another
        space.

    Returns:
      A `HessianPlane`. Near the origin the loss in it is that at the origin, a slope, and
      (values[0] x^2 + values[1] y^2) / 2.

    Raises:
      ValueError: as `jd.sharpness` does; or a preconditioner is given.
      ImportError: matfree is not installed.
    """
    if options.get("preconditioner") is not None:
        raise ValueError("preconditioner must be left out: its vectors are of another space")
    top = sharpness(loss_fn, params, batch, 2, **options)
    directions = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], top.vectors) for i in range(2))
    return HessianPlane(params, directions, top)


def project(points: Any, origin: Any, directions: Sequence[Any]) -> Projection:
    """Where points lie on a line or a plane, and how far off it.

    Args:
      points: pytree like the origin with any leading axes: one point, a path
        `[points, ...]`, or agents' paths `[agents, points, ...]`.
      origin: pytree, at the coordinates 0.
      directions: k pytrees like the origin, linearly independent, orthogonal or not.

    Returns:
      A `Projection`: coordinates f[..., k] and distances f[...].

    Raises:
      ValueError: the points are not like the origin, or the directions are linearly dependent.

    Example:
      >>> import jax.numpy as jnp
      >>> axes = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 2.0, 0.0])
      >>> found = project(jnp.array([3.0, 4.0, 5.0]), jnp.zeros(3), axes)
      >>> found.coordinates.tolist(), found.distances.tolist()
      ([3.0, 2.0], 5.0)
    """
    inputs.parameters("origin", origin)
    names = [f"directions[{i}]" for i in range(len(directions))]
    inputs.independent(names, directions, origin)
    leading = _leading_axes(points, origin)
    inverse = np.linalg.inv(inputs.gram_matrix(directions))
    offsets = jax.tree.map(_difference, points, origin)
    with jax.default_matmul_precision("highest"):
        products = jnp.stack([_inner(offsets, direction) for direction in directions], -1)
        coordinates = products @ jnp.asarray(inverse, products.dtype)

    def off_plane(offset: jax.Array, *alongs: jax.Array) -> jax.Array:
        for i, along in enumerate(alongs):
            each = coordinates[..., i].astype(offset.dtype)
            offset = offset - jnp.tensordot(each, along.astype(offset.dtype), 0)
        return jnp.sum(offset**2, axis=tuple(range(leading, offset.ndim)))

    squares = jax.tree.leaves(jax.tree.map(off_plane, offsets, *directions))
    return Projection(coordinates, jnp.sqrt(sum(squares)))


def _inner(offsets: Any, direction: Any) -> jax.Array:
    """The inner products f[...] of points with a direction."""
    of_leaf = lambda x, d: jnp.tensordot(x, d.astype(x.dtype), jnp.ndim(d))
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(of_leaf, offsets, direction)))


def _leading_axes(points: Any, origin: Any) -> int:
    """How many axes the points' leaves have before those of the origin's."""
    leaves, structure = jax.tree.flatten(origin)
    found = structure.flatten_up_to(points)
    shapes = [
        (jnp.shape(point), jnp.shape(leaf)) for point, leaf in zip(found, leaves, strict=True)
    ]
    leads = {there[: len(there) - len(here)] for there, here in shapes}
    alike = all(there[len(there) - len(here) :] == here for there, here in shapes)
    if len(leads) != 1 or not alike:
        raise ValueError(
            "points must have the shapes of origin after the same leading axes, got "
            + ", ".join(f"{there} for {here}" for there, here in shapes)
        )
    return len(leads.pop())


def _difference(point: jax.Array, origin: jax.Array) -> jax.Array:
    """The difference in float32 at least."""
    dtype = inputs.wide(jnp.result_type(origin))
    return jnp.asarray(point).astype(dtype) - jnp.asarray(origin).astype(dtype)


def _divided(tree: Any, length: float) -> Any:
    return jax.tree.map(lambda leaf: leaf / leaf.dtype.type(length), tree)


def _centered(leaf: Any) -> np.ndarray:
    """The points as rows f64[points, n] about their mean."""
    rows = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
    return rows - rows.mean(0)


def _mean(leaf: Any) -> jax.Array:
    return _shaped(np.asarray(leaf, np.float64).mean(0), leaf)


def _shaped(row: np.ndarray, leaf: Any) -> jax.Array:
    """Numbers in the shape of a point of the path."""
    return jnp.asarray(row.reshape(jnp.shape(leaf)[1:]), inputs.wide(jnp.result_type(leaf)))
