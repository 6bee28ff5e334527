"""Parts, their normalization and their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import Dataset, Split
from experiments.data.dataset import moments, parts_in_order, unresolved


def parts(inputs, targets):
    return tuple(Split(np.asarray(inputs[i::3]), np.asarray(targets[i::3])) for i in range(3))


@pytest.mark.parametrize("shape", [(4000, 3), (2500, 7, 2), (1500, 5, 4, 3), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_are_computed_over_all_axes_except_the_last(shape, dtype):
    values = np.random.default_rng(0).uniform(0, 255, shape).astype(dtype)
    flat = values.reshape(-1, shape[-1]).astype(np.float64)
    mean, std = moments(values)
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, np.where(flat.std(0) > 0, flat.std(0), 1), rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32


def test_a_small_spread_with_a_large_mean_is_accurate():
    values = np.float32(1e6) + np.tile(np.float32([[-1], [1]]), (3000, 1))
    mean, std = moments(values)
    assert (mean[0], std[0]) == (1e6, 1)


@pytest.mark.parametrize("value", [0.0, 0.003467, -7e8])
def test_a_constant_feature_has_standard_deviation_1(value):
    values = np.full((3001, 1), value, np.float32)
    mean, std = moments(values)
    assert std[0] == 1
    assert abs((values - mean) / std).max() <= abs(value) * 1e-6


def test_a_spread_below_the_resolution_of_float32_counts_as_constant():
    values = np.full((3000, 1), 1e6, np.float32)
    values[7] = np.nextafter(values[7], np.float32(np.inf))
    assert values.astype(float).std() > 1e-3
    assert moments(values)[1][0] == 1


@pytest.mark.parametrize(
    ("spread", "offset", "expected"),
    [
        (1.0, 0.0, False),
        (1e-30, 0.0, False),
        (0.0, 1.7e9, False),
        # The numbers +-s around v have the standard deviation s, and 100 * 2^-23 = 1.19e-5.
        (1.25e-5, 1.0, False),
        (1.15e-5, 1.0, True),
        (100.0, -1.7e9, True),
        (1e5, -1.7e9, False),
    ],
)
def test_a_feature_is_resolved_by_100_numbers_in_a_standard_deviation(spread, offset, expected):
    values = np.array([[offset - spread, 1], [offset + spread, 2]])
    assert unresolved(values).tolist() == [expected, False]
    assert unresolved(values[:, None, None]).tolist() == [expected, False]


def test_the_normalization_uses_the_training_part_only():
    rng = np.random.default_rng(0)
    train, validation, test = parts(rng.normal(3, 2, (300, 4)), rng.normal(-5, 7, (300, 2)))
    data = Dataset.from_parts("x", (train, validation, test), 0, "made up")
    far = Split(validation.inputs + 1e6, validation.targets + 1e6)
    other = Dataset.from_parts("x", (train, far, far), 0, "made up")
    np.testing.assert_allclose(data.mean, train.inputs.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.std, train.inputs.std(0), rtol=1e-6)
    np.testing.assert_allclose(data.target_mean, train.targets.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.target_std, train.targets.std(0), rtol=1e-6)
    for mine, others in zip(data[5:9], other[5:9], strict=True):
        np.testing.assert_array_equal(mine, others)


def test_normalized_training_values_have_mean_0_and_spread_1():
    rng = np.random.default_rng(0)
    drawn = parts(rng.normal(3, 2, (300, 4)), rng.normal(-5, 7, (300, 2)))
    data = Dataset.from_parts("x", drawn, 0, "made up")
    for values in data.normalized(Split(*(np.float32(part) for part in data.train))):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
        assert values.dtype == np.float32


def test_normalized_images_are_float32_and_labels_stay_labels():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    data = Dataset.from_parts("x", parts(images, np.arange(30, dtype=np.int32)), 30, "made up")
    inputs, targets = data.normalized(data.validation)
    expected = (data.validation.inputs.astype(float) - data.mean) / data.std
    np.testing.assert_allclose(inputs, expected, atol=1e-6)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(targets, data.validation.targets)
    assert data.mean.shape == (3,)


def test_all_features_can_share_one_scale():
    values = np.random.default_rng(0).normal(size=(90, 5))
    data = Dataset.from_parts(
        "x", parts(values, np.zeros(90, np.int32)), 1, "made up", per_feature=False
    )
    np.testing.assert_allclose(data.mean, [data.train.inputs.mean()], rtol=1e-6)
    np.testing.assert_allclose(data.std, [data.train.inputs.std()], rtol=1e-6)


@pytest.mark.parametrize("classes", [0, 2])
def test_normalizing_under_jit_gives_equal_results(classes):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (30,), dtype=np.int32) if classes else rng.normal(size=(30, 1))
    images = rng.integers(0, 256, (30, 2, 2, 1), dtype=np.uint8)
    data = Dataset.from_parts("x", parts(images, targets), classes, "made up")
    with jax.numpy_dtype_promotion("strict"):
        batch = jax.tree.map(jnp.asarray, data.train)
        compiled = jax.jit(data.normalized)(batch)
    for mine, other in zip(data.normalized(data.train), compiled, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_whole_concatenates_the_parts():
    data = Dataset.from_parts(
        "x",
        (
            Split(np.ones((2, 1)), np.zeros(2, int)),
            Split(np.ones((1, 1)) * 2, np.ones(1, int)),
            Split(np.ones((1, 1)) * 3, np.zeros(1, int)),
        ),
        2,
        "made up",
    )
    whole = data.whole()
    assert whole.inputs.ravel().tolist() == [1, 1, 2, 3]
    assert whole.targets.tolist() == [0, 0, 1, 0]


shares = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**7), shares, shares)
def test_parts_in_order_cover_everything_once(count, validation, test):
    if validation + test >= 1:
        return
    train, middle, last = parts_in_order(count, validation, test)
    assert 0 == (train.start or 0) <= train.stop == middle.start <= middle.stop == last.start
    assert last.start <= last.stop == count
    assert abs(train.stop - count * (1 - validation - test)) <= 1.01
    assert abs((last.stop - last.start) - count * test) <= 1.01


def test_parts_in_order_are_exact_for_integer_products():
    assert [part.stop for part in parts_in_order(1000, 0.1, 0.2)] == [700, 800, 1000]
    assert [part.stop for part in parts_in_order(1000, 0.05, 0.05)] == [900, 950, 1000]


def test_a_tenth_is_divided_as_nanogpt_does():
    train, validation, test = parts_in_order(1_115_394, 0.1, 0.0)
    assert (train.stop, validation.stop, test.start) == (1_003_854, 1_115_394, 1_115_394)


@pytest.mark.parametrize(
    ("name", "validation", "test"),
    [
        ("validation", -0.1, 0.1),
        ("validation", 1.0, 0.0),
        ("validation", float("nan"), 0.0),
        ("test", 0.1, 1.5),
        ("validation and test", 0.5, 0.5),
    ],
)
def test_shares_out_of_range_are_refused(name, validation, test):
    with pytest.raises(ValueError, match=f"^{name} must"):
        parts_in_order(10, validation, test)
