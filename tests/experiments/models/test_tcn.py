"""The temporal convolution network equals Bai et al.'s, and is causal."""

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.tcn import TCN, CausalConvolution
from tests.experiments.models import zoo


def test_the_sequential_mnist_model_has_the_published_parameter_count():
    """70K in the paper; the authors' code, with a gain per channel, has exactly this count."""
    model = zoo.shape_of(lambda **given: TCN(1, [25] * 8, 10, kernel=7, **given))
    first = (7 * 25 + 25 + 25) + (7 * 25 * 25 + 25 + 25) + (25 + 25)
    later = 2 * (7 * 25 * 25 + 25 + 25)
    assert parameter_count(model) == first + 7 * later + 26 * 10 == 66_910


def convolved(x, layer, dilation):
    """One output time step at a time, in float64."""
    v = layer["direction"]
    w = layer["gain"] * v / np.sqrt((v**2).sum((0, 1)))
    y = np.zeros((*x.shape[:2], w.shape[-1])) + layer["bias"]
    for t in range(x.shape[1]):
        for i in range(len(w)):
            source = t - (len(w) - 1 - i) * dilation
            if source >= 0:
                y[:, t] += x[:, source] @ w[i]
    return y


def test_the_forward_pass_equals_the_paper():
    """Three blocks; the second keeps its channels and has an identity shortcut."""
    split = zoo.built("tcn")
    state = zoo.float64(split.state)
    x = np.asarray(zoo.SERIES, np.float64)
    for i in range(3):
        block = state["blocks"][i]
        y = x
        for name in ("first", "second"):
            y = np.maximum(convolved(y, block[name], 2**i), 0)
        assert ("shortcut" in block) == (i != 1)
        if "shortcut" in block:
            x = x @ block["shortcut"]["kernel"] + block["shortcut"]["bias"]
        x = np.maximum(x + y, 0)
    expected = x @ state["head"]["kernel"] + state["head"]["bias"]
    np.testing.assert_allclose(zoo.output(split, zoo.SERIES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "levels", "field"), [(2, 1, 3), (3, 2, 13), (2, 3, 15)])
def test_an_output_depends_exactly_on_its_receptive_field(kernel, levels, field):
    split = zoo.build(lambda **given: TCN(2, [6] * levels, 1, kernel=kernel, **given))
    time = field + 4
    assert split.merge().receptive_field == field
    x = np.random.default_rng(0).normal(size=(1, time, 2)).astype(np.float32)
    # Gains of one sign, so that no unit is dead and every path contributes.
    state = jax.tree.map(np.abs, split.state)
    last = jax.jit(jax.grad(lambda x: zoo.forward(split.graph, state, x)[0][0, -1, 0]))
    seen = np.any(np.asarray(last(np.abs(x)))[0] != 0, axis=-1)
    np.testing.assert_array_equal(seen, np.arange(time) >= time - field)


def test_outputs_do_not_depend_on_the_future():
    split = zoo.built("tcn")
    changed = zoo.SERIES + 100 * (np.arange(9) >= 5)[:, None].astype(np.float32)
    before, after = (zoo.output(split, x) for x in (zoo.SERIES, changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert np.all(before[:, 5] != after[:, 5])


def test_weights_equal_their_directions_initially():
    """The gains keep the initial scale of the weights."""
    start = zoo.initialized(lambda **given: CausalConvolution(16, 30, 5, **given)).state
    direction = np.asarray(start["direction"][...], np.float64)
    norm = np.sqrt((direction**2).sum((0, 1)))
    np.testing.assert_allclose(start["gain"][...], norm, rtol=1e-5)
    bound = 1 / np.sqrt(5 * 16)
    assert 0.95 * bound < np.abs(direction).max() <= bound
    np.testing.assert_allclose(direction.var(), bound**2 / 3, rtol=0.1)


def test_the_length_of_a_direction_has_no_effect():
    split = zoo.build(lambda **given: CausalConvolution(4, 6, 3, **given))
    doubled = nnx.State({**split.state})
    doubled["direction"] = nnx.Param(2 * split.state["direction"][...])
    np.testing.assert_allclose(
        zoo.output(split, zoo.SERIES),
        zoo.output(split._replace(state=doubled), zoo.SERIES),
        rtol=1e-5,
        atol=1e-6,
    )


def test_dropout_drops_whole_channels():
    """After each of two convolutions in both blocks, one draw for all time steps."""
    split = zoo.built("tcn", registry="DROPOUT")
    assert zoo.shapes_drawn(split, zoo.SERIES) == 4 * [(3, 1, 5)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": 0}, r"features must be in \[1, inf\), got 0"),
        ({"channels": []}, r"channels must hold at least one number, got \[\]"),
        ({"channels": [4, 0]}, r"channels must be in \[1, inf\), got 0"),
        ({"outputs": 0}, r"outputs must be in \[1, inf\), got 0"),
        ({"kernel": 0}, r"kernel must be in \[1, inf\), got 0"),
    ],
)
def test_bad_arguments_raise(given, message):
    settings = {"features": 3, "channels": [4], "outputs": 2, **given}
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: TCN(**settings, **rest))


@pytest.mark.parametrize("name", ["inputs", "outputs", "kernel", "dilation"])
def test_bad_arguments_of_a_convolution_raise(name):
    settings = {"inputs": 3, "outputs": 4, "kernel": 2, "dilation": 1, name: 0}
    with pytest.raises(ValueError, match=rf"{name} must be in \[1, inf\), got 0"):
        zoo.shape_of(lambda **rest: CausalConvolution(**settings, **rest))
