"""A decoder-only transformer with the architecture of A. Karpathy's nanoGPT (2022).

    x = embedding[tokens] + positions
    x <- x + attention(norm(x)),  x <- x + W2 gelu(W1 norm(x))      for each of `layers`
    logits = norm(x) embedding^T

This is GPT-2 (Radford et al. 2019) with optional biases: pre-layer normalization with an epsilon
of 1e-5; the exact GELU; dropout after the embedding, of the attention weights and before both
additions to the residual stream; weights N(0, 0.02), divided by sqrt(2 layers) for the two
projections onto the residual stream. nanoGPT's published losses therefore apply.

`positions` is the only modern option: "learned" adds a table, "rotary" rotates queries and keys
(see `attention`). RMSNorm and gated activations are left out on purpose, so that two models
differ in one respect.

Blocks are a Python loop over separate parameters instead of a scan over stacked parameters, so
that a tower can give each leaf its own learning rate.
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from experiments.models.attention import NORMAL, Attention, KeysAndValues, check_divisible
from experiments.models.dropout import Dropout, split
from experiments.models.precision import at_least_float32

SIZES: dict[str, dict[str, Any]] = {
    "0.1M": {"layers": 2, "heads": 2, "width": 64, "context": 64},
    "0.8M": {"layers": 4, "heads": 4, "width": 128, "context": 64},
    "3M": {"layers": 4, "heads": 4, "width": 256, "context": 128},
    "11M": {"layers": 6, "heads": 6, "width": 384, "context": 256},
    "25M": {"layers": 8, "heads": 8, "width": 512, "context": 512},
    "124M": {"layers": 12, "heads": 12, "width": 768, "context": 1024},
}
"""0.8M and 11M are nanoGPT's character models (for CPU and GPU), 124M is GPT-2 small."""


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer; `TransformerConfig.of_size` gives predefined ones.

    Attributes:
      vocabulary: number of tokens.
      context: longest sequence.
      layers: number of blocks.
      heads: number of heads of each attention layer.
      width: width of the residual stream; a multiple of `heads`, by an even factor for
        "rotary".
      dropout: dropout rate, in [0, 1).
      bias: True to add biases to linear and normalization layers, as GPT-2 does.
      positions: "learned" or "rotary".

    Raises:
      ValueError: an attribute is out of range.
    """

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    dropout: float = 0.0
    bias: bool = False
    positions: str = "learned"

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers"):
            checks.integer(name, getattr(self, name))
        checks.rate("dropout", self.dropout)
        checks.choice("positions", self.positions, ("learned", "rotary"))
        check_divisible(self.width, self.heads, rotary=self.positions == "rotary")

    @classmethod
    def of_size(cls, size: str, vocabulary: int, **changes: Any) -> "TransformerConfig":
        """Returns a config of `SIZES`, with changes.

        Example:
          >>> TransformerConfig.of_size("0.8M", vocabulary=65, dropout=0.2).width
          128
        """
        named = SIZES[checks.choice("size", size, SIZES)]
        settings: dict[str, Any] = {**named, "vocabulary": vocabulary, **changes}
        return cls(**settings)


class Cache(NamedTuple):
    """Cache of the tokens read so far.

    Attributes:
      layers: keys and values of each block.
      position: i32[], number of tokens read.
    """

    layers: tuple[KeysAndValues, ...]
    position: jax.Array


class Transformer(nnx.Module):
    """Computes the logits of the next token at every position.

    Args:
      config: sizes of the model.
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      remat: True to recompute the activations of each block in the backward pass: less memory
        for a third more computation (XLA on CPU undoes it).
      rngs: random streams for the initial weights.

    Example:
      >>> model = Transformer(TransformerConfig.of_size("0.1M", 65), rngs=nnx.Rngs(0))
      >>> model(jnp.zeros((5, 20), int)).shape
      (5, 20, 65)
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.remat = remat
        dtype = checks.dtype("dtype", dtype)
        embed = partial(
            nnx.Embed, features=config.width, dtype=dtype, embedding_init=NORMAL, rngs=rngs
        )
        self.embedding = embed(config.vocabulary)
        self.positions = embed(config.context) if config.positions == "learned" else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nnx.List(
            [_Block(config, dtype=dtype, rngs=rngs) for _ in range(config.layers)]
        )
        self.norm = _norm(config, rngs)

    @property
    def context(self) -> int:
        """The longest sequence."""
        return self.config.context

    def __call__(self, tokens: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps i32[batch, time] to logits f32[batch, time, vocabulary].

        Args:
          tokens: token ids.
          key: random key of dropout; required in training if the dropout rate is not zero.

        Raises:
          ValueError: `tokens` are longer than the context.
        """
        self._fits(tokens.shape[-1])
        first, *keys = split(key, 1 + len(self.blocks))
        x = self.dropout(self._embed(tokens, jnp.arange(tokens.shape[-1])), first)
        run = nnx.remat(_run) if self.remat else _run
        for block, own in zip(self.blocks, keys, strict=True):
            x = run(block, x, own)
        return self._logits(x)

    def start(self, batch: int, length: int | None = None) -> Cache:
        """Returns an empty cache with room for `length` tokens, by default the context."""
        length = self.context if length is None else checks.integer("length", length)
        self._fits(length)
        layers = tuple(block.attention.start(batch, length) for block in self.blocks)
        return Cache(layers, jnp.zeros((), jnp.int32))

    def extend(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads further tokens without dropout, attending to the cached ones.

        Args:
          tokens: i32[batch, time]; the cache must have room for them.
          cache: a cache from `start` or from an earlier call.

        Returns:
          Logits f32[batch, time, vocabulary], and the cache with these tokens.
        """
        time = tokens.shape[-1]
        x = self._embed(tokens, cache.position + jnp.arange(time))
        layers = []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x, layer = block.extend(x, layer, cache.position)
            layers.append(layer)
        return self._logits(x), Cache(tuple(layers), cache.position + time)

    def _fits(self, length: int) -> None:
        if length > self.context:
            raise ValueError(
                f"a text must have a length in [1, {self.context}], the context, got {length}"
            )

    def _embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        x = self.embedding(tokens)
        return x if self.positions is None else x + self.positions(positions)

    def _logits(self, x: jax.Array) -> jax.Array:
        return at_least_float32(self.embedding.attend(self.norm(x)))


def _run(block: "_Block", x: jax.Array, key: jax.Array | None) -> jax.Array:
    return block(x, key)


class _Block(nnx.Module):
    def __init__(
        self, config: TransformerConfig, *, dtype: jax.typing.DTypeLike | None, rngs: nnx.Rngs
    ):
        width = config.width
        onto_residual = nnx.initializers.normal(0.02 / math.sqrt(2 * config.layers))
        linear = partial(nnx.Linear, use_bias=config.bias, dtype=dtype, rngs=rngs)
        self.attention_norm = _norm(config, rngs)
        self.attention = Attention(
            width,
            config.heads,
            rotary=config.positions == "rotary",
            bias=config.bias,
            dropout=config.dropout,
            output_init=onto_residual,
            dtype=dtype,
            rngs=rngs,
        )
        self.hidden_norm = _norm(config, rngs)
        self.hidden = linear(width, 4 * width, kernel_init=NORMAL)
        self.output = linear(4 * width, width, kernel_init=onto_residual)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        weights, first, second = split(key, 3)
        x += self.dropout(self.attention(self.attention_norm(x), key=weights), first)
        return x + self.dropout(self._feed_forward(x), second)

    def extend(
        self, x: jax.Array, cache: KeysAndValues, position: jax.Array
    ) -> tuple[jax.Array, KeysAndValues]:
        attended, cache = self.attention.extend(self.attention_norm(x), cache, position)
        x += attended
        return x + self._feed_forward(x), cache

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        return self.output(jax.nn.gelu(self.hidden(self.hidden_norm(x)), approximate=False))


def _norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Without dtype the output is float32; the next product rounds it.
    return nnx.LayerNorm(config.width, epsilon=1e-5, use_bias=config.bias, rngs=rngs)
