"""The convolutional classifier equals the one of Keras."""

import numpy as np
import pytest

from experiments.models.cnn import CNN
from experiments.models.counting import parameter_count
from tests.experiments.models import zoo


def test_the_published_model_has_the_published_parameter_count():
    assert parameter_count(zoo.shape_of(CNN)) == 34_826


def test_each_layer_has_the_published_parameter_count():
    """As `model.summary()` prints on keras.io."""
    model = zoo.shape_of(CNN)
    assert [parameter_count(layer) for layer in model.convolutions] == [320, 18_496]
    assert parameter_count(model.head) == 16_010


def convolved(x, kernel, bias):
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return bias + sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def pooled(x):
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, -1).max((2, 4))


def test_the_forward_pass_equals_the_textbook_formula():
    """On 11 x 10 pixels, so that a pool drops a row."""
    split = zoo.build(lambda **given: CNN((11, 10, 2), (5, 6), 3, **given))
    x = np.random.default_rng(0).normal(size=(3, 11, 10, 2)).astype(np.float32)
    state = zoo.float64(split.state)
    y = x.astype(np.float64)
    for i in range(2):
        y = pooled(np.maximum(convolved(y, **state["convolutions"][i]), 0))
    expected = y.reshape(3, -1) @ state["head"]["kernel"] + state["head"]["bias"]
    assert y.shape == (3, 1, 1, 6)
    np.testing.assert_allclose(zoo.output(split, x), expected, rtol=1e-4, atol=1e-5)


def test_the_smallest_image_leaves_one_pixel_and_a_smaller_image_raises():
    assert zoo.shape_of(lambda **given: CNN((10, 10, 1), **given)).head.in_features == 64
    message = r"shape must have sides in \[10, inf\) for 2 convolutions, got \(10, 9, 1\)"
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **given: CNN((10, 9, 1), **given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": (28, 28)}, r"shape must be \(height, width, channels\), got \(28, 28\)"),
        ({"shape": (28, 28, 0)}, r"shape must be in \[1, inf\), got 0"),
        ({"channels": (32, 0)}, r"channels must be in \[1, inf\), got 0"),
        ({"classes": 0}, r"classes must be in \[1, inf\), got 0"),
    ],
)
def test_bad_arguments_raise(given, message):
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: CNN(**given, **rest))
