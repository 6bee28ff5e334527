"""The multilayer perceptron matches its sizes."""

import jax
import numpy as np
import pytest

from experiments.models.counting import parameter_count
from experiments.models.mlp import MLP
from tests.experiments.models import zoo


def test_the_parameter_count_is_matrices_plus_biases():
    model = zoo.shape_of(lambda **given: MLP([784, 300, 100, 10], **given))
    assert parameter_count(model) == 785 * 300 + 301 * 100 + 101 * 10 == 266_610


def test_the_forward_pass_equals_the_textbook_formula():
    split = zoo.build(lambda **given: MLP([4, 8, 5, 3], **given))
    layers = zoo.float64(split.state)["layers"]
    y = np.asarray(zoo.SERIES, np.float64)
    for i in range(3):
        y = y @ layers[i]["kernel"] + layers[i]["bias"]
        y = np.maximum(y, 0) if i < 2 else y
    np.testing.assert_allclose(zoo.output(split, zoo.SERIES), y, rtol=1e-5, atol=1e-5)


def test_another_activation_is_used_between_layers():
    split = zoo.build(lambda **given: MLP([4, 8, 3], activation=jax.numpy.sin, **given))
    layers = zoo.float64(split.state)["layers"]
    hidden = np.sin(np.asarray(zoo.SERIES) @ layers[0]["kernel"] + layers[0]["bias"])
    expected = hidden @ layers[1]["kernel"] + layers[1]["bias"]
    np.testing.assert_allclose(zoo.output(split, zoo.SERIES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, r"sizes must hold at least two numbers, got \[\]"),
        ([3], ValueError, r"sizes must hold at least two numbers, got \[3\]"),
        ([3, 0], ValueError, r"sizes must be in \[1, inf\), got 0"),
        ([3, 2.5], TypeError, r"sizes must be an integer, got 2\.5"),
    ],
)
def test_bad_sizes_raise(sizes, error, message):
    with pytest.raises(error, match=message):
        zoo.shape_of(lambda **rest: MLP(sizes, **rest))
