"""Each check names the argument, its value and the allowed range."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import checks


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(2)])
def test_integers_are_returned_as_int(value):
    checked = checks.integer("width", value)
    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize(("value", "low"), [(0, 1), (-3, 1), (1, 2)])
def test_an_integer_below_the_range_is_a_value_error(value, low):
    with pytest.raises(ValueError, match=re.escape(f"width must be in [{low}, inf), got {value}")):
        checks.integer("width", value, low)


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.True_, [1], np.float32(2)])
def test_a_value_that_is_not_an_integer_is_a_type_error(value):
    with pytest.raises(TypeError, match=re.escape(f"width must be an integer, got {value!r}")):
        checks.integer("width", value)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1 - 2**-53])
def test_a_rate_is_in_zero_to_one(value):
    assert checks.rate("dropout", value) == value


@pytest.mark.parametrize("value", [-1e-9, 1, 1.5])
def test_a_rate_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError, match=re.escape(f"dropout must be in [0, 1), got {value}")):
        checks.rate("dropout", value)


def test_a_word_that_is_not_allowed_raises_with_the_allowed_words():
    assert checks.choice("cell", "gru", ("lstm", "gru")) == "gru"
    with pytest.raises(ValueError, match=r"cell must be 'lstm' or 'gru', got 'rnn'"):
        checks.choice("cell", "rnn", ("lstm", "gru"))


@pytest.mark.parametrize("value", [jnp.bfloat16, "bfloat16", np.dtype(jnp.bfloat16)])
def test_a_dtype_is_returned_in_canonical_form(value):
    """Otherwise two equal models would compile twice."""
    assert type(checks.dtype("dtype", value)) is type(np.dtype(jnp.bfloat16))
    assert checks.dtype("dtype", None) is None
