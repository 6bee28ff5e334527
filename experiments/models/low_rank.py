"""A trained language model of which only low-rank changes of its matrices are trained.

    W <- W + A B        A f32[m, rank] ~ N(0, 1/m),  B = 0 f32[rank, n],  for every W of two axes

Training starts at the model, because B is zero. All other weights stay as they are. In this
module's state only A and B are `nnx.Param`; the weights of the model are `Frozen`.

Source: E. Hu et al. 2021, "LoRA", arXiv:2106.09685.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks


class Frozen(nnx.Variable[jax.Array]):
    """A weight that is not trained."""


class LowRank(nnx.Module):
    """Adds trainable changes of a low rank to the matrices of a language model.

    Args:
      model: a `Transformer` without dropout, or in evaluation mode.
      rank: of the changes.
      rngs: random streams for A.

    Example:
      >>> from experiments.models.transformer import Transformer, TransformerConfig
      >>> model = Transformer(TransformerConfig.of_size("0.1M", 65), rngs=nnx.Rngs(0))
      >>> changed, tokens = LowRank(model, 4, rngs=nnx.Rngs(1)), jnp.zeros((5, 20), int)
      >>> bool((changed(tokens) == model(tokens)).all())
      True
    """

    def __init__(self, model: Any, rank: int, *, rngs: nnx.Rngs):
        checks.integer("rank", rank)
        graph, state = nnx.split(model)
        leaves, tree = jax.tree.flatten(state)
        self.context: int = model.context
        self._structure = nnx.static((graph, tree))
        self.weights = nnx.List([Frozen(leaf) for leaf in leaves])
        shapes = {str(i): leaf.shape for i, leaf in enumerate(leaves) if leaf.ndim == 2}
        self.left, self.right = nnx.Dict(), nnx.Dict()
        for name, (m, n) in shapes.items():
            self.left[name] = nnx.Param(m**-0.5 * jax.random.normal(rngs.params(), (m, rank)))
            self.right[name] = nnx.Param(jnp.zeros((rank, n)))

    def merged(self) -> Any:
        """Returns the model with its changed weights, which is faster to sample from."""
        weights = [weight[...] for weight in self.weights]
        for name in self.left:
            weights[int(name)] += self.left[name][...] @ self.right[name][...]
        graph, tree = self._structure
        return nnx.merge(graph, jax.tree.unflatten(tree, weights))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps i32[batch, time] to logits f32[batch, time, vocabulary]."""
        return self.merged()(tokens)
