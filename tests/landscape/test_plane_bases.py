"""Planes of paths, through three points and of Hessian eigenvectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd


def path(points=7, seed=0):
    """Returns a path of trees and its points as rows f64[points, 10]."""
    rows = np.random.default_rng(seed).normal(size=(points, 10)).cumsum(0)
    return tree(rows, jnp.float32), rows


def tree(rows, dtype=None):
    first, second = rows[..., :6].reshape(*rows.shape[:-1], 2, 3), rows[..., 6:]
    return {"a": jnp.asarray(first, dtype), "b": jnp.asarray(second, dtype)}


def vector(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("origin", ["last", "mean"])
def test_the_principal_plane_equals_the_singular_value_decomposition(origin):
    params, rows = path()
    found = jd.landscape.principal_plane(params, origin=origin)
    centered = rows - rows.mean(0)
    _, sizes, right = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(found.explained, sizes**2 / np.sum(sizes**2), atol=1e-6)
    directions = np.stack([vector(each) for each in found.directions])
    np.testing.assert_allclose(np.abs(np.sum(directions * right[:2], 1)), 1, atol=1e-5)
    center = rows[-1] if origin == "last" else rows.mean(0)
    np.testing.assert_allclose(vector(found.origin), center, atol=1e-5)
    np.testing.assert_allclose(found.coordinates, (rows - center) @ directions.T, atol=1e-4)
    off = (rows - center) - (rows - center) @ directions.T @ directions
    np.testing.assert_allclose(found.distances, np.linalg.norm(off, axis=1), atol=1e-4)


def test_the_first_point_has_no_negative_coordinate():
    for seed in range(6):
        found = jd.landscape.principal_plane(path(seed=seed)[0])
        assert np.all(found.coordinates[0] >= 0)
        np.testing.assert_array_equal(found.coordinates[-1], np.zeros(2))


def test_a_path_in_a_plane_is_fully_explained():
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(5, 2)) @ draw.normal(size=(2, 10)) + 3
    found = jd.landscape.principal_plane(tree(rows, jnp.float32))
    assert float(found.explained[:2].sum()) == pytest.approx(1, abs=1e-6)
    assert float(found.distances.max()) < 1e-5


def test_the_explained_variance_of_a_random_walk_matches_theory():
    """Theory: 6 / pi^2 and a quarter of it."""
    steps = np.random.default_rng(0).normal(size=(100, 20_000))
    found = jd.landscape.principal_plane(jnp.asarray(steps.cumsum(0), jnp.float32))
    np.testing.assert_allclose(found.explained[:2], [0.608, 0.152], atol=0.02)


def test_small_movements_around_a_distant_point_keep_their_directions():
    """Inner products are of differences from the mean, which avoids cancellation."""
    draw = np.random.default_rng(2)
    rows = jnp.asarray(1e4 + draw.normal(size=(6, 10)), jnp.float32)
    found = jd.landscape.principal_plane(rows)
    exact = np.asarray(rows, np.float64)
    _, sizes, right = np.linalg.svd(exact - exact.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.explained, sizes**2 / np.sum(sizes**2), atol=1e-6)
    np.testing.assert_allclose(np.abs(np.asarray(found.directions[0]) @ right[0]), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (np.ones((1, 4)), {}, "points of path must be an integer at least 3, got 1"),
        (np.arange(8.0).reshape(2, 4), {}, "at least 3, got 2"),
        (np.arange(5.0)[:, None] * np.ones(4), {}, "path must leave a straight line"),
        (np.ones((4, 4)), {}, "path must leave a straight line"),
        (np.full((4, 4), np.nan), {}, "path must be finite"),
        (np.ones((4, 4), int), {}, "path must have real floating-point leaves"),
        (np.eye(4), {"origin": "first"}, "origin must be 'last' or 'mean', got 'first'"),
    ],
)
def test_a_path_that_spans_no_plane_raises(given, options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.principal_plane(given, **options)


def test_the_plane_through_three_points_preserves_distances_and_losses():
    rows = np.random.default_rng(3).normal(size=(3, 10))
    points = [tree(row, jnp.float32) for row in rows]
    found = jd.landscape.plane_through(*points)
    between = np.linalg.norm(rows[:, None] - rows, axis=-1)
    at = np.asarray(found.coordinates)
    np.testing.assert_allclose(np.linalg.norm(at[:, None] - at, axis=-1), between, atol=1e-5)
    assert at[0].tolist() == [0, 0]
    assert at[1, 1] == pytest.approx(0, abs=1e-6)
    losses = jd.landscape.losses_at(
        lambda w, _: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w)),
        found.origin,
        found.directions,
        at,
    )
    np.testing.assert_allclose(losses, np.sum(rows**2, axis=1), rtol=1e-5)


def test_three_points_on_a_line_raise():
    row = np.arange(10.0)
    with pytest.raises(ValueError, match="third - first must be linearly independent"):
        jd.landscape.plane_through(row, row + 1, row + 3)
    with pytest.raises(ValueError, match="second - first must have a norm"):
        jd.landscape.plane_through(row, row, row + 3)
    with pytest.raises(ValueError, match=r"second must have the shapes of first, got \(1,\)"):
        jd.landscape.plane_through(row, np.ones(1), row + 3)


def test_the_hessian_plane_has_the_eigenvalues_as_curvatures():
    draw = np.random.default_rng(4)
    scales = np.array([7.0, -2.0, 1.0, 0.5, 3.0, 0.0])
    turned = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    matrix = jnp.asarray(turned * scales @ turned.T, jnp.float32)

    def loss(w, matrix):
        return 0.5 * w @ matrix @ w

    found = jd.landscape.hessian_plane(loss, jnp.zeros(6), matrix)
    assert found.sharpness.converged.all()
    x = np.linspace(-1, 1, 3)
    plane = jd.landscape.plane(loss, found.origin, found.directions, matrix, x=x)
    np.testing.assert_allclose(plane.values, 0.5 * (7 * x**2 + 3 * x[:, None] ** 2), atol=1e-4)


def test_points_with_any_leading_axes_are_projected_onto_oblique_directions():
    draw = np.random.default_rng(5)
    rows, origin = draw.normal(size=(2, 3, 10)), draw.normal(size=10)
    directions = draw.normal(size=(2, 10))
    trees = [tree(each, jnp.float32) for each in (rows, origin, *directions)]
    with jax.numpy_dtype_promotion("strict"):
        found = jd.landscape.project(*trees[:2], trees[2:])
    wanted, *_ = np.linalg.lstsq(directions.T, (rows - origin).reshape(-1, 10).T)
    np.testing.assert_allclose(found.coordinates, wanted.T.reshape(2, 3, 2), atol=1e-5)
    off = (rows - origin) - np.asarray(found.coordinates) @ directions
    np.testing.assert_allclose(found.distances, np.linalg.norm(off, axis=-1), rtol=1e-5)


@pytest.mark.parametrize(("length", "distance"), [(1e20, 1e20), (1e-25, 1.0), (1.0, 1e-25)])
def test_projections_neither_overflow_nor_underflow(length, distance):
    axes = [length * jnp.array(each) for each in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])]
    points = distance * jnp.array([[3.0, 4.0, 5.0]])
    found = jd.landscape.project(points, jnp.zeros(3), axes)
    wanted = distance / length * np.array([[-1.0, 4.0]])
    np.testing.assert_allclose(found.coordinates, wanted, rtol=1e-5)
    np.testing.assert_allclose(found.distances, [5 * distance], rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 3), (5, 4)])
def test_points_that_would_broadcast_raise(shape):
    points = {"a": np.ones((4, 2, 3)), "b": np.ones(shape)}
    origin = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    directions = [{"a": np.ones((2, 3)), "b": np.ones(4)}]
    with pytest.raises(ValueError, match="points must have the shapes of origin after the same"):
        jd.landscape.project(points, origin, directions)


def test_the_first_point_has_no_negative_coordinate_around_the_mean():
    path = jnp.array([[-1.0, 0.0, 0.0], [3.0, 1.0, 0.0], [-2.0, 0.0, 0.0]])
    found = jd.landscape.principal_plane(path, origin="mean")
    assert np.all(found.coordinates[0] >= 0)


def test_a_hessian_plane_rejects_a_preconditioner():
    def bowl(w, _):
        return jnp.sum(w**2)

    with pytest.raises(ValueError, match="preconditioner must be None"):
        jd.landscape.hessian_plane(bowl, jnp.ones(3), preconditioner=jnp.ones(3))
