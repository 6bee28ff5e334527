"""Low-rank changes: the weights that they add up to, and those that are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.low_rank import Frozen, LowRank
from experiments.models.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(vocabulary=7, context=5, layers=1, heads=2, width=4, bias=True)
TOKENS = jnp.array([[0, 3, 6, 1]])


@pytest.fixture(scope="module")
def model():
    return Transformer(CONFIG, rngs=nnx.Rngs(0))


def test_a_change_is_a_product_that_is_added_to_a_matrix(model):
    changed = LowRank(model, 2, rngs=nnx.Rngs(1))
    np.testing.assert_array_equal(changed(TOKENS), model(TOKENS))
    a, b = np.full((4, 2), 0.5, np.float32), np.arange(32, dtype=np.float32).reshape(2, 16)
    _, state = nnx.split(model)
    leaves = jax.tree.leaves(state)
    at = next(i for i, leaf in enumerate(leaves) if leaf is model.blocks[0].hidden.kernel[...])
    changed.left[str(at)][...], changed.right[str(at)][...] = jnp.array(a), jnp.array(b)
    expected = nnx.clone(model)
    expected.blocks[0].hidden.kernel[...] += a @ b
    np.testing.assert_allclose(changed(TOKENS), expected(TOKENS), rtol=1e-6)
    assert not np.allclose(changed(TOKENS), model(TOKENS))


def test_only_the_factors_are_parameters(model):
    changed = LowRank(model, 2, rngs=nnx.Rngs(1))
    # Embeddings of tokens and positions, and four layers: of queries, keys and values, of the
    # attention's output, and two of the perceptron.
    shapes = [(7, 4), (5, 4), (4, 12), (4, 4), (4, 16), (16, 4)]
    assert parameter_count(changed) == sum(2 * (m + n) for m, n in shapes)
    frozen = jax.tree.leaves(nnx.state(changed, Frozen))
    assert sum(leaf.size for leaf in frozen) == parameter_count(model)
    gradient = nnx.grad(lambda changed: changed(TOKENS)[..., 0].sum())(changed)
    assert len(jax.tree.leaves(gradient)) == 12
    factors = {name: jax.tree.leaves(gradient[name]) for name in ("left", "right")}
    assert not any(jnp.any(leaf) for leaf in factors["left"])  # as B is zero
    assert all(jnp.any(leaf) for leaf in factors["right"])


def test_factors_are_random_with_the_variance_of_the_rows():
    wide = Transformer(
        TransformerConfig(vocabulary=2_000, context=5, layers=1, heads=2, width=4),
        rngs=nnx.Rngs(0),
    )
    changed = LowRank(wide, 8, rngs=nnx.Rngs(1))
    (a,) = (a[...] for a in changed.left.values() if a.shape == (2_000, 8))
    # 16,000 numbers: the deviation of the standard deviation is 0.6%.
    np.testing.assert_allclose(a.std(), 2_000**-0.5, rtol=0.03)


def test_a_rank_that_is_not_positive_is_refused(model):
    with pytest.raises(ValueError, match=r"rank must be in \[1, inf\), got 0"):
        LowRank(model, 0, rngs=nnx.Rngs(0))
