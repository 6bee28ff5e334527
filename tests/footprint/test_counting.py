"""FLOPs of functions, compared with XLA's count where it is correct, and with sums."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh

from jaxdescent.footprint import Flops, flops
from tests.compiling import compiled

LAYOUT = ("NHWC", "HWIO", "NHWC")


def ones(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def conv(strides=(1, 1), padding="SAME", **settings):
    return functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=LAYOUT,
        **settings,
    )


def summed(function):
    return lambda *args: jnp.sum(function(*args))


def perceptron(params, x):
    return jnp.maximum(x @ params[0], 0.0) @ params[1]


IMAGES, KERNEL = ones(2, 9, 9, 4), ones(3, 3, 4, 8)

# XLA's cost analysis is correct for programs without loops and transcendental functions.
STEPS = {
    "a product": (jnp.matmul, ones(64, 32), ones(32, 16)),
    "a product with a vector": (jnp.matmul, ones(64, 32), ones(32)),
    "a vmapped product": (jax.vmap(jnp.matmul), ones(5, 64, 32), ones(5, 32, 16)),
    "a product vmapped on one side": (
        jax.vmap(jnp.matmul, (0, None)),
        ones(5, 64, 32),
        ones(32, 16),
    ),
    "an einsum": (functools.partial(jnp.einsum, "bik,bjk->ijb"), ones(3, 4, 5), ones(3, 6, 5)),
    "a product's gradients": (
        jax.grad(summed(jnp.matmul), (0, 1)),
        ones(64, 32),
        ones(32, 16),
    ),
    "a perceptron": (perceptron, (ones(8, 16), ones(16, 4)), ones(32, 8)),
    "a convolution": (conv(), IMAGES, KERNEL),
    "a valid convolution": (conv(padding="VALID"), IMAGES, KERNEL),
    "a strided convolution": (conv((2, 1)), IMAGES, KERNEL),
    "a dilated convolution": (conv(rhs_dilation=(2, 1)), IMAGES, KERNEL),
    "a transposed convolution": (
        conv(padding=((1, 2), (2, 1)), lhs_dilation=(2, 2)),
        IMAGES,
        KERNEL,
    ),
    "a cropping convolution": (conv(padding=((-1, 2), (3, 0))), IMAGES, KERNEL),
    "a grouped convolution": (conv(feature_group_count=2), IMAGES, ones(3, 3, 2, 8)),
    "a depthwise convolution": (conv(feature_group_count=4), IMAGES, ones(3, 3, 1, 8)),
    "a batch-grouped convolution": (conv(batch_group_count=2), IMAGES, KERNEL),
    "a vmapped convolution": (jax.vmap(conv()), ones(3, 2, 9, 9, 4), ones(3, 3, 3, 4, 8)),
    "a convolution's gradients": (
        jax.grad(summed(conv((2, 1), rhs_dilation=(1, 2))), (0, 1)),
        IMAGES,
        KERNEL,
    ),
    "a grouped convolution's gradients": (
        jax.grad(summed(conv((2, 1), feature_group_count=2)), (0, 1)),
        IMAGES,
        ones(3, 3, 2, 8),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_count_without_loops_equals_xla(name):
    function, *args = STEPS[name]
    counted = flops(function, *args)
    assert counted.total == compiled(function, *args).cost_analysis()["flops"]
    assert counted.unknown == ()


def test_the_count_of_a_training_step_equals_xla_up_to_scalars():
    def loss(params, x):
        return jnp.mean(perceptron(params, x) ** 2)

    def step(params, x):
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params, x))

    args = (ones(40, 60), ones(60, 20)), ones(100, 40)
    counted = flops(step, *args)
    assert counted.dense == 2 * 100 * (2 * 40 * 60 + 3 * 60 * 20)
    assert counted.total == pytest.approx(
        jax.jit(step).lower(*args).cost_analysis()["flops"], rel=0.01
    )


def test_a_loop_counts_every_iteration_unlike_xla():
    def chain(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, length=10)[0]

    assert flops(chain, ones(64, 64)).dense == 5_242_880
    once = compiled(chain, ones(64, 64)).cost_analysis()["flops"]
    assert once < 530_000


@given(length=st.integers(0, 50), size=st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_a_scan_costs_its_length_times_its_body(length, size):
    def body(c, x):
        return (jnp.tanh(c @ x) + c, jnp.sum(c))

    x = ones(size, size)
    once = flops(body, x, x)
    scanned = flops(functools.partial(jax.lax.scan, body), x, ones(length, size, size))
    assert (scanned.dense, scanned.total) == (length * once.dense, length * once.total)


@given(agents=st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_vmap_multiplies_dense_work_by_the_agents(agents):
    step = jax.grad(summed(lambda w, x: jnp.tanh(conv()(x, w))))

    def batched(s):
        return ones(agents, *s.shape)

    once = flops(step, KERNEL, IMAGES)
    assert flops(jax.vmap(step), batched(KERNEL), batched(IMAGES)).dense == agents * once.dense


def test_nested_scans_multiply():
    def inner(c, _):
        return (c @ c, None)

    def outer(c, _):
        return (jax.lax.scan(inner, c, length=3)[0], None)

    def function(x):
        return jax.lax.scan(outer, x, length=5)[0]

    assert flops(function, ones(4, 4)).dense == 15 * 2 * 4**3


def test_a_loop_over_a_python_range_is_a_scan():
    def function(x):
        return jax.lax.fori_loop(0, 7, lambda _, c: c @ c, x)

    assert flops(function, ones(4, 4)).dense == 7 * 2 * 4**3


def switch(x):
    """Computes 3 products, or 1 product with many additions, or nothing."""
    return jax.lax.switch(
        jnp.int32(x[0, 0]),
        [lambda x: x @ x @ x @ x, lambda x: functools.reduce(jnp.add, [x] * 500) @ x, lambda x: x],
        x,
    )


def test_a_cond_costs_its_most_expensive_branch_and_its_interval_includes_the_others():
    product, adds = 2 * 4**3, 499 * 16
    counted = flops(switch, ones(4, 4))
    assert (counted.dense, counted.elementwise) == (product, adds)
    dense, total = counted.quantity("dense"), counted.quantity()
    assert (dense.low, dense.value, dense.high) == (0, product, 3 * product)
    assert (total.low, total.value, total.high) == (0, product + adds, 3 * product + adds)


def test_unknown_operations_of_every_branch_are_reported():
    def function(x):
        return jax.lax.cond(
            x[0, 0] > 0, lambda x: x @ x, lambda x: jax.pure_callback(lambda x: x, x, x), x
        )

    assert flops(function, ones(4, 4)).unknown == ("pure_callback",)


def doubling(x):
    return jax.lax.while_loop(lambda c: jnp.sum(c) < 9.0, lambda c: c @ c, x)


def test_a_while_loop_is_unknown():
    counted = flops(doubling, ones(4, 4))
    assert counted.total == 0
    assert counted.unknown == ("a while loop with an unknown number of iterations, 145 FLOP each",)
    assert counted.quantity().high == math.inf
    assert "145 FLOP each" in counted.quantity().constants[-1]


def test_a_while_loop_without_flops_needs_no_trips():
    def search(x):
        return jax.lax.while_loop(lambda i: i * i < 50, lambda i: i + 1, 0) * x

    counted = flops(search, ones(4))
    assert (counted.by_primitive, counted.unknown) == ({"mul": 4}, ())


def test_unknown_operations_in_a_while_loop_are_reported():
    def call(c):
        return jax.pure_callback(lambda x: x, c, c)

    def function(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 9.0, lambda c: call(c @ c), x)

    assert len(flops(function, ones(4, 4)).unknown) == 2
    counted = flops(function, ones(4, 4), while_trips=6)
    assert (counted.dense, counted.unknown) == (6 * 128, ("pure_callback, 6 times",))


def test_a_while_loop_counts_its_condition_once_more_than_its_body():
    counted = flops(doubling, ones(4, 4), while_trips=3)
    assert (counted.dense, counted.elementwise) == (3 * 2 * 4**3, 4 * 17)
    assert counted.unknown == ()


def test_a_fori_loop_with_traced_bounds_needs_while_trips():
    def function(n, x):
        return jax.lax.fori_loop(0, n, lambda _, c: c @ c, x)

    args = jax.ShapeDtypeStruct((), jnp.int32), ones(4, 4)
    assert flops(function, *args).unknown
    assert flops(function, *args, while_trips=6).dense == 6 * 2 * 4**3


def test_while_trips_are_used_in_program_order():
    def nested(c):
        return jax.lax.while_loop(lambda c: c[0, 0] < 9.0, doubling, c) @ c

    def both(x):
        return (nested(x), doubling(x[:2, :2]))

    counted = flops(both, ones(4, 4), while_trips=[5, 3, 2])
    assert counted.dense == 5 * 3 * 2 * 4**3 + 2 * 4**3 + 2 * 2 * 2**3


def test_unknown_operations_in_a_scan_are_reported_with_their_number():
    def function(x):
        return jax.lax.scan(lambda c, _: (doubling(c), None), x, length=10)[0]

    assert flops(function, ones(4, 4)).unknown[0].endswith("145 FLOP each, 10 times")


@jax.custom_jvp
def with_jvp(x):
    return x @ x


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] @ tangents[0]))


@jax.custom_vjp
def with_vjp(x):
    return x @ x


with_vjp.defvjp(lambda x: (with_vjp(x), x), lambda x, g: (g @ x @ x @ x,))


@jax.custom_batching.custom_vmap
def with_vmap(x):
    return x @ x


with_vmap.def_vmap(lambda _, __, x: (with_vmap(x), True))


CALLS = {
    "jit": jax.jit(lambda x: x @ x),
    "nested jits": jax.jit(lambda x: jax.jit(lambda y: y @ y)(x)),
    "remat": jax.checkpoint(lambda x: x @ x),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "custom_vmap": with_vmap,
    "composite": jax.lax.composite(lambda x: x @ x, name="a.product"),
    "a partial": functools.partial(jnp.matmul, jnp.ones((4, 4))),
    "a linear call": lambda x: jax.custom_derivatives.linear_call(
        lambda r, x: r @ x, lambda r, x: r.T @ x, x, x
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_costs_its_function(name):
    counted = flops(CALLS[name], ones(4, 4))
    assert (counted.dense, counted.unknown) == (2 * 4**3, ())


def test_custom_gradients_count_their_rules():
    assert flops(jax.grad(summed(with_vjp)), ones(4, 4)).dense == 3 * 2 * 4**3

    def values(x):
        return jax.value_and_grad(summed(with_vjp))(x)

    assert flops(values, ones(4, 4)).dense == 4 * 2 * 4**3


def test_rematerialized_operations_count_twice():
    def layer(w, x):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def gradients(f):
        return flops(jax.value_and_grad(summed(f), (0, 1)), ones(4, 4), ones(4, 4))

    plain, checkpointed = gradients(layer), gradients(jax.checkpoint(layer))
    assert plain.dense == 6 * 2 * 4**3
    assert checkpointed.dense == 8 * 2 * 4**3


def test_a_shard_map_counts_every_device():
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    spec = jax.P(None, "x"), jax.P("x", None)
    product = jax.shard_map(
        lambda a, b: jax.lax.psum(a @ b, "x"), mesh=mesh, in_specs=spec, out_specs=jax.P()
    )
    counted = flops(product, ones(4, 6), ones(6, 5))
    assert counted.dense == flops(jnp.matmul, ones(4, 6), ones(6, 5)).dense == 2 * 4 * 6 * 5
    assert counted.by_primitive["psum_invariant"] == 2 * 4 * 5


def test_a_shard_map_counts_manual_axes_only():
    mesh = Mesh(np.array(jax.devices()[:2]).reshape(1, 2), ("x", "y"))
    product = jax.shard_map(
        lambda a: a @ a, mesh=mesh, in_specs=jax.P(), out_specs=jax.P(), axis_names={"x"}
    )
    assert flops(jax.jit(product), ones(4, 4)).dense == 2 * 4**3


def test_a_linear_solve_counts_its_solution_only():
    counted = flops(jnp.linalg.solve, ones(30, 30), ones(30, 2))
    assert counted.by_primitive == {"lu": 18_000, "triangular_solve": 3_600}
    assert counted.dense == 0


def test_dead_code_costs_nothing():
    assert flops(lambda x: (x @ x, jnp.sin(x))[1], ones(4, 4)).dense == 0
    both = jax.jit(lambda x: (x @ x, jnp.sin(x)))
    assert flops(lambda x: both(x)[1], ones(4, 4)).by_primitive == {"sin": 16}


def test_primitives_are_listed_in_descending_order():
    def function(x):
        return jnp.exp(x @ x) + jnp.exp(x)

    counted = flops(function, ones(4, 4))
    assert list(counted.by_primitive.items()) == [("dot_general", 128), ("exp", 32), ("add", 16)]
    assert sum(counted.by_primitive.values()) == counted.total


def test_jitted_functions_keep_their_static_arguments():
    power = jax.jit(lambda x, n, mode: x @ x * n, static_argnames=("n", "mode"))
    assert flops(power, ones(4, 4), 2, mode="fast").dense == 2 * 4**3


def test_flax_modules_are_counted_with_and_without_jit():
    model = nnx.Linear(8, 4, rngs=nnx.Rngs(0))

    def apply(model, x):
        return model(x)

    assert flops(apply, model, ones(10, 8)).dense == 2 * 10 * 8 * 4
    assert flops(nnx.jit(apply), model, jnp.ones((10, 8))).dense == 2 * 10 * 8 * 4


def test_keyword_arguments_are_passed_on():
    assert flops(lambda x, *, y: x @ y, ones(2, 3), y=ones(3, 2)).dense == 2 * 2 * 3 * 2


def test_counts_are_exact_beyond_float64():
    big = ones(2**21 + 1, 2**21 + 1)
    assert flops(jnp.matmul, big, big).dense == 2 * (2**21 + 1) ** 3


def test_the_quantity_records_its_origin_and_interval():
    counted = flops(lambda x: jnp.linalg.cholesky(x @ x), ones(30, 30))
    total, dense = counted.quantity(), counted.quantity("dense")
    others, cholesky = counted.dense + counted.elementwise, 9000
    assert total.low == others + cholesky / 2
    assert total.high == others + 2 * cholesky
    assert total.how == "counted: jaxpr + estimated: leading order"
    assert (dense.low, dense.value, dense.high) == (54_000,) * 3
    assert dense.how == "counted: jaxpr"
    assert "2 FLOPs" in dense.constants[0]


def test_a_count_prints_one_line_per_unknown_operation():
    counted = flops(lambda x: doubling(jnp.linalg.cholesky(jnp.tanh(x @ x))), ones(100, 100))
    first, second = str(counted).split("\n")
    assert first.startswith("2 MFLOP dense, ")
    assert first.endswith("FLOP elementwise, 333 kFLOP estimated (counted: jaxpr)")
    assert (
        second == "not counted: a while loop with an unknown number of iterations, 2.01 MFLOP each"
    )
    assert str(flops(jnp.sin, ones())) == "0 FLOP dense, 1 FLOP elementwise (counted: jaxpr)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flops(3), TypeError, "fn must be a function of arrays, got 3"),
        (
            lambda: flops(lambda x: x, "a word"),
            TypeError,
            r"arrays, numbers or ShapeDtypeStructs, got 'a word' at args\[0\]",
        ),
        (lambda: flops(lambda x: x, x={"a": "b"}), TypeError, r"got 'b' at kwargs\['x'\]\['a'\]"),
        (lambda: flops(doubling, ones(2, 2), while_trips=-1), ValueError, "at least 0, got -1"),
        (lambda: flops(doubling, ones(2, 2), while_trips=2.0), TypeError, "an integer or a"),
        (lambda: flops(doubling, ones(2, 2), while_trips=True), TypeError, "an integer or a"),
        (lambda: flops(doubling, ones(2, 2), while_trips="12"), TypeError, "an integer or a"),
        (lambda: flops(doubling, ones(2, 2), while_trips=[-2]), ValueError, "at least 0, got -2"),
        (
            lambda: flops(doubling, ones(2, 2), while_trips=[1, 2]),
            ValueError,
            r"each of the 1 while loops, got \[1, 2\]",
        ),
        (lambda: flops(doubling, ones(2, 2), while_trips=[]), ValueError, "each of the 1 while"),
        (lambda: flops(jnp.sin, 1.0).quantity("all"), ValueError, "'total' or 'dense', got 'all'"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_result_is_a_flops():
    assert isinstance(flops(jnp.sin, 1.0), Flops)
