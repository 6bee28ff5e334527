"""Epsilon-sharpness equals the largest loss in the box, where it is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.landscape import epsilon as module


def weighted(params, scales):
    return 0.5 * sum(jnp.sum(s * w**2) for s, w in zip(scales, params, strict=True))


SCALES = [np.array([[2.0, 0.5]]), np.array([3.0, 0.1, 1.0])]
PARAMS = [np.array([[1.5, -0.5]]), np.array([0.0, 2.0, -1.0])]


def in_the_box(size):
    """Returns the loss in the outermost corner of the box."""
    out = [np.abs(w) + size * (np.abs(w) + 1) for w in PARAMS]
    return 0.5 * sum(np.sum(s * w**2) for s, w in zip(SCALES, out, strict=True))


@pytest.mark.parametrize("size", [1e-3, 0.2])
def test_a_quadratic_is_highest_in_a_corner(x64, size):
    here = in_the_box(0.0)
    wanted = 100 * (in_the_box(size) - here) / (1 + here)
    found = jd.landscape.epsilon_sharpness(weighted, PARAMS, SCALES, epsilon=size)
    assert float(found.value) == pytest.approx(wanted, rel=1e-12)
    assert float(found.loss) == pytest.approx(here, rel=1e-12)
    for point, w in zip(found.point, PARAMS, strict=True):
        np.testing.assert_allclose(np.abs(point - w), size * (np.abs(w) + 1), rtol=1e-12)


def test_the_unit_is_percent_of_one_plus_the_loss():
    def slope(w, at):
        return at + jnp.sum(w)

    found = jd.landscape.epsilon_sharpness(slope, jnp.array([1.0, -3.0]), 7.0, epsilon=0.01)
    assert float(found.value) == pytest.approx(100 * 0.01 * (2 + 4) / (1 + 7 - 2), rel=1e-4)


def test_a_random_subspace_finds_its_highest_corner(x64):
    key, size, p = jax.random.key(5), 0.3, 3
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    data = matrix @ matrix.T

    def loss(w, m):
        return 0.5 * w @ m @ w

    x = np.random.default_rng(1).normal(size=6)
    found = jd.landscape.epsilon_sharpness(
        loss, x, data, epsilon=size, subspace=p, key=key, num_starts=6
    )
    columns, within = module._subspace(jnp.asarray(x), p, jax.random.split(key)[0])
    np.testing.assert_allclose(within, np.linalg.pinv(columns.T) @ x, rtol=1e-10)
    corners = np.array([*itertools.product([-1, 1], repeat=p)]) * size * (np.abs(within) + 1)
    highest = max(float(loss(x + corner @ columns, data)) for corner in corners)
    assert float(found.highest) == pytest.approx(highest, rel=1e-10)


def test_a_maximum_inside_the_box_is_found():
    def ridge(w, _):
        return 1 - jnp.sum((w - 0.1) ** 2)

    found = jd.landscape.epsilon_sharpness(ridge, jnp.zeros(3), epsilon=0.5, num_steps=60)
    assert float(found.highest) == pytest.approx(1, abs=1e-3)


def test_a_second_start_escapes_from_a_minimum():
    def bowl(w, _):
        return jnp.sum(w**2)

    alone = jd.landscape.epsilon_sharpness(bowl, jnp.zeros(3), epsilon=0.1, num_starts=1)
    assert float(alone.value) == 0  # the gradient there is zero
    two = jd.landscape.epsilon_sharpness(bowl, jnp.zeros(3), epsilon=0.1)
    assert float(two.highest) == pytest.approx(0.03, rel=1e-5)


def test_a_non_finite_loss_in_the_box_counts_as_the_highest():
    def cliff(w, _):
        return jnp.where(w[0] > 1.0, jnp.nan, w[0])

    found = jd.landscape.epsilon_sharpness(cliff, jnp.array([0.9]), epsilon=0.2)
    assert np.isnan(found.highest)


def test_rescaled_networks_differ_which_is_a_known_flaw_of_the_measure():
    def product(w, _):
        return (w[0] * w[1] - 1) ** 2

    same = [jnp.array([1.0, 1.0]), jnp.array([100.0, 0.01])]
    found = [jd.landscape.epsilon_sharpness(product, w, epsilon=1e-3).value for w in same]
    assert found[1] > 100 * found[0]


def test_half_precision_is_searched_in_float32():
    with jax.numpy_dtype_promotion("strict"):

        def bowl(w, _):
            return jnp.sum(w.astype(jnp.float32) ** 2)

        found = jd.landscape.epsilon_sharpness(bowl, jnp.zeros(2, jnp.bfloat16), epsilon=0.5)
    assert found.point.dtype == jnp.float32
    assert float(found.highest) == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 0.0}, r"epsilon must be a number in \(0, inf\), got 0.0"),
        ({"subspace": 4}, r"subspace must be an integer in \[1, 3\], got 4"),
        ({"num_steps": 0}, "num_steps must be an integer at least 1"),
        ({"num_starts": 0}, "num_starts must be an integer at least 1"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.epsilon_sharpness(lambda w, _: jnp.sum(w), np.ones(3), **options)


def test_a_nan_gradient_keeps_the_point_in_the_box():
    found = jd.landscape.epsilon_sharpness(lambda w, _: jnp.linalg.norm(w), jnp.zeros(3))
    # The loss is 0 at the center, and at most sqrt(3) epsilon = .001 in the box.
    np.testing.assert_allclose(found.value, 100 * np.sqrt(3) * 1e-3, rtol=1e-4)
