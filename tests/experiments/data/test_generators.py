"""Generated data sets follow their formulas."""

import numpy as np
import pytest

from experiments.data import generators

NAMES = [
    "moons",
    "circles",
    "blobs",
    "gaussian_quantiles",
    "classification",
    "friedman1",
    "friedman2",
    "friedman3",
    "regression",
]
every_generator = pytest.mark.parametrize("name", NAMES)


def drawn(name, n=500, **options):
    whole = getattr(generators, name)(n, **options).whole()
    return whole.inputs.astype(np.float64), whole.targets


@every_generator
def test_parts_are_three_one_and_one_fifths(name):
    data = getattr(generators, name)(50)
    assert [len(part.inputs) for part in data[1:4]] == [30, 10, 10]
    assert data.name == name
    for part in data[1:4]:
        assert part.inputs.dtype == np.float32
        assert part.targets.dtype == (np.int32 if data.classes else np.float32)
        expected = (len(part.inputs),) if data.classes else (len(part.inputs), 1)
        assert part.targets.shape == expected


@every_generator
def test_the_data_of_a_seed_does_not_depend_on_the_global_seed(name):
    np.random.seed(1)  # noqa: NPY002  the global seed must have no effect
    first = drawn(name, 50, seed=3)
    np.random.seed(2)  # noqa: NPY002
    for mine, again in zip(first, drawn(name, 50, seed=3), strict=True):
        np.testing.assert_array_equal(mine, again)
    assert not np.array_equal(first[0], drawn(name, 50, seed=4)[0])


@every_generator
def test_noise_has_an_effect(name):
    quiet, loud = (drawn(name, 200, noise=noise) for noise in (0.01, 0.5))
    assert not all(np.array_equal(*pair) for pair in zip(quiet, loud, strict=True))


@every_generator
@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("n", 9, "[10, inf)"),
        ("n", 10.5, "[10, inf)"),
        ("n", True, "[10, inf)"),
        ("noise", -0.1, "[0, inf)"),
        ("noise", float("nan"), "[0, inf)"),
        ("noise", float("inf"), "[0, inf)"),
        ("noise", True, "[0, inf)"),
        ("seed", -1, "[0, inf)"),
        ("seed", 2**32, "[0, 2**32 - 1]"),
        ("seed", None, "[0, inf)"),
    ],
)
def test_arguments_out_of_range_are_refused(name, argument, value, allowed):
    with pytest.raises(ValueError, match=f"^{argument} must be") as caught:
        getattr(generators, name)(**{"n": 50, argument: value})
    assert allowed in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "allowed"),
    [
        ("circles", {"factor": 1.0}, "factor must be in [0, 1)"),
        ("blobs", {"features": 0}, "features must be an integer in [1, inf)"),
        ("blobs", {"classes": 1}, "classes must be an integer in [2, inf)"),
        ("gaussian_quantiles", {"features": 0}, "features must be an integer in [1, inf)"),
        ("gaussian_quantiles", {"classes": 1}, "classes must be an integer in [2, inf)"),
        ("gaussian_quantiles", {"classes": 51}, "classes must be in [2, n]"),
        ("classification", {"classes": 9, "features": 3}, "features must be an integer in [4,"),
        ("classification", {"classes": 1}, "classes must be an integer in [2, inf)"),
        ("classification", {"noise": 1.5}, "noise must be in [0, 1]"),
        ("friedman1", {"features": 4}, "features must be an integer in [5, inf)"),
        ("regression", {"features": 0}, "features must be an integer in [1, inf)"),
        ("regression", {"informative": 0}, "informative must be an integer in [1, inf)"),
        ("regression", {"informative": 21}, "informative must be in [1, features]"),
    ],
)
def test_arguments_of_single_generators_out_of_range_are_refused(name, options, allowed):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below
        getattr(generators, name)(50, **options)
    assert str(caught.value).startswith(allowed)


def test_numpy_integers_are_accepted():
    assert len(generators.moons(np.int64(50), seed=np.int32(1)).whole().targets) == 50


def test_moons_without_noise_lie_on_two_half_circles():
    inputs, targets = drawn("moons", noise=0.0)
    x, y = inputs.T
    upper = targets == 0
    np.testing.assert_allclose(np.hypot(x, y)[upper], 1, atol=1e-6)
    np.testing.assert_allclose(np.hypot(x - 1, y - 0.5)[~upper], 1, atol=1e-6)


def test_circles_without_noise_have_their_radii():
    inputs, targets = drawn("circles", noise=0.0, factor=0.3)
    np.testing.assert_allclose(np.hypot(*inputs.T), np.where(targets, 0.3, 1.0), atol=1e-6)


def test_blobs_have_the_given_spread_dimensions_and_number():
    inputs, targets = drawn("blobs", 6000, noise=0.5, features=4, classes=5)
    assert inputs.shape == (6000, 4)
    assert set(targets) == set(range(5))
    for label in range(5):
        np.testing.assert_allclose(inputs[targets == label].std(0), 0.5, rtol=0.1)


def test_gaussian_quantiles_are_nested_shells_of_equal_size():
    inputs, targets = drawn("gaussian_quantiles", 600, noise=2.0, features=3, classes=4)
    np.testing.assert_array_equal(np.bincount(targets), [150] * 4)
    radii = np.linalg.norm(inputs, axis=1)
    assert (np.diff(targets[np.argsort(radii)]) >= 0).all()
    np.testing.assert_allclose(inputs.std(0), 2.0, rtol=0.1)


def test_classification_noise_is_the_share_of_random_labels():
    labels = []
    for noise in (0.0, 0.4):
        inputs, targets = drawn("classification", 4000, noise=noise)
        # Noise changes the order of rows and columns; sums identify the rows.
        labels.append(targets[np.argsort(np.sort(inputs).sum(1))])
    # Half of the random labels of two classes equal the original label.
    assert abs(np.mean(labels[0] != labels[1]) - 0.2) < 0.02


def test_classification_has_the_given_dimensions_and_number():
    inputs, targets = drawn("classification", 200, features=7, classes=5)
    assert inputs.shape == (200, 7)
    assert set(targets) == set(range(5))


def test_friedman1_equals_its_formula():
    inputs, targets = drawn("friedman1", noise=0.0, features=7)
    x = inputs.T
    expected = 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]
    np.testing.assert_allclose(targets[:, 0], expected, rtol=1e-5)
    assert len(x) == 7


def test_friedman2_and_3_equal_their_formulas():
    inputs, targets = drawn("friedman2", noise=0.0)
    x = inputs.T
    reactance = x[1] * x[2] - 1 / (x[1] * x[3])
    np.testing.assert_allclose(targets[:, 0], np.hypot(x[0], reactance), rtol=1e-5)
    inputs, targets = drawn("friedman3", noise=0.0)
    x = inputs.T
    reactance = x[1] * x[2] - 1 / (x[1] * x[3])
    np.testing.assert_allclose(targets[:, 0], np.arctan(reactance / x[0]), rtol=1e-4)


@pytest.mark.parametrize("name", ["friedman1", "friedman2", "friedman3"])
def test_noise_of_the_friedman_functions_is_the_standard_deviation_of_the_targets(name):
    clean, noisy = (drawn(name, 4000, noise=noise)[1] for noise in (0.0, 2.5))
    assert abs((noisy - clean).std() - 2.5) < 0.1


def test_regression_is_linear_in_the_informative_features():
    inputs, targets = drawn("regression", noise=0.0, features=8, informative=3)
    slopes, *_ = np.linalg.lstsq(inputs, targets, rcond=None)
    np.testing.assert_allclose(inputs @ slopes, targets, atol=1e-3)
    assert (abs(slopes) > 1).sum() == 3


def test_noise_of_the_linear_function_is_the_standard_deviation_of_the_targets():
    inputs, targets = drawn("regression", 4000, noise=2.5)
    slopes, *_ = np.linalg.lstsq(inputs, targets, rcond=None)
    assert abs((targets - inputs @ slopes).std() - 2.5) < 0.1
