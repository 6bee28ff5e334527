"""Slices equal direct evaluation, in chunks of any size and in one program."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.landscape import points

X, Y = np.array([-1.0, 0.5, 2.0]), np.array([0.25, 3.0])


def quadratic(params, data):
    matrix, slope = data
    w = jnp.concatenate([params["a"].ravel(), params["b"]])
    return 0.5 * w @ matrix @ w + slope @ w


def quadratic_case(dtype):
    """Returns parameters, two directions and data, and the underlying vectors."""
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(9, 9))
    data = matrix + matrix.T, draw.normal(size=9)
    vectors = draw.normal(size=(3, 9))

    def tree(w):
        return {"a": jnp.asarray(w[:6].reshape(2, 3), dtype), "b": jnp.asarray(w[6:], dtype)}

    return [tree(w) for w in vectors], jax.tree.map(lambda x: jnp.asarray(x, dtype), data), vectors


def expected(vectors, data, a, b=0.0):
    matrix, slope = (np.asarray(x, np.float64) for x in data)
    w = vectors[0] + a * vectors[1] + b * vectors[2]
    return 0.5 * w @ matrix @ w + slope @ w


def test_a_quadratic_is_exact_in_float64(x64):
    (params, *directions), data, vectors = quadratic_case(jnp.float64)
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    wanted = [[expected(vectors, data, a, b) for a in X] for b in Y]
    assert found.values.dtype == jnp.float64
    np.testing.assert_allclose(found.values, wanted, rtol=1e-12)
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    line = jd.landscape.line(quadratic, params, directions[0], data, x=X)
    np.testing.assert_allclose(line.values, [expected(vectors, data, a) for a in X], rtol=1e-12)


@pytest.fixture(scope="module")
def single():
    return quadratic_case(jnp.float32)


def test_a_quadratic_is_exact_to_rounding_in_float32(single):
    (params, *directions), data, vectors = single
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    wanted = np.array([[expected(vectors, data, a, b) for a in X] for b in Y])
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_losses_at_points_and_on_a_path_equal_the_plane(single):
    (params, *directions), data, _ = single
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    at = [(X[2], Y[0]), (X[0], Y[1])]
    scattered = jd.landscape.losses_at(quadratic, params, directions, at, data)
    np.testing.assert_array_equal(scattered, [found.values[0, 2], found.values[1, 0]])

    def move(w, u, v):
        return jnp.stack([w + X[2] * u + Y[0] * v, w + X[0] * u + Y[1] * v])

    path = jax.tree.map(move, params, *directions)
    along = jd.landscape.path_losses(quadratic, path, data)
    np.testing.assert_allclose(along, scattered, rtol=1e-5)


@pytest.mark.parametrize("points_at_once", [1, 2, 4, 6, 100])
def test_chunks_of_any_size_give_the_same_losses(single, points_at_once):
    (params, *directions), data, _ = single
    alone = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    memory = points_at_once * points.peak_bytes(quadratic, params, data)
    chunk = points.chunk_size(quadratic, params, data, 6, memory)
    assert chunk == {1: 1, 2: 2, 4: 3, 6: 6, 100: 6}[points_at_once]
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y, memory=memory)
    np.testing.assert_allclose(found.values, alone.values, rtol=1e-5)
    path = jax.tree.map(lambda w, u: jnp.stack([w, u, w, w + u, u]), params, directions[0])
    one_by_one, together = (
        jd.landscape.path_losses(quadratic, path, data, memory=each) for each in (1, memory)
    )
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)


def test_another_center_data_and_range_use_the_same_program(single):
    (params, *directions), data, _ = single
    traces = []

    def loss(params, batch):
        traces.append(params)
        return quadratic(params, batch)

    jd.landscape.plane(loss, params, directions, data, x=X, y=Y)
    traces.clear()
    moved = jax.tree.map(lambda leaf: leaf + 1, (params, directions, data))
    found = jd.landscape.plane(loss, *moved, x=2 * X, y=Y + 1)
    assert not traces
    assert np.isfinite(found.values).all()


def test_non_finite_losses_are_kept_and_counted():
    def wall(w, _):
        return jnp.log(w[0]) + 0 * w[1] / w[1]

    axes = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    found = jd.landscape.plane(wall, jnp.zeros(2), axes, x=[-1.0, 0.0, 1.0], y=[0.0, 1.0])
    assert np.isnan(found.values[1, 0])
    assert found.values[1].tolist()[1:] == [-np.inf, 0.0]
    assert int(found.not_finite) == 5
    assert int(jd.landscape.line(wall, jnp.ones(2), axes[0], x=[-1.0, 0.0]).not_finite) == 1


def test_bfloat16_points_are_computed_in_float32_and_rounded_once():
    start, step = jnp.array([256.0, 1.0], jnp.bfloat16), jnp.array([0.75, 0.0])

    def loss(w, _):
        return jnp.sum(w.astype(jnp.float32))

    with jax.numpy_dtype_promotion("strict"):
        found = jd.landscape.line(loss, start, step, x=[1.0, 2.0, 3.0])
    # Above 256, bfloat16 has steps of 2: 256.75, 257.5 and 258.25 are rounded once.
    assert found.values.tolist() == [257.0, 259.0, 259.0]


def test_a_plane_can_be_traced_vmapped_and_differentiated(single):
    (params, *directions), data, _ = single

    def plane(params):
        return jd.landscape.plane(quadratic, params, directions, data, x=X).values

    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    together = jax.jit(jax.vmap(plane))(both)
    np.testing.assert_allclose(together[0], plane(params), rtol=1e-5)
    slope = jax.grad(lambda scale: jnp.sum(plane(jax.tree.map(lambda w: scale * w, params))))(1.0)
    assert np.isfinite(slope)


AXES = {"w": np.array([1.0, 0, 0])}, {"w": np.array([0, 1.0, 0])}
ORIGIN = {"w": np.zeros(3)}


def total(params, _):
    return jnp.sum(params["w"])


@pytest.mark.parametrize(
    ("loss", "params", "directions", "options", "words"),
    [
        (total, ORIGIN, (AXES[0], {"w": np.ones(1)}), {}, r"got \(1,\) for \(3,\)"),
        (total, ORIGIN, (AXES[0], {"v": np.ones(3)}), {}, r"directions\[1\] must be a tree like"),
        (
            total,
            ORIGIN,
            (AXES[0], {"w": np.arange(3)}),
            {},
            r"directions\[1\] must have real floating",
        ),
        (total, ORIGIN, (AXES[0], {"w": np.array([-2.0, 0, 0])}), {}, "linearly independent"),
        (total, ORIGIN, (AXES[0], {"w": np.array([1.0, 1e-6, 0])}), {}, "1e-06 radians"),
        (total, ORIGIN, (AXES[0], {"w": np.zeros(3)}), {}, r"directions\[1\] must have a norm in"),
        (total, ORIGIN, (AXES[0], {"w": np.full(3, np.nan)}), {}, "norm in .* got nan"),
        (total, ORIGIN, AXES[:1], {}, "directions must be a pair of trees like params, got 1"),
        (total, ORIGIN, AXES[0], {}, "directions must be a pair of trees like params, got dict"),
        (
            total,
            {"w": np.arange(3)},
            AXES,
            {},
            r"floating-point leaves, got int\d+ at params\['w'\]",
        ),
        (
            lambda p, _: p["w"],
            ORIGIN,
            AXES,
            {},
            r"loss_fn must return a real scalar, got .*\[3\]|3,",
        ),
        (total, ORIGIN, AXES, {"x": []}, "x must hold at least one number"),
        (total, ORIGIN, AXES, {"y": [0.0, np.nan]}, "y must be finite"),
        (total, ORIGIN, AXES, {"x": [[0.0]]}, r"x must have one axis, got shape \(1, 1\)"),
        (total, ORIGIN, AXES, {"memory": 0}, "memory must be an integer at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(loss, params, directions, options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.plane(loss, params, directions, **options)


def test_a_path_with_leaves_of_different_lengths_raises():
    with pytest.raises(ValueError, match="one leading axis of points, got lengths 2, 3"):
        jd.landscape.path_losses(total, {"w": np.ones((2, 3)), "v": np.ones((3, 3))})


def test_coordinates_for_another_number_of_directions_raise():
    with pytest.raises(ValueError, match=r"shape \(points, 2\), got \(4, 3\)"):
        jd.landscape.losses_at(total, ORIGIN, AXES, np.ones((4, 3)))


def test_the_memory_estimate_is_close_to_the_compiler_allocation():
    """In this network, two layers are alive at a time."""
    widths = (64, 256, 256, 10)
    shapes = [jax.ShapeDtypeStruct((m, n), jnp.float32) for m, n in pairwise(widths)]

    def loss(params, x):
        for kernel in params:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(x)

    x = jax.ShapeDtypeStruct((500, 64), jnp.float32)
    estimate = points.peak_bytes(loss, shapes, x)
    parameters = 4 * (64 * 256 + 256 * 256 + 256 * 10)
    assert estimate == parameters + 4 * 500 * (256 + 256)
    many = [jax.ShapeDtypeStruct((8, *shape.shape), jnp.float32) for shape in shapes]
    compiled = jax.jit(jax.vmap(loss, in_axes=(0, None))).lower(many, x).compile()
    allocated = compiled.memory_analysis().temp_size_in_bytes / 8
    assert 0.4 < allocated / (estimate - parameters) < 1.2
