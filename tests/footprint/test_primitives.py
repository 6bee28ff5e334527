"""Costs of primitives, compared with sums over ones, manual counts and textbook formulas."""

import functools

import jax
import jax.extend.core.primitives
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.experimental import pallas as pl

from jaxdescent.footprint import flops
from jaxdescent.footprint.flop_counting import linear_algebra, primitives, traversal


def zeros(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


# A product of ones adds one for each multiply-add, so its sum is their number.
PRODUCTS = {
    "ij,jk->ik": [(3, 4), (4, 5)],
    "bij,bkj->bik": [(2, 3, 4), (2, 5, 4)],
    "i,j->ij": [(3,), (4,)],
    "i,i->": [(7,), (7,)],
    "abcd,cdab->ab": [(2, 3, 4, 5), (4, 5, 2, 3)],
}


@pytest.mark.parametrize("subscripts", PRODUCTS)
def test_a_product_costs_two_flops_for_each_multiply_add(subscripts):
    a, b = (np.ones(shape, np.float32) for shape in PRODUCTS[subscripts])
    product = functools.partial(jnp.einsum, subscripts)
    assert flops(product, a, b).dense == 2 * np.sum(product(a, b))


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [("float32", 1), ("bfloat16", 1), ("float8_e4m3fn", 1), ("int8", 1), ("complex64", 4)],
)
def test_only_complex_dtypes_change_the_count(dtype, factor):
    a, b = zeros(3, 4, dtype=dtype), zeros(4, 5, dtype=dtype)
    assert flops(jax.lax.dot, a, b).dense == factor * 2 * 3 * 4 * 5


def test_a_ragged_product_counts_each_row_once():
    sizes = jnp.array([3, 1])

    def ragged(rows, groups):
        return jax.lax.ragged_dot(rows, groups, sizes)

    assert flops(ragged, zeros(4, 3), zeros(2, 3, 5)).dense == 2 * 4 * 3 * 5
    gradient = jax.grad(lambda rows, groups: jnp.sum(ragged(rows, groups)), (0, 1))
    assert flops(gradient, zeros(4, 3), zeros(2, 3, 5)).dense == 2 * 2 * 4 * 3 * 5


convolutions = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(1, 7), st.integers(1, 7)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "window_strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(*[st.tuples(st.integers(-1, 4), st.integers(-1, 4))] * 2),
        "lhs_dilation": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "rhs_dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "groups": st.sampled_from(
            [{}, {"feature_group_count": 2}, {"batch_group_count": 2}, {"feature_group_count": 4}]
        ),
    }
)


def convolution_of(case):
    case = dict(case)
    size, kernel, groups = (case.pop(name) for name in ("size", "kernel", "groups"))
    features = 4 // groups.get("feature_group_count", 1)
    x = np.ones((2, *size, 4), np.float32)
    w = np.ones((*kernel, features, 4), np.float32)
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **case,
        **groups,
    )
    dilated = [(length - 1) * by + 1 for length, by in zip(size, case["lhs_dilation"], strict=True)]
    # Negative padding must not exceed the input.
    assume(all(sum(ends) >= -length for ends, length in zip(case["padding"], dilated, strict=True)))
    return convolve, x, w


@given(case=convolutions)
@settings(max_examples=40, deadline=None)
def test_a_convolution_costs_two_flops_for_each_tap_on_an_input(case):
    convolve, x, w = convolution_of(case)
    assert flops(convolve, x, w).dense == 2 * np.sum(convolve(x, w))


@given(case=convolutions)
@settings(max_examples=30, deadline=None)
def test_each_gradient_of_a_convolution_costs_one_forward_pass(case):
    convolve, x, w = convolution_of(case)
    if 0 in jax.eval_shape(convolve, x, w).shape:
        return  # nothing to differentiate
    forward = flops(convolve, x, w).dense
    for argument in (0, 1):
        gradient = jax.grad(lambda *args: jnp.sum(convolve(*args)), argument)
        assert flops(gradient, x, w).dense == forward


def test_convolutions_of_one_and_three_dimensions():
    def line(x, w):
        return jax.lax.conv_general_dilated(x, w, (1,), "SAME")

    assert flops(line, zeros(2, 3, 10), zeros(5, 3, 3)).dense == 2 * 2 * 3 * 5 * (10 * 3 - 2)

    def volume(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1, 1), "VALID")

    taps = 4**3 * 2**3
    assert flops(volume, zeros(1, 2, 5, 5, 5), zeros(3, 2, 2, 2, 2)).dense == 2 * 2 * 3 * taps


def test_a_long_convolution_is_counted_in_closed_form():
    both = zeros(1, 1, 100_000), zeros(1, 1, 100_000)

    def full(x, w):
        return jax.lax.conv_general_dilated(x, w, (1,), [(99_999, 99_999)])

    assert flops(full, *both).dense == 2 * 100_000**2


def pooled(x, computation=jax.lax.max, start=-np.inf):
    return jax.lax.reduce_window(x, start, computation, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")


IMAGE = zeros(1, 4, 4, 3)

# (function, argument, cost of each primitive)
ELEMENTWISE = {
    "maps one per output": (lambda x: jnp.tanh(x) * 2.0, zeros(3, 4), {"tanh": 12, "mul": 12}),
    "broadcasts for free": (lambda x: x + jnp.ones((5, 4)), zeros(4), {"add": 20}),
    "reductions one per input": (jnp.sum, zeros(3, 4), {"reduce_sum": 12}),
    "argmax": (jnp.argmax, zeros(3, 4), {"argmax": 12}),
    "running sums": (jnp.cumsum, zeros(5), {"cumsum": 5}),
    "softmax": (
        jax.nn.softmax,
        zeros(2, 5),
        {"reduce_max": 10, "sub": 10, "exp": 10, "reduce_sum": 10, "div": 10, "max": 2},
    ),
    "moving data is free": (
        lambda x: jnp.concatenate([x.T.reshape(-1)[::-1], jnp.pad(x, 1)[0]]).astype(jnp.bfloat16),
        zeros(3, 4),
        {},
    ),
    "lookups are free, their gradients add": (
        jax.grad(lambda table: jnp.sum(table.at[jnp.array([0, 2, 2])].get(mode="clip"))),
        zeros(5, 7),
        {"scatter-add": 21},
    ),
    "max pooling": (pooled, IMAGE, {"reduce_window_max": 2 * 2 * 3 * 4}),
    "max pooling's gradient": (
        jax.grad(lambda x: jnp.sum(pooled(x))),
        IMAGE,
        {"select_and_scatter_add": 2 * 2 * 3 * 4},
    ),
    "average pooling": (
        lambda x: pooled(x, jax.lax.add, 0.0),
        IMAGE,
        {"reduce_window_sum": 2 * 2 * 3 * 4},
    ),
    "indices are free": (lambda x: jnp.arange(10) * 2 + jnp.int32(3), zeros(3), {}),
    "masks count where they choose": (
        lambda x: jnp.where(x > 0, x, 0.0),
        zeros(6),
        {"gt": 6, "select_n": 6},
    ),
    "a reference": (
        lambda x: (lambda r: (r.addupdate(x), r[...])[1])(jax.new_ref(jnp.zeros(5))),
        zeros(5),
        {"addupdate": 5},
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_work(name):
    function, argument, expected = ELEMENTWISE[name]
    counted = flops(function, argument)
    assert counted.by_primitive == expected
    assert (counted.dense, counted.estimated, counted.unknown) == (0, 0, ())
    assert counted.total == counted.elementwise == sum(expected.values())


def test_random_bits_are_free_and_their_transformations_are_counted():
    counted = flops(lambda key: jax.random.normal(key, (10,)), jax.random.key(0))
    assert counted.unknown == ()
    assert counted.by_primitive["erf_inv"] == 10
    assert not any("random" in name for name in counted.by_primitive)


# n = 30, or m = 50 by n = 30, with the leading orders of Golub and Van Loan.
ESTIMATES = {
    "cholesky": (jnp.linalg.cholesky, (30, 30), 30**3 / 3),
    "eigh": (jnp.linalg.eigh, (30, 30), 9 * 30**3),
    "eig": (jnp.linalg.eig, (30, 30), 25 * 30**3),
    "eigenvalues": (jnp.linalg.eigvals, (30, 30), 10 * 30**3),
    "schur": (jax.scipy.linalg.schur, (30, 30), 25 * 30**3),
    "hessenberg": (jax.lax.linalg.hessenberg, (30, 30), 10 / 3 * 30**3),
    "tridiagonal": (jax.lax.linalg.tridiagonal, (30, 30), 4 / 3 * 30**3),
    "lu": (jax.lax.linalg.lu, (30, 30), 2 / 3 * 30**3),
    "lu of a tall matrix": (jax.lax.linalg.lu, (50, 30), 50 * 30**2 - 30**3 / 3),
    "lu of a wide matrix": (jax.lax.linalg.lu, (30, 50), 50 * 30**2 - 30**3 / 3),
    "svd": (jnp.linalg.svd, (30, 30), 21 * 30**3),
    "thin svd": (
        functools.partial(jnp.linalg.svd, full_matrices=False),
        (50, 30),
        14 * 50 * 30**2 + 8 * 30**3,
    ),
    "singular values": (
        functools.partial(jnp.linalg.svd, compute_uv=False),
        (50, 30),
        4 * 50 * 30**2 - 4 / 3 * 30**3,
    ),
    "qr": (jnp.linalg.qr, (50, 30), 2 * (2 * 50 * 30**2 - 2 / 3 * 30**3)),
    "a full qr": (
        functools.partial(jnp.linalg.qr, mode="complete"),
        (50, 30),
        2 * 50 * 30**2 - 2 / 3 * 30**3 + 4 * 50**2 * 30 - 4 * 50 * 30**2 + 4 / 3 * 30**3,
    ),
    "forming Q": (
        lambda a: jax.lax.linalg.householder_product(a, jnp.ones(30)),
        (50, 30),
        2 * 50 * 30**2 - 2 / 3 * 30**3,
    ),
    "a triangular solve": (
        lambda a: jax.lax.linalg.triangular_solve(a, jnp.ones((30, 7)), left_side=True),
        (30, 30),
        30**2 * 7,
    ),
    "a tridiagonal solve": (
        lambda d: jax.lax.linalg.tridiagonal_solve(d, d, d, jnp.ones((30, 2))),
        (30,),
        8 * 30 * 2,
    ),
    "a sort": (jnp.sort, (4, 100), 4 * 100 * 7),
    "a real fft": (jnp.fft.rfft, (4, 64), 4 * 2.5 * 64 * 6),
    "a real fft in two dimensions": (jnp.fft.rfft2, (4, 16, 64), 2.5 * 4 * 16 * 64 * 10),
}


def without_symmetrization(counted):
    return {k: n for k, n in counted.by_primitive.items() if k not in ("add", "div", "select_n")}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_equal_the_leading_orders_of_textbooks(name):
    function, shape, expected = ESTIMATES[name]
    counted = flops(function, zeros(*shape))
    assert counted.estimated == pytest.approx(expected, abs=1)
    assert sum(without_symmetrization(counted).values()) == counted.estimated


@pytest.mark.parametrize("name", ["cholesky", "qr", "lu of a tall matrix", "svd"])
def test_estimates_scale_with_the_batch_and_by_four_if_complex(name):
    function, shape, _ = ESTIMATES[name]
    one = flops(function, zeros(*shape)).estimated
    assert flops(jax.vmap(function), zeros(6, *shape)).estimated == pytest.approx(6 * one, abs=6)
    complex_ = flops(function, zeros(*shape, dtype=jnp.complex64)).estimated
    assert complex_ == pytest.approx(4 * one, abs=4)


@pytest.mark.parametrize(
    ("transform", "shape", "factor"),
    [(jnp.fft.fft, (4, 64), 5), (jnp.fft.ifft, (4, 64), 5), (jnp.fft.irfft, (4, 33), 2.5)],
)
def test_complex_transforms_follow_the_convention_of_fftw(transform, shape, factor):
    counted = flops(transform, zeros(*shape, dtype=jnp.complex64))
    assert counted.estimated == factor * 4 * 64 * 6


def kernel(x_ref, out_ref):
    out_ref[...] = 2 * x_ref[...]


def test_a_pallas_kernel_counts_its_declared_cost_or_is_unknown():
    call = functools.partial(
        pl.pallas_call, kernel, out_shape=jax.ShapeDtypeStruct((8,), jnp.float32)
    )
    assert flops(call(), zeros(8)).unknown == ("pallas_call",)
    estimate = pl.CostEstimate(flops=77, transcendentals=0, bytes_accessed=64)
    declared = flops(call(cost_estimate=estimate), zeros(8))
    assert (declared.estimated, declared.unknown) == (77, ())


def test_foreign_functions_are_reported_as_unknown():
    result = jax.ShapeDtypeStruct((3,), jnp.float32)
    foreign = jax.ffi.ffi_call("my_kernel", result)
    assert flops(foreign, zeros(3)).unknown == ("ffi_call my_kernel",)

    def host(x):
        return jax.pure_callback(lambda x: x, x, x)

    assert flops(host, zeros(3)).unknown == ("pure_callback",)
    assert flops(lambda x: jax.random.gamma(jax.random.key(0), x), 2.0).unknown == ("random_gamma",)


def test_printing_is_free():
    def print_and_double(x):
        return (jax.debug.print("{}", x), 2 * x)[1]

    counted = flops(print_and_double, zeros(3))
    assert (counted.by_primitive, counted.unknown) == ({"mul": 3}, ())


def test_every_public_primitive_of_jax_is_in_a_table_or_in_this_list():
    public = vars(jax.extend.core.primitives)
    names = {p.name for key, p in public.items() if key.endswith("_p")}
    tables = {name for table in primitives._TABLES.values() for name in table}
    known = tables | {*primitives._FREE.split(), *traversal._CALLS.split(), *traversal._CONTROL}
    integer_primitives = """
        and clz not or population_count reduce_and reduce_or reduce_xor shift_left
        shift_right_arithmetic shift_right_logical threefry2x32 xor
    """
    assert names - known == {*integer_primitives.split(), "custom_lin", "random_gamma"}


def test_each_primitive_is_in_one_table():
    tables = [list(table) for table in primitives._TABLES.values()]
    tables += [primitives._FREE.split(), traversal._CALLS.split(), list(traversal._CONTROL)]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert set(linear_algebra.FORMULAS) <= set(names)


@pytest.mark.parametrize(
    ("left", "right", "real"),
    [
        ("float32", "float32", 1),
        ("complex64", "float32", 2),
        ("float32", "complex64", 2),
        ("complex64", "complex64", 4),
    ],
)
def test_a_product_of_real_and_complex_numbers_is_two_real_products(left, right, real):
    def product(a, b):
        return jax.lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=None)

    shapes = jax.ShapeDtypeStruct((8, 8), left), jax.ShapeDtypeStruct((8, 8), right)
    assert flops(product, *shapes).dense == 2 * 8**3 * real
