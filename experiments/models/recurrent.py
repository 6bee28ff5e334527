"""A stack of LSTM or GRU layers between an embedding and a linear head.

    x -> embedding -> dropout -> [layer -> dropout] for each of `depth` -> linear

This is the language model of Zaremba et al. 2014 (arXiv:1409.2329). Dropout is applied between
layers, never between time steps. Their Penn Treebank models have a vocabulary of 10,000 and a depth
of 2: "medium" has width 650 and 19,775,200 parameters (20M in later tables, as in Merity et al.
2016, arXiv:1609.07843), and "large" has width 1500 and 66,022,000 parameters (66M). The embedding
and all layers have the same width. Numeric series skip the embedding.
"""

from typing import Any

import jax
from flax import nnx

from experiments.models import checks
from experiments.models.dropout import Dropout, split
from experiments.models.gru import GRU
from experiments.models.lstm import LSTM
from experiments.models.precision import at_least_float32

_CELLS = {"lstm": LSTM, "gru": GRU}


class Recurrent(nnx.Module):
    """A recurrent network for tokens or numeric series.

    Args:
      width: width of the embedding and of every layer.
      depth: number of layers.
      cell: "lstm" or "gru".
      vocabulary: number of tokens, for inputs i32[batch, time].
      features: number of features, for inputs f32[batch, time, features]. Pass exactly one of
        `vocabulary` and `features`.
      outputs: number of outputs per time step; by default the vocabulary or the features.
      dropout: dropout rate between layers, in [0, 1).
      dtype: dtype of the computation, such as `jnp.bfloat16`; None for the dtype of inputs and
        parameters.
      rngs: random streams for the initial weights.

    Example:
      >>> import jax.numpy as jnp
      >>> text = Recurrent(16, 2, vocabulary=65, rngs=nnx.Rngs(0))
      >>> text(jnp.zeros((5, 20), int)).shape
      (5, 20, 65)
      >>> series = Recurrent(16, cell="gru", features=3, outputs=1, rngs=nnx.Rngs(0))
      >>> series(jnp.zeros((5, 20, 3))).shape
      (5, 20, 1)
    """

    def __init__(
        self,
        width: int,
        depth: int = 1,
        *,
        cell: str = "lstm",
        vocabulary: int | None = None,
        features: int | None = None,
        outputs: int | None = None,
        dropout: float = 0.0,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        checks.integer("width", width)
        layer = _CELLS[checks.choice("cell", cell, _CELLS)]
        dtype = checks.dtype("dtype", dtype)
        if (vocabulary is None) == (features is None):
            raise ValueError(
                "exactly one of vocabulary and features must be given, "
                f"got {vocabulary!r} and {features!r}"
            )
        if vocabulary is None:
            self.embedding = None
            first = checks.integer("features", features)
        else:
            checks.integer("vocabulary", vocabulary)
            self.embedding = nnx.Embed(vocabulary, width, dtype=dtype, rngs=rngs)
            first = width
        sizes = [first]
        sizes += [width] * (checks.integer("depth", depth) - 1)
        self.layers = nnx.List([layer(size, width, dtype=dtype, rngs=rngs) for size in sizes])
        self.dropout = Dropout(dropout)
        if outputs is None:
            outputs = vocabulary or first
        checks.integer("outputs", outputs)
        self.head = nnx.Linear(width, outputs, dtype=dtype, rngs=rngs)

    def start(self, batch: int, length: int | None = None) -> Any:
        """Returns the initial state, zeros; its size does not depend on the length."""
        del length
        return tuple(layer.start(batch) for layer in self.layers)

    def extend(
        self, x: jax.Array, state: Any, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """Continues from a state, as truncated backpropagation through time does.

        Args:
          x: i32[batch, time], or f32[batch, time, features].
          state: a state from `start` or from an earlier call.
          key: random key of dropout; required in training if the dropout rate is not zero.

        Returns:
          Outputs f32[batch, time, outputs], and the final state.
        """
        first, *keys = split(key, len(self.layers) + 1)
        if self.embedding is not None:
            x = self.embedding(x)
        x = self.dropout(x, first)
        states = []
        for layer, carry, key in zip(self.layers, state, keys, strict=True):
            x, carry = layer(x, carry)
            x = self.dropout(x, key)
            states.append(carry)
        return at_least_float32(self.head(x)), tuple(states)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps i32[batch, time] or f32[batch, time, features] to f32[batch, time, outputs]."""
        return self.extend(x, self.start(len(x)), key=key)[0]
