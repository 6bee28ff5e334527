"""Parameter counts of models."""

import math

import jax
from flax import nnx


def parameter_count(model: nnx.Module) -> int:
    """Counts the numbers in `nnx.Param`; shared parameters count once.

    A model that does not fit in memory is counted by its shapes:

      >>> layer = nnx.eval_shape(lambda: nnx.Linear(100_000, 50_000, rngs=nnx.Rngs(0)))
      >>> parameter_count(layer)
      5000050000
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
