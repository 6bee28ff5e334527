"""How many parameters a model has."""

import math

import jax
from flax import nnx


def parameter_count(model: nnx.Module) -> int:
    """Counts the numbers in `nnx.Param`: those shared once, running statistics not at all.

    A model too large to hold is counted by its shapes:

      >>> layer = nnx.eval_shape(lambda: nnx.Linear(100_000, 50_000, rngs=nnx.Rngs(0)))
      >>> parameter_count(layer)
      5000050000
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
