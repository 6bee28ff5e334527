"""Causal self-attention (Vaswani et al. 2017, arXiv:1706.03762) with a cache for sampling.

    q, k, v = split(x W);  out = dropout(softmax(q k^T / sqrt(head width))) v W_out

for each head. A position attends to itself and to earlier positions. Rotary positions (Su et al.
2021, arXiv:2104.09864) rotate pairs of features of q and k by an angle proportional to the
position, so that q k^T depends only on the distance between two positions. Feature i of the first
half of a head is paired with feature i of the second half.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from experiments.models.dropout import Dropout
from experiments.models.precision import at_least_float32

NORMAL = nnx.initializers.normal(0.02)


class KeysAndValues(NamedTuple):
    """Cached keys and values that later positions attend to; unwritten positions hold zeros.

    Attributes:
      keys: f[batch, length, heads, head width].
      values: f[batch, length, heads, head width].
    """

    keys: jax.Array
    values: jax.Array


class Attention(nnx.Module):
    """Causal self-attention.

    Args:
      width: number of input and output features; a multiple of `heads`.
      heads: number of attention heads.
      rotary: True to rotate queries and keys by their positions.
      bias: True to add a bias to both projections.
      dropout: dropout rate of the attention weights, in [0, 1).
      output_init: initializer of the output projection.
      dtype: dtype of the computation; None for the dtype of inputs and parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> layer = Attention(16, 2, rotary=True, rngs=nnx.Rngs(0))
      >>> layer(jnp.zeros((5, 20, 16))).shape
      (5, 20, 16)
      >>> first, cache = layer.extend(jnp.zeros((5, 7, 16)), layer.start(5, 20), 0)
      >>> first.shape, cache.keys.shape
      ((5, 7, 16), (5, 20, 2, 8))
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rotary: bool = False,
        bias: bool = False,
        dropout: float = 0.0,
        output_init: jax.nn.initializers.Initializer = NORMAL,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check_divisible(width, heads, rotary=rotary)
        self.heads = heads
        self.rotary = rotary
        self.dtype = checks.dtype("dtype", dtype)
        self.inputs = nnx.Linear(
            width, 3 * width, use_bias=bias, dtype=dtype, kernel_init=NORMAL, rngs=rngs
        )
        self.output = nnx.Linear(
            width, width, use_bias=bias, dtype=dtype, kernel_init=output_init, rngs=rngs
        )
        self.dropout = Dropout(dropout)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps f[batch, time, width] to f[batch, time, width].

        Args:
          x: inputs at positions 0, 1, ...
          key: random key of dropout; required in training if the dropout rate is not zero.
        """
        q, k, v = self._project(x, jnp.arange(x.shape[-2]))
        if self.dropout.active:
            return self._join(self._attend_with_dropout(q, k, v, key))
        return self._join(jax.nn.dot_product_attention(q, k, v, is_causal=True))

    def start(self, batch: int, length: int) -> KeysAndValues:
        """Returns a cache for `length` positions."""
        width = self.output.in_features
        shape = batch, length, self.heads, width // self.heads
        # jnp.zeros would default to float64 if x64 is enabled.
        dtype = self.dtype or self.inputs.kernel[...].dtype
        return KeysAndValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def extend(
        self, x: jax.Array, cache: KeysAndValues, position: jax.Array | int
    ) -> tuple[jax.Array, KeysAndValues]:
        """Attends from new positions to themselves and to the cached positions.

        Args:
          x: f[batch, time, width], inputs at `position`, `position` + 1, ...
          cache: cache of the earlier positions, with room for the new ones.
          position: position of the first input.

        Returns:
          Outputs f[batch, time, width], and the cache with the new positions.
        """
        positions = position + jnp.arange(x.shape[-2])
        q, k, v = self._project(x, positions)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, axis=1)
            for old, new in zip(cache, (k, v), strict=True)
        )
        visible = jnp.arange(keys.shape[1]) <= positions[:, None]
        attended = jax.nn.dot_product_attention(q, keys, values, mask=visible[None, None])
        return self._join(attended), KeysAndValues(keys, values)

    def _project(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, ...]:
        projected = self.inputs(x)
        q, k, v = (
            part.reshape(*part.shape[:-1], self.heads, -1)
            for part in jnp.split(projected, 3, axis=-1)
        )
        if not self.rotary:
            return q, k, v
        return rotate(q, positions), rotate(k, positions), v

    def _join(self, x: jax.Array) -> jax.Array:
        return self.output(x.reshape(*x.shape[:-2], -1))

    def _attend_with_dropout(
        self, q: jax.Array, k: jax.Array, v: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        # jax.nn.dot_product_attention lacks dropout of the weights, which nanoGPT uses.
        scores = at_least_float32(jnp.einsum("...qhd,...khd->...hqk", q, k))
        scores /= math.sqrt(q.shape[-1])
        visible = jnp.tri(scores.shape[-1], dtype=bool)
        weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
        weights = self.dropout(weights.astype(v.dtype), key)
        return jnp.einsum("...hqk,...khd->...qhd", weights, v)


def check_divisible(width: int, heads: int, *, rotary: bool) -> None:
    """Raises ValueError unless the width divides among the heads, in pairs for rotary positions.

    Example:
      >>> check_divisible(18, 6, rotary=True)
      Traceback (most recent call last):
      ValueError: width must be a multiple of 12 for 6 heads and rotary positions, got 18
    """
    checks.integer("width", width)
    factor = checks.integer("heads", heads) * (2 if rotary else 1)
    if width % factor:
        kind = "rotary" if rotary else "learned"
        raise ValueError(
            f"width must be a multiple of {factor} for {heads} heads and {kind} positions, "
            f"got {width}"
        )


def rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotates pair i of the features of a head by position / 10_000^(2 i / head width).

    Args:
      x: f[batch, time, heads, head width]; the head width is even.
      positions: i32[time].

    Example:
      >>> rotated = rotate(jnp.ones((1, 3, 1, 4)), jnp.arange(3))
      >>> bool(jnp.allclose(jnp.square(rotated).sum(-1), 4))
      True
    """
    half = x.shape[-1] // 2
    frequencies = 10_000.0 ** -(jnp.arange(half) / half)
    angles = positions[:, None, None] * frequencies
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(at_least_float32(x), 2, axis=-1)
    rotated = first * cosine - second * sine, first * sine + second * cosine
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
