"""Slices are what the loss is there: to rounding, in any chunks, in one program."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.landscape import points

pytestmark = pytest.mark.usefixtures("quick_to_compile")

X, Y = np.array([-1.0, 0.5, 2.0]), np.array([0.25, 3.0])


def quadratic(params, data):
    matrix, slope = data
    w = jnp.concatenate([params["a"].ravel(), params["b"]])
    return 0.5 * w @ matrix @ w + slope @ w


def of_quadratic(dtype):
    """Parameters, two directions and data, with the vectors behind them."""
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(9, 9))
    data = matrix + matrix.T, draw.normal(size=9)
    vectors = draw.normal(size=(3, 9))
    tree = lambda w: {"a": jnp.asarray(w[:6].reshape(2, 3), dtype), "b": jnp.asarray(w[6:], dtype)}
    return [tree(w) for w in vectors], jax.tree.map(lambda x: jnp.asarray(x, dtype), data), vectors


def expected(vectors, data, a, b=0.0):
    matrix, slope = (np.asarray(x, np.float64) for x in data)
    w = vectors[0] + a * vectors[1] + b * vectors[2]
    return 0.5 * w @ matrix @ w + slope @ w


def test_a_quadratic_is_reproduced_exactly(x64):
    (params, *directions), data, vectors = of_quadratic(jnp.float64)
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
    return of_quadratic(jnp.float32)


def test_in_single_precision_it_is_reproduced_to_its_rounding(single):
    (params, *directions), data, vectors = single
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    wanted = np.array([[expected(vectors, data, a, b) for a in X] for b in Y])
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_any_points_of_the_plane_and_of_a_path_have_their_losses(single):
    (params, *directions), data, _ = single
    found = jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    at = [(X[2], Y[0]), (X[0], Y[1])]
    scattered = jd.landscape.losses_at(quadratic, params, directions, at, data)
    np.testing.assert_array_equal(scattered, [found.values[0, 2], found.values[1, 0]])
    move = lambda w, u, v: jnp.stack([w + X[2] * u + Y[0] * v, w + X[0] * u + Y[1] * v])
    path = jax.tree.map(move, params, *directions)
    along = jd.landscape.path_losses(quadratic, path, data)
    np.testing.assert_allclose(along, scattered, rtol=1e-5)


@pytest.mark.parametrize("points_at_once", [1, 2, 4, 6, 100])
def test_chunks_of_any_size_give_the_same(single, points_at_once):
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
    jd.landscape.plane(quadratic, params, directions, data, x=X, y=Y)
    before = points._losses_of_sums._cache_size()
    moved = jax.tree.map(lambda leaf: leaf + 1, (params, directions, data))
    found = jd.landscape.plane(quadratic, *moved, x=2 * X, y=Y + 1)
    assert points._losses_of_sums._cache_size() == before
    assert np.isfinite(found.values).all()


def test_values_that_are_not_finite_are_kept_and_counted():
    wall = lambda w, _: jnp.log(w[0]) + 0 * w[1] / w[1]
    axes = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    found = jd.landscape.plane(wall, jnp.zeros(2), axes, x=[-1.0, 0.0, 1.0], y=[0.0, 1.0])
    assert np.isnan(found.values[1, 0])
    assert found.values[1].tolist()[1:] == [-np.inf, 0.0]
    assert int(found.not_finite) == 5
    assert int(jd.landscape.line(wall, jnp.ones(2), axes[0], x=[-1.0, 0.0]).not_finite) == 1


def test_narrow_points_are_made_in_single_precision_and_rounded_once():
    start, step = jnp.array([256.0, 1.0], jnp.bfloat16), jnp.array([0.75, 0.0])
    loss = lambda w, _: jnp.sum(w.astype(jnp.float32))
    with jax.numpy_dtype_promotion("strict"):
        found = jd.landscape.line(loss, start, step, x=[1.0, 2.0, 3.0])
    # bfloat16 has steps of 2 there: 256.75, 257.5 and 258.25 are rounded once.
    assert found.values.tolist() == [257.0, 259.0, 259.0]


def test_it_is_traced_vmapped_and_differentiated_like_any_function(single):
    (params, *directions), data, _ = single
    plane = lambda params: jd.landscape.plane(quadratic, params, directions, data, x=X).values
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    together = jax.jit(jax.vmap(plane))(both)
    np.testing.assert_allclose(together[0], plane(params), rtol=1e-5)
    slope = jax.grad(lambda scale: jnp.sum(plane(jax.tree.map(lambda w: scale * w, params))))(1.0)
    assert np.isfinite(slope)


AXES = {"w": np.array([1.0, 0, 0])}, {"w": np.array([0, 1.0, 0])}
CENTER = {"w": np.zeros(3)}
LOSS = lambda params, _: jnp.sum(params["w"])


@pytest.mark.parametrize(
    ("loss", "params", "directions", "options", "words"),
    [
        (LOSS, CENTER, (AXES[0], {"w": np.ones(1)}), {}, r"got \(1,\) for \(3,\)"),
        (LOSS, CENTER, (AXES[0], {"v": np.ones(3)}), {}, r"directions\[1\] must be a tree like"),
        (LOSS, CENTER, (AXES[0], {"w": np.arange(3)}), {}, r"directions\[1\] must have leaves of"),
        (LOSS, CENTER, (AXES[0], {"w": np.array([-2.0, 0, 0])}), {}, "linearly independent"),
        (LOSS, CENTER, (AXES[0], {"w": np.array([1.0, 1e-6, 0])}), {}, "1e-06 radians"),
        (LOSS, CENTER, (AXES[0], {"w": np.zeros(3)}), {}, r"directions\[1\] must have a norm in"),
        (LOSS, CENTER, (AXES[0], {"w": np.full(3, np.nan)}), {}, "norm in .* got nan"),
        (LOSS, CENTER, AXES[:1], {}, "directions must be a pair of trees like params, got 1"),
        (LOSS, CENTER, AXES[0], {}, "directions must be a pair of trees like params, got dict"),
        (LOSS, {"w": np.arange(3)}, AXES, {}, r"floating point, got int\d+ at params\['w'\]"),
        (
            lambda p, _: p["w"],
            CENTER,
            AXES,
            {},
            r"loss_fn must return a real scalar, got .*\[3\]|3,",
        ),
        (LOSS, CENTER, AXES, {"x": []}, "x must hold at least one number"),
        (LOSS, CENTER, AXES, {"y": [0.0, np.nan]}, "y must be finite"),
        (LOSS, CENTER, AXES, {"x": [[0.0]]}, r"x must have one axis, got shape \(1, 1\)"),
        (LOSS, CENTER, AXES, {"memory": 0}, "memory must be an integer at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(loss, params, directions, options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.plane(loss, params, directions, **options)


def test_a_path_of_differing_lengths_is_refused():
    with pytest.raises(ValueError, match="one leading axis of points, got lengths 2, 3"):
        jd.landscape.path_losses(LOSS, {"w": np.ones((2, 3)), "v": np.ones((3, 3))})


def test_coordinates_of_another_number_of_directions_are_refused():
    with pytest.raises(ValueError, match=r"shape \(points, 2\), got \(4, 3\)"):
        jd.landscape.losses_at(LOSS, CENTER, AXES, np.ones((4, 3)))


def test_what_a_point_takes_is_about_what_the_compiler_sets_aside_for_it():
    """Of a network of layers of 256 on 500 examples; layers are alive two at a time."""
    widths = (64, 256, 256, 10)
    shapes = [jax.ShapeDtypeStruct((m, n), jnp.float32) for m, n in pairwise(widths)]

    def loss(params, x):
        for kernel in params:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(x)

    x = jax.ShapeDtypeStruct((500, 64), jnp.float32)
    told = points.peak_bytes(loss, shapes, x)
    parameters = 4 * (64 * 256 + 256 * 256 + 256 * 10)
    assert told == parameters + 4 * 500 * (256 + 256)
    many = [jax.ShapeDtypeStruct((8, *shape.shape), jnp.float32) for shape in shapes]
    compiled = jax.jit(jax.vmap(loss, in_axes=(0, None))).lower(many, x).compile()
    set_aside = compiled.memory_analysis().temp_size_in_bytes / 8
    assert 0.4 < set_aside / (told - parameters) < 1.2
