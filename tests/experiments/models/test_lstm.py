"""The LSTM equals the equations of Zaremba et al., step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.lstm import LSTM, LSTMCarry, orthogonal_gates
from tests.experiments.models import zoo


def make_model(**given):
    return LSTM(4, 5, **given)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(state, x, h, c):
    """The equations of section 3.1, one gate at a time, in float64."""
    W, b, U = state["inputs"]["kernel"], state["inputs"]["bias"], state["recurrent"]["kernel"]
    outputs = []
    for t in range(x.shape[1]):

        def gate(n):
            return x[:, t] @ W[:, n] + h @ U[:, n] + b[n]  # noqa: B023

        i, f, g, o = (gate(slice(5 * n, 5 * n + 5)) for n in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1), h, c


def test_steps_equal_the_published_equations_from_any_state():
    split = zoo.build(make_model)
    h, c = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    run = jax.jit(lambda state, x, carry: nnx.merge(split.graph, state)(x, carry))
    for start in (None, LSTMCarry(jnp.asarray(h), jnp.asarray(c))):
        outputs, carry = run(split.state, zoo.SERIES, start)
        zeros = np.zeros((3, 5))
        expected = reference(
            zoo.float64(split.state), np.asarray(zoo.SERIES, np.float64), *(start or (zeros, zeros))
        )
        for found, number in zip((outputs, *carry), expected, strict=True):
            np.testing.assert_allclose(found, number, rtol=1e-5, atol=1e-6)


def test_the_parameter_count_has_one_bias_per_gate():
    assert parameter_count(zoo.shape_of(make_model)) == 4 * (4 + 5 + 1) * 5


def test_only_the_forget_gates_have_a_nonzero_initial_bias():
    for given, expected in [({}, 1.0), ({"forget_bias": 2.5}, 2.5)]:
        start = zoo.initialized(lambda **rest: LSTM(4, 5, **given, **rest))  # noqa: B023
        bias = start.state["inputs"]["bias"][...]
        np.testing.assert_array_equal(bias, np.repeat([0, expected, 0, 0], 5))


def test_the_recurrent_matrix_of_each_gate_is_initially_orthogonal():
    kernel = orthogonal_gates(jax.random.key(0), (5, 20), jnp.float32)
    gates = np.split(np.asarray(kernel), 4, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(5), atol=1e-5)
    assert not np.allclose(gates[0], gates[1])


def test_a_bfloat16_cell_still_accumulates():
    """Fully open gates add 1 per step; bfloat16 would stop at 256."""
    split = zoo.build(lambda **given: LSTM(1, 1, **given), dtype=jnp.bfloat16)
    split.state["recurrent"]["kernel"] = nnx.Param(jnp.zeros((1, 4)))
    split.state["inputs"]["kernel"] = nnx.Param(jnp.zeros((1, 4)))
    split.state["inputs"]["bias"] = nnx.Param(jnp.full(4, 50.0))
    outputs, carry = jax.jit(lambda x: split.merge()(x))(jnp.zeros((1, 400, 1)))
    np.testing.assert_allclose(carry.cell, 400.0)
    assert (outputs.dtype, carry.hidden.dtype, carry.cell.dtype) == (
        jnp.bfloat16,
        jnp.bfloat16,
        jnp.float32,
    )


def test_series_of_float64_are_computed_in_float64():
    with jax.enable_x64(True):
        series = jax.ShapeDtypeStruct(zoo.SERIES.shape, np.float64)
        outputs, carry = jax.eval_shape(zoo.build(make_model).merge(), series)
        assert outputs.dtype == carry.cell.dtype == np.float64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": 0}, r"inputs must be in \[1, inf\), got 0"),
        ({"width": 0}, r"width must be in \[1, inf\), got 0"),
        ({"forget_bias": float("inf")}, r"forget_bias must be finite, got inf"),
    ],
)
def test_bad_arguments_raise(given, message):
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: LSTM(**{"inputs": 4, "width": 5, **given}, **rest))
