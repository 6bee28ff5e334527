"""Dropout (Srivastava et al. 2014, JMLR 15:1929) with the random key as an argument.

In training, each number is set to zero with probability `rate` and divided by 1 - rate otherwise.

Our models own parameters and statistics but no random state. Checkpoints and optimizers therefore
contain no keys, and in a population the caller assigns a key to each agent.
`model.train()` and `model.eval()` switch dropout as they do for `nnx.Dropout`.
"""

from collections.abc import Sequence

import jax
from flax import nnx

from experiments.models import checks


class Dropout(nnx.Module):
    """Sets random numbers to zero in training.

    Args:
      rate: probability of a zero, in [0, 1).
      broadcast_dims: axes that share one draw.

    Raises:
      ValueError: in training, when `rate` is not zero and no key is given.

    Example:
      >>> import jax.numpy as jnp
      >>> layer = Dropout(0.5)
      >>> layer(jnp.ones(8), jax.random.key(0)).max()
      Array(2., dtype=float32)
      >>> layer.eval()
      >>> layer(jnp.ones(8), None).max()
      Array(1., dtype=float32)
    """

    def __init__(self, rate: float, *, broadcast_dims: Sequence[int] = ()):
        self.layer = nnx.Dropout(checks.rate("dropout", rate), broadcast_dims=tuple(broadcast_dims))

    @property
    def active(self) -> bool:
        """True if a call changes its input."""
        return self.layer.rate > 0 and not self.layer.deterministic

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Maps f[...] to f[...] of the same shape and dtype."""
        if not self.active:
            return x
        if key is None:
            raise ValueError(
                f"key must be given in training with a dropout of {self.layer.rate}, got None; "
                "call model.eval() for predictions"
            )
        return self.layer(x, rngs=key)


def split(key: jax.Array | None, number: int) -> list[jax.Array | None]:
    """Splits a key into one per layer; None gives None for each."""
    return [None] * number if key is None else list(jax.random.split(key, number))
