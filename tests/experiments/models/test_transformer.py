"""The transformer equals nanoGPT in parameter count, initialization and output."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.transformer import SIZES, Transformer, TransformerConfig
from tests.experiments.models import zoo
from tests.experiments.models.test_attention import reference as attended

CONFIG = dataclasses.replace(zoo.CONFIG, layers=2)

both_positions = pytest.mark.parametrize("positions", ["learned", "rotary"])


def count(config):
    return parameter_count(zoo.shape_of(lambda **given: Transformer(config, **given)))


def built(dtype=None, remat=False, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return zoo.build(lambda **given: Transformer(config, dtype=dtype, remat=remat, **given))


def test_gpt2_has_the_published_parameter_count():
    config = TransformerConfig.of_size("124M", 50_257, bias=True)
    assert count(config) == 124_439_808


@pytest.mark.parametrize(
    ("size", "exact", "printed"), [("0.8M", 804_096, "0.80M"), ("11M", 10_745_088, "10.65M")]
)
def test_nanogpt_character_models_have_its_parameter_counts(size, exact, printed):
    """The count that nanoGPT prints excludes position embeddings."""
    config = TransformerConfig.of_size(size, vocabulary=65)
    assert count(config) == exact
    assert f"{(exact - config.context * config.width) / 1e6:.2f}M" == printed


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_named_by_their_parameter_count(size):
    vocabulary = 50_257 if size == "124M" else 65
    named = float(size.removesuffix("M"))
    counted = count(TransformerConfig.of_size(size, vocabulary)) / 1e6
    assert abs(counted - named) < 0.08 * named


@pytest.mark.parametrize("bias", [False, True])
@both_positions
def test_the_parameter_count_matches_the_formula(bias, positions):
    """Embedding, positions, 12 d^2 per layer, norms of d and biases of 9 d + 2 d."""
    config = TransformerConfig(101, 32, 3, 4, 24, bias=bias, positions=positions)
    layer = 12 * 24**2 + 2 * 24 + (11 * 24 if bias else 0)
    table = 32 * 24 if positions == "learned" else 0
    assert count(config) == 101 * 24 + table + 3 * layer + (2 * 24 if bias else 24)


@pytest.fixture(scope="module")
def start():
    config = TransformerConfig.of_size("0.1M", 301, bias=True, layers=3)
    return zoo.initialized(lambda **given: Transformer(config, **given))


def test_initial_weights_have_the_distribution_of_nanogpt(start):
    state = zoo.float64(start.state)
    block = state["blocks"][1]
    onto_residual = 0.02 / math.sqrt(6)
    for kernel, deviation in [
        (state["embedding"]["embedding"], 0.02),
        (state["positions"]["embedding"], 0.02),
        (block["attention"]["inputs"]["kernel"], 0.02),
        (block["attention"]["output"]["kernel"], onto_residual),
        (block["hidden"]["kernel"], 0.02),
        (block["output"]["kernel"], onto_residual),
    ]:
        # Four standard deviations of a sample standard deviation.
        assert abs(kernel.std() / deviation - 1) < 4 / math.sqrt(2 * kernel.size)
    for part in ("hidden", "output", "hidden_norm", "attention_norm"):
        np.testing.assert_array_equal(block[part]["bias"], 0)
    np.testing.assert_array_equal(state["norm"]["scale"], 1)


def test_the_initial_loss_is_the_loss_of_a_uniform_guess(start):
    tokens = np.random.default_rng(0).integers(301, size=(4, 65))
    logits = np.asarray(zoo.output(start, tokens[:, :-1]), np.float64)
    surprise = (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    )
    np.testing.assert_allclose(surprise.mean(), math.log(301), atol=0.05)


def normed(x, norm):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * norm["scale"] + norm.get("bias", 0)


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def linear(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def reference(state, tokens, config):
    """Logits in float64."""
    x = state["embedding"]["embedding"][tokens]
    if config.positions == "learned":
        x = x + state["positions"]["embedding"][: tokens.shape[1]]
    for i in range(config.layers):
        block = state["blocks"][i]
        x = x + attended(
            block["attention"],
            normed(x, block["attention_norm"]),
            config.heads,
            rotary=config.positions == "rotary",
        )
        hidden = gelu(linear(normed(x, block["hidden_norm"]), block["hidden"]))
        x = x + linear(hidden, block["output"])
    return normed(x, state["norm"]) @ state["embedding"]["embedding"].T


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize(("positions", "bias"), [("learned", True), ("rotary", False)])
def test_the_forward_pass_equals_the_published_one(positions, bias, scale):
    """Small embeddings make the epsilon of the norms matter."""
    split = built(bias=bias, positions=positions)
    for name in {"learned": ("embedding", "positions"), "rotary": ("embedding",)}[positions]:
        table = split.state[name]["embedding"]
        split.state[name]["embedding"] = nnx.Param(scale * table[...])
    config = dataclasses.replace(CONFIG, bias=bias, positions=positions)
    expected = reference(zoo.float64(split.state), np.asarray(zoo.TOKENS), config)
    np.testing.assert_allclose(
        zoo.output(split, zoo.TOKENS), expected, rtol=1e-3, atol=2e-5 * np.abs(expected).max()
    )


@both_positions
def test_outputs_do_not_depend_on_the_future(positions):
    split = built(positions=positions)
    changed = (zoo.TOKENS + (np.arange(9) >= 5)) % 11
    before, after = (zoo.output(split, tokens) for tokens in (zoo.TOKENS, changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert not np.any(np.isclose(before[:, 5:], after[:, 5:]).all(-1))


@both_positions
def test_order_matters(positions):
    """Attention without positions would not depend on the order."""
    split = built(positions=positions)
    swapped = zoo.TOKENS[:, [1, 0, *range(2, 9)]]
    one, other = (zoo.output(split, tokens)[1, 2:] for tokens in (zoo.TOKENS, swapped))
    assert zoo.TOKENS[1, 0] != zoo.TOKENS[1, 1]
    assert not np.any(np.isclose(one, other, atol=1e-3).all(-1))


@pytest.mark.parametrize(
    ("positions", "dtype"), [("learned", None), ("rotary", None), ("rotary", jnp.bfloat16)]
)
def test_reading_in_pieces_with_a_cache_equals_one_pass(positions, dtype):
    split = built(positions=positions, dtype=dtype)

    @jax.jit
    def pieces(state):
        model = nnx.merge(split.graph, state)
        cache, parts = model.start(len(zoo.TOKENS)), []
        for start, end in [(0, 4), (4, 5), (5, 9)]:
            part, cache = model.extend(zoo.TOKENS[:, start:end], cache)
            parts.append(part)
        return jnp.concatenate(parts, 1), cache

    logits, cache = pieces(split.state)
    whole = zoo.output(split, zoo.TOKENS)
    tolerance = 1e-5 if dtype is None else 0.03
    np.testing.assert_allclose(logits, whole, atol=tolerance * np.abs(whole).max())
    assert cache.position == 9
    assert cache.layers[1].keys.dtype == cache.layers[1].values.dtype == (dtype or jnp.float32)


def test_dropout_is_applied_where_nanogpt_applies_it():
    """After the embedding and, per layer, on the attention weights and before both additions."""
    stream, weights = (3, 9, 16), (3, 2, 9, 9)
    drawn = zoo.shapes_drawn(built(dropout=0.5), zoo.TOKENS)
    assert drawn == [stream, *2 * [weights, stream, stream]]


def test_rematerialization_changes_only_memory():
    found = []
    for remat in (False, True):
        split = built(dropout=0.5, layers=1, remat=remat)

        def loss(state, graph=split.graph):
            return jnp.square(zoo.forward(graph, state, zoo.TOKENS, key=zoo.KEYS[0])[0]).mean()

        kept = jax.eval_shape(lambda state, loss=loss: jax.vjp(loss, state)[1], split.state)
        memory = sum(leaf.size for leaf in jax.tree.leaves(kept))
        found.append((memory, jax.tree.leaves(jax.jit(jax.grad(loss))(split.state))))
    (memory, grads), (less, same) = found
    assert less < 0.5 * memory
    for one, other in zip(grads, same, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_tokens_longer_than_the_context_raise():
    model = built().merge()
    with pytest.raises(ValueError, match=r"length in \[1, 12\], the context, got 13"):
        model(jnp.zeros((1, 13), int))
    with pytest.raises(ValueError, match=r"length in \[1, 12\], the context, got 13"):
        model.start(1, 13)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 0}, r"vocabulary must be in \[1, inf\), got 0"),
        ({"context": 0}, r"context must be in \[1, inf\), got 0"),
        ({"layers": 0}, r"layers must be in \[1, inf\), got 0"),
        ({"heads": -1}, r"heads must be in \[1, inf\), got -1"),
        ({"width": 15}, r"width must be a multiple of 2 for 2 heads and learned.*, got 15"),
        (
            {"width": 14, "positions": "rotary"},
            r"width must be a multiple of 4 for 2 heads and rotary positions, got 14",
        ),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        ({"positions": "sinus"}, r"positions must be 'learned' or 'rotary', got 'sinus'"),
    ],
)
def test_bad_configs_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(zoo.CONFIG, **changes)


def test_an_unknown_size_raises_with_the_known_sizes():
    with pytest.raises(ValueError, match=r"size must be '0\.1M' or .*'124M', got 'huge'"):
        TransformerConfig.of_size("huge", 65)
