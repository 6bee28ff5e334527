"""The GRU equals the equations of Cho et al., step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.gru import GRU
from tests.experiments.models import zoo


def make_model(**given):
    return GRU(4, 5, **given)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(state, x, h):
    """Equations 5 to 8 of the paper, with biases, in float64."""
    W_r, W_z, W = np.split(state["inputs"]["kernel"], 3, axis=1)
    b_r, b_z, b = np.split(state["inputs"]["bias"], 3)
    U_r, U_z = np.split(state["gates"]["kernel"], 2, axis=1)
    U = state["candidate"]["kernel"]
    outputs = []
    for t in range(x.shape[1]):
        r = sigmoid(x[:, t] @ W_r + h @ U_r + b_r)
        z = sigmoid(x[:, t] @ W_z + h @ U_z + b_z)
        h = z * h + (1 - z) * np.tanh(x[:, t] @ W + (r * h) @ U + b)
        outputs.append(h)
    return np.stack(outputs, 1), h


def test_steps_equal_the_published_equations_from_any_state():
    split = zoo.build(make_model)
    given = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    run = jax.jit(lambda state, x, hidden: nnx.merge(split.graph, state)(x, hidden))
    for start in (None, jnp.asarray(given)):
        found = run(split.state, zoo.SERIES, start)
        expected = reference(
            zoo.float64(split.state),
            np.asarray(zoo.SERIES, np.float64),
            np.zeros((3, 5)) if start is None else given.astype(np.float64),
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_parameter_count_has_three_biases():
    assert parameter_count(zoo.shape_of(make_model)) == 3 * (4 + 5 + 1) * 5


def test_biases_are_initially_zero_and_recurrent_matrices_orthogonal():
    state = zoo.float64(zoo.initialized(make_model).state)
    np.testing.assert_array_equal(state["inputs"]["bias"], np.zeros(15))
    matrices = [*np.split(state["gates"]["kernel"], 2, axis=1), state["candidate"]["kernel"]]
    for matrix in matrices:
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(5), atol=1e-5)


def test_a_bfloat16_state_still_moves_by_small_steps():
    """With z = sigmoid(6), a step is 0.25% of the way, below bfloat16's spacing near 1."""
    split = zoo.build(lambda **given: GRU(1, 1, **given), dtype=jnp.bfloat16)
    for part in ("inputs", "gates", "candidate"):
        kernel = split.state[part]["kernel"]
        split.state[part]["kernel"] = nnx.Param(jnp.zeros_like(kernel[...]))
    split.state["inputs"]["bias"] = nnx.Param(jnp.array([0.0, 6.0, 50.0]))
    outputs, hidden = jax.jit(lambda x: split.merge()(x))(jnp.zeros((1, 2000, 1)))
    np.testing.assert_allclose(hidden, 1 - sigmoid(6.0) ** 2000, rtol=1e-3)
    assert (outputs.dtype, hidden.dtype) == (jnp.bfloat16, jnp.float32)


def test_series_of_float64_are_computed_in_float64():
    with jax.enable_x64(True):
        series = jax.ShapeDtypeStruct(zoo.SERIES.shape, np.float64)
        outputs, hidden = jax.eval_shape(zoo.build(make_model).merge(), series)
        assert outputs.dtype == hidden.dtype == np.float64


@pytest.mark.parametrize("name", ["inputs", "width"])
def test_bad_arguments_raise(name):
    with pytest.raises(ValueError, match=rf"{name} must be in \[1, inf\), got 0"):
        zoo.shape_of(lambda **rest: GRU(**{"inputs": 4, "width": 5, name: 0}, **rest))
