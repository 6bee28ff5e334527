"""Tests of `Problem`, a pytree of arrays with static functions."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd


def bowl(x, shift):
    return jnp.sum((x["a"] - shift) ** 2) + x["b"] ** 2


def problem(shift=1.0):
    lower = {"a": jnp.array([-1.0, 0.0]), "b": jnp.array(2.0)}
    upper = {"a": jnp.array([1.0, 5.0]), "b": jnp.array(3.0)}
    return jd.Problem(bowl, lower, upper, data=(jnp.full(2, shift),), minimum=0.0, name="bowl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": np.ones(3)}, "data must be a tuple of arguments of value_fn"),
        ({"sample_fn": 3}, "sample_fn must be callable or None, got 3"),
        ({"optimizer": 3}, "optimizer must be callable or None, got 3"),
    ],
)
def test_arguments_of_the_wrong_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        jd.Problem(np.sum, -1.0, 1.0, **options)


def test_starts_fill_the_box():
    drawn = jax.vmap(problem().sample)(jax.random.split(jax.random.key(0), 500))
    leaves = map(jax.tree.leaves, (drawn, problem().lower, problem().upper))
    for leaf, low, high in zip(*leaves, strict=True):
        np.testing.assert_array_less(low, leaf.min(0))
        np.testing.assert_array_less(leaf.max(0), high)
        np.testing.assert_array_less(0.9 * (high - low), leaf.max(0) - leaf.min(0))


def test_the_value_and_its_gradient_use_the_data():
    x = {"a": jnp.array([0.0, 3.0]), "b": jnp.array(2.0)}
    value, grads = problem().value_and_grad(x)
    assert value == problem().value(x) == 1 + 4 + 4
    chex.assert_trees_all_close(grads, {"a": jnp.array([-2.0, 4.0]), "b": jnp.array(4.0)})
    assert problem().dimension == 3


def test_one_program_serves_all_instances():
    evaluated = jax.jit(chex.assert_max_traces(lambda problem, x: problem.value(x), 1))
    x = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    assert evaluated(problem(1.0), x) == 2
    assert evaluated(problem(2.0), x) == 8


def test_starts_can_be_drawn_by_a_custom_function():
    def ones(key, problem):
        return jax.tree.map(jnp.ones_like, problem.lower)

    start = jd.Problem(bowl, problem().lower, problem().upper, sample_fn=ones).sample
    chex.assert_trees_all_equal(start(jax.random.key(0)), ones(None, problem()))


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (jnp.zeros(2), jnp.ones(3), "upper must have the shapes of lower"),
        (jnp.zeros(2), jnp.array([1.0, 0.0]), "lower must be below upper"),
        (jnp.zeros(2), jnp.array([1.0, jnp.nan]), "lower must be below upper"),
        (jnp.array([0, 0]), jnp.ones(2), "lower must have real floating-point leaves, got int32"),
        (
            {"x": jnp.zeros(2), "n": jnp.zeros(())},
            {"x": jnp.ones(2), "n": 3},
            r"upper must have real floating-point leaves, got int32 at upper\['n'\]; an integer",
        ),
        ({"y": jnp.zeros(2)}, {"x": jnp.ones(2)}, "upper must be a tree like lower"),
    ],
)
def test_an_invalid_box_is_refused(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        jd.Problem(bowl, lower, upper)


def test_the_error_for_a_box_of_matrices_is_one_line():
    one = jnp.ones((2, 2))
    for corners in ((one, -one), (one, one), (-one, jnp.nan * one)):
        with pytest.raises(ValueError, match="lower must be below upper") as raised:
            jd.Problem(bowl, *corners)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="must be within lower and upper") as raised:
        jd.Problem(bowl, -one, one, start_lower=-2 * one, start_upper=one)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="finite to draw starts") as raised:
        jd.Problem(bowl, -jnp.inf * one, one).check_starts()
    assert "\n" not in str(raised.value)


def test_the_value_function_must_be_callable():
    with pytest.raises(TypeError, match="value_fn must be callable"):
        jd.Problem(3.0, jnp.zeros(1), jnp.ones(1))


def test_the_problem_in_the_unit_box_has_the_same_values():
    scaled = problem().in_unit_box()
    chex.assert_trees_all_equal(scaled.lower, {"a": jnp.zeros(2), "b": jnp.array(0.0)})
    chex.assert_trees_all_equal(scaled.upper, {"a": jnp.ones(2), "b": jnp.array(1.0)})
    x = {"a": jnp.array([0.75, 0.2]), "b": jnp.array(0.5)}
    original_x = scaled.from_unit_box(x)
    chex.assert_trees_all_close(original_x, {"a": jnp.array([0.5, 1.0]), "b": jnp.array(2.5)})
    value, grads = scaled.value_and_grad(x)
    expected, slopes = problem().value_and_grad(original_x)
    np.testing.assert_allclose(value, expected)
    widths = {"a": jnp.array([2.0, 5.0]), "b": jnp.array(1.0)}
    chex.assert_trees_all_close(grads, jax.tree.map(jnp.multiply, slopes, widths))
    assert scaled.minimum == problem().minimum


def test_the_unit_box_keeps_optima_samplers_and_programs():
    given = jd.problems.booth()
    scaled = given.in_unit_box()
    np.testing.assert_allclose(scaled.value(scaled.optima[0]), given.minimum, atol=1e-6)
    at_upper = dataclasses.replace(given, sample_fn=lambda key, p: p.upper).in_unit_box()
    np.testing.assert_allclose(at_upper.sample(jax.random.key(0)), 1.0)
    assert jd.problems.booth().in_unit_box().value_fn == scaled.value_fn
    nearby = dataclasses.replace(given, sample_fn=lambda key, p: p.optima[0])
    assert nearby.in_unit_box().sample_fn == nearby.in_unit_box().sample_fn
    near = nearby.in_unit_box().sample(jax.random.key(0))
    np.testing.assert_allclose(near, scaled.optima[0], rtol=1e-6)


def test_only_problems_in_the_unit_box_map_back():
    with pytest.raises(ValueError, match="must be made by in_unit_box"):
        problem().from_unit_box({"a": jnp.zeros(2), "b": jnp.array(0.0)})
