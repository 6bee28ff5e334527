"""Attention is causal and equal with and without a cache; rotary positions see only distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.attention import Attention, rotate
from tests.experiments.models import zoo

X = np.random.default_rng(0).normal(size=(2, 7, 8)).astype(np.float32)


def attention(**given):
    return zoo.build(lambda **rest: Attention(8, 2, **given, **rest), seed=1)


def turned(x, positions):
    """Rotary positions by complex numbers, in float64: heads of [..., time, head width]."""
    half = x.shape[-1] // 2
    angles = np.asarray(positions)[:, None] * 10_000.0 ** (-2 * np.arange(half) / x.shape[-1])
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], -1)


def reference(state, x, heads, *, rotary):
    """Causal attention, one query at a time, in float64."""
    width = x.shape[-1]
    bias = state["inputs"].get("bias", 0)
    projected = np.asarray(x, np.float64) @ state["inputs"]["kernel"] + bias
    out = np.zeros((*x.shape[:-1], width))
    for batch in range(len(x)):
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            q, k, v = (projected[batch, :, i * width : (i + 1) * width][:, part] for i in range(3))
            if rotary:
                q, k = (turned(each, range(len(each))) for each in (q, k))
            for t in range(x.shape[1]):
                scores = k[: t + 1] @ q[t] / np.sqrt(width // heads)
                weights = np.exp(scores - scores.max())
                out[batch, t, part] = weights @ v[: t + 1] / weights.sum()
    return out @ state["output"]["kernel"] + state["output"].get("bias", 0)


@pytest.mark.parametrize(("rotary", "bias"), [(False, False), (True, True)])
def test_the_forward_pass_equals_the_textbook_formula(rotary, bias):
    split = attention(rotary=rotary, bias=bias)
    expected = reference(zoo.float64(split.state), X, 2, rotary=rotary)
    np.testing.assert_allclose(zoo.output(split, X), expected, rtol=1e-4, atol=1e-5)


def test_rotary_angles_decrease_geometrically():
    x = np.random.default_rng(1).normal(size=(2, 5, 3, 8)).astype(np.float32)
    positions = jnp.array([0, 1, 2, 30, 1000])
    expected = np.moveaxis(turned(np.moveaxis(x.astype(np.float64), 1, 2), positions), 2, 1)
    found = np.asarray(jax.jit(rotate)(x, positions))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(found[:, 0], x[:, 0])


def test_rotated_products_depend_only_on_the_distance():
    q, k = np.random.default_rng(2).normal(size=(2, 1, 1, 1, 8)).astype(np.float32)

    @jax.jit
    def product(at, other):
        return jnp.sum(rotate(q, at[None]) * rotate(k, other[None]))

    for distance in (-3, 0, 5):
        one, two = (product(*np.array([at + distance, at])) for at in (10, 90))
        np.testing.assert_allclose(one, two, rtol=1e-4)
        assert not np.isclose(one, product(*np.array([11 + distance, 10])), rtol=1e-2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 3}, r"width must be a multiple of 3 for 3 heads and learned positions, got 8"),
        ({"heads": 8, "rotary": True}, r"multiple of 16 for 8 heads and rotary positions, got 8"),
        ({"heads": 0}, r"heads must be in \[1, inf\), got 0"),
        ({"heads": 2, "width": 0}, r"width must be in \[1, inf\), got 0"),
        ({"heads": 2, "dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        ({"heads": 2, "dtype": int}, r"dtype must be None or a floating dtype"),
    ],
)
def test_bad_arguments_raise(given, message):
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: Attention(**{"width": 8, **given}, **rest))


@pytest.mark.parametrize("rotary", [False, True])
def test_reading_in_pieces_with_a_cache_equals_one_pass(rotary):
    split = attention(rotary=rotary)
    whole = zoo.output(split, X)

    @jax.jit
    def pieces(state):
        layer = nnx.merge(split.graph, state)
        # Two positions more than are written, which must not be visible.
        cache = jax.tree.map(lambda zeros: zeros + 9.0, layer.start(2, 9))
        parts = []
        for start, end in [(0, 3), (3, 4), (4, 7)]:
            part, cache = layer.extend(X[:, start:end], cache, start)
            parts.append(part)
        return jnp.concatenate(parts, 1)

    np.testing.assert_allclose(pieces(split.state), whole, rtol=1e-5, atol=1e-6)


def test_attention_with_a_tiny_dropout_rate_equals_attention_without():
    """A rate that drops no weight takes the code path of dropout."""
    plain, dropping = attention(), attention(dropout=1e-9)
    dropped = zoo.output(dropping, X, key=zoo.KEYS[0])
    np.testing.assert_allclose(dropped, zoo.output(plain, X), rtol=1e-5, atol=1e-6)


def test_dropout_applies_to_attention_weights():
    """The first position attends to itself only: the value of a head is doubled or zero."""
    split = attention(dropout=0.5)
    split.state["output"]["kernel"] = nnx.Param(jnp.eye(8))
    x = np.random.default_rng(1).normal(size=(32, 2, 8)).astype(np.float32)
    value = (x @ np.asarray(split.state["inputs"]["kernel"][...]))[:, 0, 16:]
    y = np.asarray(zoo.output(split, x, key=zoo.KEYS[0]))[:, 0]
    heads = [np.isclose(y, c * value, atol=1e-4).reshape(64, 4).all(1) for c in (0, 2)]
    np.testing.assert_array_equal(heads[0], ~heads[1])
    assert 0.2 < heads[0].mean() < 0.8
