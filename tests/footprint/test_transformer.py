"""FLOPs of a transformer, compared with the standard formula.

Kaplan et al. 2020 (arXiv:2001.08361), Chowdhery et al. 2022 (arXiv:2204.02311, appendix B):
a training step costs 6N + 12 L d T FLOPs a token, with N parameters, L layers of width d and
a context of T. N counts every matrix that multiplies: the output head is included, and a token
embedding only if it is tied to the head. A position table is excluded. Attention is
counted in full, masked or not.
"""

import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments.models.transformer import Transformer, TransformerConfig
from jaxdescent.footprint import flops

BATCH, VOCABULARY = 4, 65


def norm(x, scale, bias):
    centered = x - jnp.mean(x, -1, keepdims=True)
    return scale * centered * jax.lax.rsqrt(jnp.mean(centered**2, -1, keepdims=True) + 1e-5) + bias


def attention(x, params, heads):
    batch, time, width = x.shape
    split = (batch, time, heads, width // heads)
    q, k, v = (y.reshape(split) for y in jnp.split(x @ params["qkv"], 3, axis=-1))
    scores = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(width // heads)
    scores = jnp.where(jnp.tril(jnp.ones((time, time), bool)), scores, -1e9)
    mixed = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores), v)
    return mixed.reshape(x.shape) @ params["projection"]


def block(x, params, heads):
    x = x + attention(norm(x, *params["norms"][0]), params, heads)
    hidden = jax.nn.gelu(norm(x, *params["norms"][1]) @ params["hidden"])
    return x + hidden @ params["output"]


def loss(params, tokens, heads, stacked):
    x = params["embedding"][tokens] + params["positions"]
    if stacked:
        x, _ = jax.lax.scan(lambda x, layer: (block(x, layer, heads), None), x, params["layers"])
    else:
        for layer in params["layers"]:
            x = block(x, layer, heads)
    logits = norm(x, *params["norm"]) @ params.get("head", params["embedding"]).T
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)
    return -jnp.mean(picked)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def parameters(layers, width, context, tied, stacked):
    """Returns the shapes of the parameters, and the number of parameters that multiply."""
    layer = {
        "qkv": shape(width, 3 * width),
        "projection": shape(width, width),
        "hidden": shape(width, 4 * width),
        "output": shape(4 * width, width),
        "norms": [(shape(width), shape(width))] * 2,
    }

    def stack(leaf):
        return shape(layers, *leaf.shape)

    params = {
        "embedding": shape(VOCABULARY, width),
        "positions": shape(context, width),
        "layers": jax.tree.map(stack, layer) if stacked else [layer] * layers,
        "norm": (shape(width), shape(width)),
        **({} if tied else {"head": shape(VOCABULARY, width)}),
    }
    return params, 12 * layers * width**2 + VOCABULARY * width


def per_token(layers, width, context, n):
    return 6 * n + 12 * layers * width * context


def number_of(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("stacked", [False, True], ids=["looped", "scanned"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_training_step_costs_6n_and_12ldt_a_token(tied, stacked):
    layers, width, context, heads = 3, 64, 48, 4
    params, multiplying = parameters(layers, width, context, tied, stacked)
    tokens = jax.ShapeDtypeStruct((BATCH, context), jnp.int32)

    def function(params, tokens):
        return loss(params, tokens, heads, stacked)

    counted = flops(jax.value_and_grad(function), params, tokens)

    # Exact for the parameters that multiply.
    a_token = counted.dense / (BATCH * context)
    assert a_token == per_token(layers, width, context, multiplying)
    assert counted.unknown == ()
    # Within 2% for all parameters except position tables and untied token tables.
    tables = context * width + (0 if tied else VOCABULARY * width)
    everything = per_token(layers, width, context, number_of(params) - tables)
    assert a_token == pytest.approx(everything, rel=0.02)
    # The forward pass is a third of the step.
    assert flops(function, params, tokens).dense * 3 == counted.dense


def test_rematerialized_blocks_cost_almost_one_more_forward_pass():
    params, _ = parameters(3, 64, 48, True, True)
    tokens = jax.ShapeDtypeStruct((BATCH, 48), jnp.int32)

    def with_remat(params, tokens):
        run = jax.checkpoint(lambda x, layer: (block(x, layer, 4), None))
        x = params["embedding"][tokens] + params["positions"]
        x, _ = jax.lax.scan(run, x, params["layers"])
        return jnp.mean(x**2)

    forward = flops(with_remat, params, tokens).dense
    # The last product of a block is not recomputed, as no gradient needs its result.
    last = 3 * 2 * (BATCH * 48) * (4 * 64) * 64
    assert flops(jax.grad(with_remat), params, tokens).dense == 4 * forward - last


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("size", ["0.1M", "0.8M", "124M"])
def test_the_transformer_of_the_experiments_is_within_two_percent(size, positions):
    config = TransformerConfig.of_size(size, vocabulary=VOCABULARY, positions=positions)
    model = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    definition, params = nnx.split(model)

    def negative_log_likelihood(params, tokens):
        logits = nnx.merge(definition, params)(tokens)
        return -jnp.mean(jax.nn.log_softmax(logits)[..., 0])

    tokens = jax.ShapeDtypeStruct((BATCH, config.context), jnp.int32)
    counted = flops(jax.value_and_grad(negative_log_likelihood), params, tokens)
    table = config.context * config.width if positions == "learned" else 0
    expected = per_token(config.layers, config.width, config.context, number_of(params) - table)
    assert counted.dense / (BATCH * config.context) == pytest.approx(expected, rel=0.02)
    assert counted.unknown == ()
