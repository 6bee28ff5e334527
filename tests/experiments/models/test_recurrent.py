"""The stack equals the language model of Zaremba et al., and takes series too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.counting import parameter_count
from experiments.models.recurrent import Recurrent
from tests.experiments.models import test_gru, test_lstm, zoo


def count(*given, **settings):
    return parameter_count(zoo.shape_of(lambda **rest: Recurrent(*given, **settings, **rest)))


@pytest.mark.parametrize(
    ("width", "exact", "published"),
    [(200, 4_651_600, 5), (650, 19_775_200, 20), (1500, 66_022_000, 66)],
)
def test_the_language_models_have_the_published_parameter_counts(width, exact, published):
    """Later tables give 20M and 66M for the medium and the large model."""
    counted = count(width, 2, vocabulary=10_000)
    assert counted == exact
    assert round(counted / 1e6) == published


def test_gru_layers_have_three_quarters_of_the_parameters():
    lstm, gru = (count(32, 3, cell=cell, features=5, outputs=2) for cell in ("lstm", "gru"))
    head = 33 * 2
    assert gru == 3 * ((5 + 33) * 32 + 2 * (32 + 33) * 32) + head
    assert 3 * (lstm - head) == 4 * (gru - head)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_forward_pass_is_embedding_layers_and_head(cell):
    split = zoo.build(lambda **given: Recurrent(5, 2, cell=cell, vocabulary=11, **given))
    state = zoo.float64(split.state)
    x = state["embedding"]["embedding"][np.asarray(zoo.TOKENS)]
    zeros = np.zeros((3, 5))
    for i in range(2):
        layer = state["layers"][i]
        if cell == "lstm":
            x, *_ = test_lstm.reference(layer, x, zeros, zeros)
        else:
            x, _ = test_gru.reference(layer, x, zeros)
    expected = x @ state["head"]["kernel"] + state["head"]["bias"]
    np.testing.assert_allclose(zoo.output(split, zoo.TOKENS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "x"), [("lstm", zoo.TOKENS), ("gru", zoo.SERIES)])
def test_continuing_from_a_state_equals_one_pass(name, x):
    split = zoo.built(name)

    @jax.jit
    def pieces(state):
        model = nnx.merge(split.graph, state)
        carry, parts = model.start(len(x)), []
        for start, end in [(0, 4), (4, 5), (5, 9)]:
            part, carry = model.extend(x[:, start:end], carry)
            parts.append(part)
        return jnp.concatenate(parts, 1)

    np.testing.assert_allclose(pieces(split.state), zoo.output(split, x), rtol=1e-5, atol=1e-6)


def test_dropout_is_between_layers_and_not_between_time_steps():
    """After the embedding and after each layer, outside of their scans."""
    split = zoo.built("lstm", registry="DROPOUT")
    assert zoo.shapes_drawn(split, zoo.TOKENS) == 3 * [(3, 9, 8)]


def test_outputs_default_to_the_number_of_inputs():
    for given, expected in [
        ({"vocabulary": 11}, 11),
        ({"features": 4}, 4),
        ({"features": 4, "outputs": 2}, 2),
    ]:
        model = zoo.shape_of(lambda **rest: Recurrent(8, **given, **rest))  # noqa: B023
        assert model.head.out_features == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"exactly one of vocabulary and features must be given, got None and None"),
        ({"vocabulary": 3, "features": 4}, r"exactly one of .* got 3 and 4"),
        ({"vocabulary": 0}, r"vocabulary must be in \[1, inf\), got 0"),
        ({"features": 0}, r"features must be in \[1, inf\), got 0"),
        ({"features": 3, "outputs": 0}, r"outputs must be in \[1, inf\), got 0"),
        ({"features": 3, "depth": 0}, r"depth must be in \[1, inf\), got 0"),
        ({"features": 3, "width": 0}, r"width must be in \[1, inf\), got 0"),
        ({"features": 3, "cell": "rnn"}, r"cell must be 'lstm' or 'gru', got 'rnn'"),
    ],
)
def test_bad_arguments_raise(given, message):
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: Recurrent(**{"width": 8, **given}, **rest))
