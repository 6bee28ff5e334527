"""Tiny versions of every model, with inputs; a new model is registered by one line."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.cnn import CNN
from experiments.models.mlp import MLP
from experiments.models.recurrent import Recurrent
from experiments.models.resnet import ResNet
from experiments.models.tcn import TCN
from experiments.models.transformer import Transformer, TransformerConfig
from jaxdescent.jax_internals import jaxprs_in_params

# The random generator that compiles fastest.
KEYS = [jax.random.key(seed, impl="rbg") for seed in range(2)]

CONFIG = TransformerConfig(vocabulary=11, context=12, layers=1, heads=2, width=16)
ROTARY = TransformerConfig(11, 12, 1, 2, 16, positions="rotary")

numbers = np.random.default_rng(0)
IMAGES = numbers.normal(size=(3, 10, 10, 2)).astype(np.float32)
SERIES = numbers.normal(size=(3, 9, 4)).astype(np.float32)
TOKENS = numbers.integers(11, size=(3, 9)).astype(np.int32)

MODELS = {
    "mlp": (lambda **given: MLP([4, 8, 3], **given), SERIES),
    "cnn": (lambda **given: CNN((10, 10, 2), (5, 6), 3, **given), IMAGES),
    "resnet": (lambda **given: ResNet(8, channels=2, classes=3, **given), IMAGES),
    "learned positions": (lambda **given: Transformer(CONFIG, **given), TOKENS),
    "rotary positions": (lambda **given: Transformer(ROTARY, **given), TOKENS),
    "lstm": (lambda **given: Recurrent(8, vocabulary=11, **given), TOKENS),
    "gru": (lambda **given: Recurrent(8, cell="gru", features=4, **given), SERIES),
    "tcn": (lambda **given: TCN(4, [5, 5, 6], 3, kernel=3, **given), SERIES),
}


def _dropping(dropout=0.5, **given):
    return Transformer(TransformerConfig(11, 12, 2, 2, 16, dropout=dropout), **given)


def _dropping_lstm(dropout=0.5, **given):
    return Recurrent(8, 2, vocabulary=11, dropout=dropout, **given)


DROPOUT = {
    "cnn": (
        lambda dropout=0.5, **given: CNN((10, 10, 2), (5,), 3, dropout=dropout, **given),
        IMAGES,
    ),
    "transformer": (_dropping, TOKENS),
    "lstm": (_dropping_lstm, TOKENS),
    "tcn": (lambda dropout=0.5, **given: TCN(4, [5, 5], 3, dropout=dropout, **given), SERIES),
}


class Split(NamedTuple):
    """A model in functional form.

    Attributes:
      graph: its structure.
      state: its parameters and statistics.
    """

    graph: nnx.GraphDef
    state: nnx.State

    def merge(self):
        return nnx.merge(self.graph, self.state)


def build(factory, seed=0, **given):
    """A model whose parameters all differ from their initial values.

    NumPy draws them: JAX would compile a program for each model.
    """
    graph, shapes = nnx.split(shape_of(factory, **given))
    numbers = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-2].key
        x = numbers.normal(size=leaf.shape)
        if name in ("bias", "mean"):
            x = 0.2 * x
        elif name in ("scale", "var", "gain"):
            x = np.exp(0.2 * x)
        elif name == "embedding":
            x = 0.5 * x
        else:
            x = x / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(x.astype(leaf.dtype))

    return Split(graph, jax.tree_util.tree_map_with_path(draw, shapes))


@cache
def built(name, seed=0, dtype=None, registry="MODELS"):
    factory, _ = globals()[registry][name]
    return build(factory, seed, dtype=dtype)


def shape_of(factory, **given):
    """Returns a model of shapes, which takes no memory."""
    return nnx.eval_shape(lambda: factory(rngs=nnx.Rngs(0), **given))


def initialized(factory, **given):
    """Returns the initial state of the model."""
    graph, _ = nnx.split(shape_of(factory, **given))
    draw = jax.jit(lambda key: nnx.split(factory(rngs=nnx.Rngs(key), **given))[1])
    return Split(graph, draw(KEYS[0]))


def forward(graph, state, x, **given):
    """Returns outputs and the new state."""
    model = nnx.merge(graph, state)
    y = model(x, **given)
    return y, nnx.state(model)


# One function, so that tests share compiled programs.
run = jax.jit(forward, static_argnums=0)


def output(split, x, **given):
    return np.asarray(run(*split, x, **given)[0])


def equations(jaxpr):
    """Yields every equation, including nested ones."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def shapes_drawn(split, x):
    """Returns the shapes of the random draws of a call, outside of scan bodies."""
    jaxpr = jax.make_jaxpr(lambda key: forward(*split, x, key=key)[0])(KEYS[0]).jaxpr
    jaxpr = jaxpr.replace(eqns=[e for e in jaxpr.eqns if e.primitive.name != "scan"])
    drawn = [e for e in equations(jaxpr) if e.primitive.name == "random_bits"]
    return [e.outvars[0].aval.shape for e in drawn]


def stacked(*states):
    """Stacks states along a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *states)


def assert_row(many, index, one, **tolerance):
    """Row `index` of a stacked state is `one`."""
    for (path, row), leaf in zip(
        jax.tree_util.tree_leaves_with_path(many), jax.tree.leaves(one), strict=True
    ):
        np.testing.assert_allclose(np.asarray(row)[index], leaf, err_msg=str(path), **tolerance)


def float64(state):
    """The state as nested dicts of float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(state))
