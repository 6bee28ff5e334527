"""Each parameter is counted once; other state is not counted."""

import jax
from flax import nnx

from experiments.models.counting import parameter_count


def test_statistics_and_keys_are_not_counted():
    class Model(nnx.Module):
        def __init__(self, *, rngs):
            self.linear = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    assert parameter_count(Model(rngs=nnx.Rngs(0))) == 3 * 4 + 4 + 2 * 4


def test_a_shared_parameter_counts_once():
    class Model(nnx.Module):
        def __init__(self, *, rngs):
            self.one = nnx.Linear(3, 3, rngs=rngs)
            self.two = self.one

    assert parameter_count(Model(rngs=nnx.Rngs(0))) == 12


def test_a_scalar_counts_as_one_and_shapes_are_counted_too():
    class Model(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jax.numpy.ones(()))

    assert parameter_count(nnx.eval_shape(Model)) == 1
