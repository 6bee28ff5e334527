"""Each check says which argument is wrong, what came, and what is allowed."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdescent import validation


def saying(*parts):
    """A pattern for a message that holds every part, in any order."""
    return re.compile("".join(f"(?=.*{re.escape(part)})" for part in parts), re.DOTALL)


@pytest.mark.parametrize(
    "value", [2, 0.5, [1, 2.5], np.float32(0.5), jnp.ones(3), jnp.bfloat16(0.5), np.int8(3)]
)
def test_real_numbers_come_back_in_float64(value):
    array = validation.finite_array("rate", value)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.asarray(value, np.float64))


@pytest.mark.parametrize(
    "value", ["0.1", None, 1j, True, [True], [[1], [1, 2]], {"a": 1.0}, len, object(), b"1"]
)
def test_what_is_no_real_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=saying("rate", "a real number", repr(value))):
        validation.finite_array("rate", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, [1.0, np.nan], jnp.float32(np.inf)])
def test_a_number_that_is_not_finite_is_a_value_error(value):
    with pytest.raises(ValueError, match=saying("rate", "finite", repr(value))):
        validation.finite_array("rate", value)


def test_a_checked_array_is_a_copy():
    given = np.array([1.0, 2.0])
    checked = validation.finite_array("rate", given)
    given[0] = -1.0
    np.testing.assert_array_equal(checked, [1.0, 2.0])


@pytest.mark.parametrize("value", [1e-300, 0.5, 1 - 2**-53, [0.1, 0.9]])
def test_the_open_interval_holds_its_inside(value):
    np.testing.assert_array_equal(validation.open_interval("b1", value, 0.0, 1.0), value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1, -0.1, 1.5, [0.5, 1.0]])
def test_the_open_interval_excludes_its_ends_and_all_beyond(value):
    with pytest.raises(ValueError, match=saying("b1", "(0, 1)", f"got {value!r}")):
        validation.open_interval("b1", value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "interval"), [(0, np.inf, "(0, inf)"), (-np.inf, 1e-3, "(-inf, 0.001)")]
)
def test_an_open_interval_may_have_no_end(low, high, interval):
    outside = low if np.isfinite(low) else high
    with pytest.raises(ValueError, match=saying("rate", interval, f"got {outside!r}")):
        validation.open_interval("rate", outside, low, high)


def test_a_hint_follows_the_value():
    with pytest.raises(ValueError, match=r"got -1; wrap it$"):
        validation.open_interval("rate", -1, 0.0, 1.0, hint="wrap it")


@pytest.mark.parametrize(
    ("value", "error", "parts"),
    [
        ([("a", 1)], TypeError, ["must be a mapping of names", "got [('a', 1)]"]),
        (None, TypeError, ["must be a mapping of names", "got None"]),
        ({}, ValueError, ["at least one", "got {}"]),
        ({"a": 1, 2: 1}, TypeError, ["strings as keys", "got 2"]),
    ],
)
def test_a_mapping_has_strings_as_keys_and_is_not_empty(value, error, parts):
    with pytest.raises(error, match=saying("tune", *parts)):
        validation.mapping("tune", value, "names")


def test_a_good_mapping_is_given_back_as_it_is():
    given = {"a": 1}
    assert validation.mapping("tune", given, "names") is given


@pytest.mark.parametrize(
    "tx", [optax.GradientTransformation(lambda p: (), lambda u, s, p: (u, s)), optax.sgd(1.0)]
)
def test_every_transformation_then_takes_extra_arguments(tx):
    checked = validation.transformation("tx", tx)
    updates, _ = checked.update(jnp.ones(2), checked.init(jnp.ones(2)), None, value=1.0)
    assert updates.shape == (2,)


def test_multi_steps_is_taken_as_the_transformation_that_it_makes():
    tx = validation.transformation("tx", optax.MultiSteps(optax.sgd(1.0), 2))
    state = tx.init(jnp.zeros(2))
    waiting, state = tx.update(jnp.ones(2), state)
    moving, _ = tx.update(jnp.ones(2), state)
    np.testing.assert_array_equal([waiting, moving], [[0.0, 0.0], [-1.0, -1.0]])


@pytest.mark.parametrize("value", [0.1, "sgd", None, (len, len), object()])
def test_what_is_no_transformation_is_a_type_error(value):
    parts = "tx", "optax gradient transformation", repr(value), type(value).__name__
    with pytest.raises(TypeError, match=saying(*parts)):
        validation.transformation("tx", value)


@pytest.mark.parametrize(
    ("value", "hint"), [(optax.adam, "adam(...)"), (partial(optax.adam, 1e-3), "(...)")]
)
def test_a_factory_in_place_of_a_transformation_is_told_to_be_called(value, hint):
    with pytest.raises(TypeError, match=saying("tx", "optax gradient transformation", hint)):
        validation.transformation("tx", value)


@pytest.mark.parametrize("value", [optax.adam(1e-3), optax.MultiSteps(optax.adam(1e-3), 2)])
def test_a_transformation_in_place_of_a_factory_is_told_not_to_be_called(value):
    message = saying("factory", "got a transformation", "optax.adam rather than optax.adam(1e-3)")
    with pytest.raises(TypeError, match=message):
        validation.factory("factory", value)


@pytest.mark.parametrize("value", ["adam", None, 1e-3])
def test_what_cannot_be_called_is_no_factory(value):
    with pytest.raises(TypeError, match=saying("factory", "callable", f"got {value!r}")):
        validation.factory("factory", value)


@pytest.mark.parametrize("value", [1e-300, 2, [0.1, 5.0], jnp.float32(3)])
def test_positive_numbers_come_back(value):
    np.testing.assert_array_equal(validation.positive("rate", value), np.asarray(value))


@pytest.mark.parametrize("value", [0, -1.0, [1.0, 0.0]])
def test_what_is_not_positive_is_a_value_error_with_its_hint(value):
    with pytest.raises(ValueError, match=saying("rate", "(0, inf)", f"got {value!r}", "be bold")):
        validation.positive("rate", value, "be bold")


def test_a_traced_number_is_not_looked_at():
    assert float(jax.jit(lambda x: validation.positive("rate", x))(-1.0)) == -1.0


@pytest.mark.parametrize("value", [1e-300, 3, np.float32(0.5), jnp.ones(())])
def test_a_positive_number_comes_back_in_float64(value):
    assert validation.positive_number("rate", value).dtype == np.float64
    assert validation.positive_number("rate", value) == float(value)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, [1.0], jnp.ones(2)])
def test_what_is_no_single_positive_number_is_a_value_error(value):
    with pytest.raises(ValueError, match=saying("rate", "a number in (0, inf)", repr(value))):
        validation.positive_number("rate", value)


@pytest.mark.parametrize("value", [math.inf, np.float32(np.inf), jnp.array(jnp.inf), 1.0])
def test_a_positive_number_may_be_infinite_where_that_is_allowed(value):
    assert validation.positive_number("rate", value, infinite=True) == float(value)
    with pytest.raises(ValueError, match=saying("rate", "in (0, inf]", "got 0")):
        validation.positive_number("rate", 0, infinite=True)


def test_a_traced_number_is_known_by_its_shape():
    def check(x):
        return validation.positive_number("rate", x)

    assert jax.eval_shape(check, jnp.int32(-1)).dtype == jnp.int32
    with pytest.raises(ValueError, match=saying("rate", "a number in")):
        jax.eval_shape(check, jnp.ones(2))


def test_up_to_includes_the_end_and_excludes_0():
    np.testing.assert_array_equal(validation.positive_up_to("f", [0.1, 1.0], 1.0), [0.1, 1.0])
    for bad in (0.0, 1.5, [0.5, 2.0]):
        with pytest.raises(ValueError, match=saying("f", "(0, 1]", f"got {bad!r}")):
            validation.positive_up_to("f", bad, 1.0)


def test_multi_steps_hands_extra_arguments_on():
    asked = optax.GradientTransformationExtraArgs(
        lambda _: (), lambda updates, state, params, *, value: (updates * value, state)
    )
    tx = validation.transformation("optimizer", optax.MultiSteps(asked, 1))
    x = jnp.ones(())
    updates, _ = tx.update(x, tx.init(x), x, value=3.0)
    assert updates == 3.0
