"""Dtype rules and finiteness, on every kind of leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import numerics


@pytest.mark.parametrize(
    "dtype",
    [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64, jnp.int8, jnp.uint32, bool],
)
def test_at_least_float32_widens_every_narrow_dtype_to_float32(dtype):
    assert numerics.at_least_float32(dtype) == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128, np.float64, "float64"])
def test_at_least_float32_keeps_64_bits(dtype):
    assert numerics.at_least_float32(dtype) == jnp.float64


def test_at_least_float32_of_a_64_bit_integer_is_float32():
    assert numerics.at_least_float32(jnp.int64) == jnp.float32


def test_at_least_float32_accepts_the_dtype_of_a_random_key():
    assert numerics.at_least_float32(jax.random.key(0).dtype) == jnp.float32


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([], "float32"),
        ([jnp.bfloat16, jnp.float16], "float32"),
        ([jnp.float32, jnp.int64], "float32"),
        ([jnp.bfloat16, jnp.float64, jnp.float32], "float64"),
        ([jnp.complex128], "float64"),
        ([jnp.complex64], "float32"),
    ],
)
def test_widest_float_is_float64_if_any_leaf_has_64_bits(leaves, expected):
    with jax.enable_x64(True):
        tree = {str(i): jax.ShapeDtypeStruct((2,), dtype) for i, dtype in enumerate(leaves)}
        assert numerics.widest_float(tree) == jnp.dtype(expected)


def test_widest_float_takes_python_numbers_in_the_default_dtype():
    assert numerics.widest_float([1, 2.0, True]) == jnp.float32
    with jax.enable_x64(True):
        assert numerics.widest_float([1, True]) == jnp.float32
        assert numerics.widest_float([1, 2.0]) == jnp.float64


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("complex64", "complex64"),
        ("complex128", "complex128"),
        ("int8", "int8"),
        ("uint32", "uint32"),
        ("bool", "bool"),
    ],
)
def test_wide_copy_widens_real_floats_only(dtype, expected):
    with jax.enable_x64(True):
        given = jnp.ones((2, 3), dtype)
        copy = numerics.wide_copy(given)
        assert copy.dtype == expected
        np.testing.assert_array_equal(copy, given)
        zeros = numerics.wide_copy(jax.ShapeDtypeStruct((2, 3), dtype))
        assert (zeros.dtype, zeros.shape) == (expected, (2, 3))
        assert not np.any(zeros)


def test_wide_copy_accepts_python_numbers():
    assert numerics.wide_copy(0.5).dtype == jnp.float32
    assert numerics.wide_copy(3).dtype == jnp.int32
    assert float(numerics.wide_copy(0.5)) == 0.5


def test_wide_copy_does_not_share_memory_with_its_argument():
    given = jnp.ones(4)
    copy = numerics.wide_copy(given)
    given.delete()  # as a donated argument is
    np.testing.assert_array_equal(copy, np.ones(4))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 10, 40])
def test_all_true_needs_every_flag_also_in_compiled_code(count):
    compiled = jax.jit(numerics.all_true)
    flags = [jnp.array(True)] * count
    assert compiled(flags).dtype == bool
    assert compiled(flags).shape == ()
    assert bool(compiled(flags))
    assert bool(numerics.all_true(flags))
    for index in {0, count // 2, count - 1}:
        bad = [jnp.array(i != index) for i in range(count)]
        assert not bool(compiled(bad))
        assert not bool(numerics.all_true(bad))


def test_all_true_of_no_flags_is_true():
    assert bool(numerics.all_true([]))


def test_all_true_of_many_flags_is_vmapped_per_example():
    def check(rows):
        return numerics.all_true([rows[i] for i in range(12)])

    rows = jnp.ones((3, 12), bool).at[1, 5].set(False)
    np.testing.assert_array_equal(jax.vmap(check)(rows), [True, False, True])


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_all_finite_detects_one_bad_number(dtype, bad):
    tree = {"a": jnp.ones((3, 4), dtype), "b": [jnp.zeros((), dtype)]}
    assert bool(numerics.all_finite(tree))
    tree["a"] = tree["a"].at[1, 2].set(bad)
    assert not bool(numerics.all_finite(tree))
    assert not bool(jax.jit(numerics.all_finite)(tree))


def test_all_finite_detects_a_bad_imaginary_part():
    assert not bool(numerics.all_finite(jnp.array(complex(1.0, np.nan))))


def test_all_finite_ignores_leaves_without_floats():
    tree = (jnp.arange(3), jnp.array(True), jax.random.key(0), 7, None)
    assert bool(numerics.all_finite(tree))
    assert not bool(numerics.all_finite((*tree, float("nan"))))
    assert bool(numerics.all_finite({}))


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (jnp.ones(2, jnp.bfloat16), True),
        (jnp.ones(2, jnp.complex64), True),
        (np.float64(1.0), True),
        (1.0, True),
        (1j, True),
        (jax.ShapeDtypeStruct((2,), jnp.float16), True),
        (1, False),
        (True, False),
        (jnp.arange(2), False),
        (jax.ShapeDtypeStruct((2,), jnp.int32), False),
    ],
)
def test_is_inexact_is_true_for_floating_and_complex_leaves(leaf, expected):
    assert numerics.is_inexact(leaf) is expected


def test_is_inexact_is_false_for_a_random_key():
    assert not numerics.is_inexact(jax.random.key(0))


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1.0, 1e30, 6e37])
def test_norms_neither_overflow_nor_underflow(size):
    x = size * jnp.array([[3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_allclose(numerics.norm(x), 5 * size, rtol=1e-6)
    np.testing.assert_allclose(numerics.norm(x, 0), [5 * size, 0], rtol=1e-6)
    np.testing.assert_allclose(numerics.norm(x, 1, keepdims=True), x[:, :1], rtol=1e-6)
    tree = {"a": x[0], "b": x[1].astype(jnp.bfloat16), "c": jnp.zeros(0)}
    np.testing.assert_allclose(numerics.tree_norm(tree), 5 * size, rtol=1e-2)
    slope = jax.grad(numerics.norm)(x)
    np.testing.assert_allclose(slope, [[0.6, 0.0], [0.8, 0.0]], rtol=1e-6)


def test_the_norm_of_0_has_gradient_0_and_a_norm_shows_what_is_not_finite():
    assert np.all(jax.grad(numerics.tree_norm)({"a": jnp.zeros(3)})["a"] == 0)
    assert numerics.norm(jnp.array([1.0, np.inf])) == np.inf
    assert np.isnan(numerics.norm(jnp.array([1.0, np.nan])))
    assert numerics.tree_norm({}) == 0
