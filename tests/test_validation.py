"""Each check's error names the argument, the value, and the allowed range."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdescent import validation


def containing(*parts):
    """Returns a pattern for messages that contain every part, in any order."""
    return re.compile("".join(f"(?=.*{re.escape(part)})" for part in parts), re.DOTALL)


@pytest.mark.parametrize(
    "value", [2, 0.5, [1, 2.5], np.float32(0.5), jnp.ones(3), jnp.bfloat16(0.5), np.int8(3)]
)
def test_real_numbers_are_returned_as_float64(value):
    array = validation.finite_array("rate", value)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.asarray(value, np.float64))


@pytest.mark.parametrize(
    "value", ["0.1", None, 1j, True, [True], [[1], [1, 2]], {"a": 1.0}, len, object(), b"1"]
)
def test_other_types_than_real_numbers_are_a_type_error(value):
    with pytest.raises(TypeError, match=containing("rate", "a real number", repr(value))):
        validation.finite_array("rate", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, [1.0, np.nan], jnp.float32(np.inf)])
def test_numbers_that_are_not_finite_are_a_value_error(value):
    with pytest.raises(ValueError, match=containing("rate", "finite", repr(value))):
        validation.finite_array("rate", value)


def test_a_checked_array_is_a_copy():
    given = np.array([1.0, 2.0])
    checked = validation.finite_array("rate", given)
    given[0] = -1.0
    np.testing.assert_array_equal(checked, [1.0, 2.0])


@pytest.mark.parametrize("value", [1e-300, 0.5, 1 - 2**-53, [0.1, 0.9]])
def test_an_open_interval_contains_its_interior(value):
    np.testing.assert_array_equal(validation.open_interval("b1", value, 0.0, 1.0), value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1, -0.1, 1.5, [0.5, 1.0]])
def test_an_open_interval_excludes_its_ends_and_numbers_outside(value):
    with pytest.raises(ValueError, match=containing("b1", "(0, 1)", f"got {value!r}")):
        validation.open_interval("b1", value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "interval"), [(0, np.inf, "(0, inf)"), (-np.inf, 1e-3, "(-inf, 0.001)")]
)
def test_an_open_interval_can_be_infinite(low, high, interval):
    outside = low if np.isfinite(low) else high
    with pytest.raises(ValueError, match=containing("rate", interval, f"got {outside!r}")):
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
    with pytest.raises(error, match=containing("tune", *parts)):
        validation.mapping("tune", value, "names")


def test_a_valid_mapping_is_returned_unchanged():
    given = {"a": 1}
    assert validation.mapping("tune", given, "names") is given


@pytest.mark.parametrize(
    "tx", [optax.GradientTransformation(lambda p: (), lambda u, s, p: (u, s)), optax.sgd(1.0)]
)
def test_returned_transformations_take_extra_arguments(tx):
    checked = validation.transformation("tx", tx)
    updates, _ = checked.update(jnp.ones(2), checked.init(jnp.ones(2)), None, value=1.0)
    assert updates.shape == (2,)


def test_multi_steps_is_converted_to_its_transformation():
    tx = validation.transformation("tx", optax.MultiSteps(optax.sgd(1.0), 2))
    state = tx.init(jnp.zeros(2))
    waiting, state = tx.update(jnp.ones(2), state)
    moving, _ = tx.update(jnp.ones(2), state)
    np.testing.assert_array_equal([waiting, moving], [[0.0, 0.0], [-1.0, -1.0]])


@pytest.mark.parametrize("value", [0.1, "sgd", None, (len, len), object()])
def test_other_types_than_transformations_are_a_type_error(value):
    parts = "tx", "optax gradient transformation", repr(value), type(value).__name__
    with pytest.raises(TypeError, match=containing(*parts)):
        validation.transformation("tx", value)


@pytest.mark.parametrize(
    ("value", "hint"), [(optax.adam, "adam(...)"), (partial(optax.adam, 1e-3), "(...)")]
)
def test_the_error_for_a_factory_says_to_call_it(value, hint):
    with pytest.raises(TypeError, match=containing("tx", "optax gradient transformation", hint)):
        validation.transformation("tx", value)


@pytest.mark.parametrize("value", [optax.adam(1e-3), optax.MultiSteps(optax.adam(1e-3), 2)])
def test_the_error_for_a_transformation_says_to_pass_its_factory(value):
    message = containing(
        "factory", "got a transformation", "optax.adam rather than optax.adam(1e-3)"
    )
    with pytest.raises(TypeError, match=message):
        validation.factory("factory", value)


@pytest.mark.parametrize("value", ["adam", None, 1e-3])
def test_a_factory_must_be_callable(value):
    with pytest.raises(TypeError, match=containing("factory", "callable", f"got {value!r}")):
        validation.factory("factory", value)


@pytest.mark.parametrize("value", [1e-300, 2, [0.1, 5.0], jnp.float32(3)])
def test_positive_numbers_are_returned(value):
    np.testing.assert_array_equal(validation.positive("rate", value), np.asarray(value))


@pytest.mark.parametrize("value", [0, -1.0, [1.0, 0.0]])
def test_numbers_that_are_not_positive_are_a_value_error_with_a_hint(value):
    with pytest.raises(
        ValueError, match=containing("rate", "(0, inf)", f"got {value!r}", "be bold")
    ):
        validation.positive("rate", value, "be bold")


def test_a_traced_number_is_not_checked():
    assert float(jax.jit(lambda x: validation.positive("rate", x))(-1.0)) == -1.0


@pytest.mark.parametrize("value", [1e-300, 3, np.float32(0.5), jnp.ones(())])
def test_a_positive_number_is_returned_as_float64(value):
    assert validation.positive_number("rate", value).dtype == np.float64
    assert validation.positive_number("rate", value) == float(value)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, [1.0], jnp.ones(2)])
def test_a_positive_number_must_be_one_number_above_0(value):
    with pytest.raises(ValueError, match=containing("rate", "a number in (0, inf)", repr(value))):
        validation.positive_number("rate", value)


@pytest.mark.parametrize("value", [math.inf, np.float32(np.inf), jnp.array(jnp.inf), 1.0])
def test_a_positive_number_can_be_infinite_if_allowed(value):
    assert validation.positive_number("rate", value, infinite=True) == float(value)
    with pytest.raises(ValueError, match=containing("rate", "in (0, inf]", "got 0")):
        validation.positive_number("rate", 0, infinite=True)


def test_the_shape_of_a_traced_number_is_checked():
    def check(x):
        return validation.positive_number("rate", x)

    assert jax.eval_shape(check, jnp.int32(-1)).dtype == jnp.int32
    with pytest.raises(ValueError, match=containing("rate", "a number in")):
        jax.eval_shape(check, jnp.ones(2))


def test_positive_up_to_includes_its_end_and_excludes_0():
    np.testing.assert_array_equal(validation.positive_up_to("f", [0.1, 1.0], 1.0), [0.1, 1.0])
    for bad in (0.0, 1.5, [0.5, 2.0]):
        with pytest.raises(ValueError, match=containing("f", "(0, 1]", f"got {bad!r}")):
            validation.positive_up_to("f", bad, 1.0)


def test_multi_steps_passes_extra_arguments_on():
    scaled_by_value = optax.GradientTransformationExtraArgs(
        lambda _: (), lambda updates, state, params, *, value: (updates * value, state)
    )
    tx = validation.transformation("optimizer", optax.MultiSteps(scaled_by_value, 1))
    x = jnp.ones(())
    updates, _ = tx.update(x, tx.init(x), x, value=3.0)
    assert updates == 3.0


@pytest.mark.parametrize("value", [0, 0.0, 2.5, jnp.float32(1.0)])
def test_non_negative_numbers_are_accepted(value):
    validation.check_non_negative("margin", value)


@pytest.mark.parametrize("value", [-1e-9, -1, [0.0, 1.0], np.inf, np.nan])
def test_other_values_than_non_negative_numbers_are_a_value_error(value):
    with pytest.raises(ValueError, match=containing("margin must be", f"got {value!r}")):
        validation.check_non_negative("margin", value)


def test_a_traced_non_negative_number_is_not_checked():
    def check(x):
        validation.check_non_negative("margin", x)
        return x

    assert jax.jit(check)(-1.0) == -1.0


@pytest.mark.parametrize(
    "tree",
    [1.5, jnp.ones(2), {"w": jnp.ones(2, jnp.bfloat16)}, jax.ShapeDtypeStruct((), jnp.float16), []],
)
def test_real_floating_point_leaves_are_accepted(tree):
    validation.check_floating("params", tree)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (3, "params must have real floating-point leaves, got int32"),
        ({"w": [jnp.ones(2), jnp.ones(2, jnp.complex64)]}, "got complex64 at params['w'][1]"),
        (jax.ShapeDtypeStruct((2,), bool), "got bool"),
    ],
)
def test_other_leaves_than_real_floating_point_are_a_value_error(tree, message):
    with pytest.raises(ValueError, match=containing(message)):
        validation.check_floating("params", tree)


def test_the_error_of_check_floating_ends_with_its_hint():
    with pytest.raises(ValueError, match=r"got int32 at params; close over it$"):
        validation.check_floating("params", 3, "close over it")


def test_a_scalar_output_is_accepted_without_running_the_function():
    def loss(params, batch):
        return jnp.sum(params * batch)

    shape = jax.ShapeDtypeStruct((3,), jnp.bfloat16)
    validation.check_scalar_output("loss_fn", loss, shape, shape)


@pytest.mark.parametrize(
    "fn", [lambda x: x, lambda x: jnp.int32(1), lambda x: (jnp.sum(x),), lambda x: 1j * jnp.sum(x)]
)
def test_other_outputs_than_real_scalars_are_a_value_error(fn):
    with pytest.raises(ValueError, match="loss_fn must return a real scalar, got"):
        validation.check_scalar_output("loss_fn", fn, jnp.ones(2))


def test_leaves_with_the_leading_axis_are_accepted():
    validation.check_leading_axis("params", {"w": jnp.ones((4, 2)), "b": np.ones(4)}, 4, "agents")


@pytest.mark.parametrize("leaf", [jnp.ones(()), jnp.ones((3, 4)), 1.0])
def test_a_leaf_without_the_leading_axis_is_a_value_error(leaf):
    message = "a leading axis of agents = 4 in every leaf, got shape"
    with pytest.raises(ValueError, match=containing(message, str(np.shape(leaf)), "params['b']")):
        validation.check_leading_axis("params", {"a": jnp.ones(4), "b": leaf}, 4, "agents")


def test_only_values_that_can_be_read_are_concrete():
    assert validation.is_concrete(1.0)
    assert validation.is_concrete(jnp.ones(2))
    seen = []
    jax.jit(lambda x: seen.append(validation.is_concrete(x)))(1.0)
    assert seen == [False]


def test_an_error_that_shows_an_array_is_one_line_that_is_not_too_long():
    for value in (jnp.full((3, 3), 2.0), np.full((99, 99), 2.0), [[2.0] * 9] * 99):
        for check in (
            lambda value: validation.open_interval("rate", value, 0.0, 1.0),
            lambda value: validation.integer_in("steps", value, 0),
            lambda value: validation.random_key("key", value),
        ):
            with pytest.raises((TypeError, ValueError), match="must be") as raised:
                check(value)
            message = str(raised.value)
            assert "2." in message
            assert "\n" not in message
            assert len(message) < 500
