"""The safe evaluation: the same numbers and slopes, but zero where a slope is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.towers.replay.safe_derivatives import evaluate


def safe(function):
    """The function as it is evaluated from its jaxpr."""

    def evaluated(*args):
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shape), evaluate(jaxpr, *args))

    return evaluated


@jax.custom_jvp
def steeper(x):
    return x


steeper.defjvp(lambda primals, tangents: (steeper(*primals), 3.0 * tangents[0]))


@jax.custom_vjp
def clipped_slope(x):
    return x**2


clipped_slope.defvjp(lambda x: (x**2, x), lambda x, g: (jnp.clip(2 * x, -0.5, 0.5) * g,))


def running(x):
    """A scan with roots inside."""
    return jax.lax.scan(lambda c, row: (jnp.sqrt(c + row), c / row), x[0] + 1, x + 2)


def branching(x):
    def inner(v):
        return jax.lax.cond(v[0] > 10, jnp.log, jax.jit(jnp.sqrt), v)

    return jax.lax.cond(x[0] > 0, inner, lambda v: -v, x)


def looping(x):
    """A while loop, through which only forward mode goes."""
    return jax.lax.while_loop(lambda c: jnp.sum(c) < 50, lambda c: c * (1 + jnp.sqrt(x)), x)


CONSTANT = np.arange(1.0, 4.0)
POINT = np.array([0.5, 1.3, 2.0])
SMOOTH = {
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "cbrt": jnp.cbrt,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "integer power": lambda x: x**3 + x**-2,
    "power": lambda x: x**x + x**2.5 + 2.5**x,
    "power of an integer array": lambda x: jnp.power(x, jnp.arange(3)),
    "quotient": lambda x: x[::-1] / x + 1 / x + x / 3,
    "closed-over constant": lambda x: jnp.sqrt(x * CONSTANT) / CONSTANT,
    "nested jit": lambda x: jax.jit(lambda v: jnp.log(jax.jit(jnp.sqrt)(v)) * v)(x),
    "cond": branching,
    "switch": lambda x: jax.lax.switch(2, [jnp.sin, jnp.log, jnp.cbrt], x),
    "scan": running,
    "loop of known length": lambda x: jax.lax.fori_loop(0, 3, lambda _, c: c * jnp.sqrt(c), x),
    "custom_jvp": lambda x: steeper(jnp.sqrt(x)) + jax.nn.silu(x) + jax.nn.relu(x - 1),
    "custom_vjp": lambda x: clipped_slope(jnp.sqrt(x)),
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.sqrt(x))),
    "vmap": lambda x: jax.vmap(lambda v, w: v / jnp.sqrt(w), (0, None))(x, x),
    "tree of outputs": lambda x: {"a": jnp.sqrt(x), "b": [x, jnp.sum(x**2) ** 0.5]},
    "matrix products": lambda x: jnp.linalg.inv(jnp.outer(x, x) + jnp.eye(3)) @ x,
}


def total(function):
    """The sum of all outputs, weighted, as one number."""
    return lambda x: sum(
        jnp.sum(jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)) * leaf)
        for leaf in jax.tree.leaves(function(x))
    )


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)


def forward(function):
    """Compiled: the value, and the slope along a direction."""
    direction = np.array([1.0, -2.0, 0.5])
    return jax.jit(lambda x: jax.jvp(function, (x,), (direction,)))


@pytest.mark.parametrize("name", SMOOTH)
def test_value_and_reverse_mode_agree_where_the_function_is_smooth(name):
    plain, evaluated = total(SMOOTH[name]), total(safe(SMOOTH[name]))
    with jax.enable_x64(True):
        expected = jax.jit(jax.value_and_grad(plain))(POINT)
        assert_close(jax.jit(jax.value_and_grad(evaluated))(POINT), expected)


@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "custom_vjp"])
def test_value_and_forward_mode_agree_where_the_function_is_smooth(name):
    with jax.enable_x64(True):
        assert_close(forward(safe(SMOOTH[name]))(POINT), forward(SMOOTH[name])(POINT))


def test_forward_mode_goes_through_a_while_loop():
    with jax.enable_x64(True):
        assert_close(forward(safe(looping))(POINT), forward(looping)(POINT))


def test_complex_slopes_agree():
    def function(z):
        return jnp.sqrt(z) / z + jnp.log(z) + z**-2

    point = np.array([1 + 2j, -0.5j, 2 - 1j])

    def along(f):
        return jax.jit(lambda z: jax.jvp(f, (z,), (1j * point,)))

    with jax.enable_x64(True):
        assert_close(along(safe(function))(point), along(function)(point))


# what: (the function of one number, the point, its value there); the slope counts as zero
SINGULAR = {
    "sqrt at 0": (jnp.sqrt, 0.0, 0.0),
    "rsqrt at 0": (jax.lax.rsqrt, 0.0, np.inf),
    "cbrt at 0": (jnp.cbrt, 0.0, 0.0),
    "a root as a power": (lambda x: x**0.5, 0.0, 0.0),
    "the exponent over a zero base": (lambda p: jnp.zeros(()) ** p, -1.0, np.inf),
    "log at 0": (jnp.log, 0.0, -np.inf),
    "log1p at -1": (jnp.log1p, -1.0, -np.inf),
    "a zero denominator": (lambda x: 2.0 / x, 0.0, np.inf),
    "a negative power": (lambda x: x**-2, 0.0, np.inf),
    "in a jit": (jax.jit(lambda x: 1 + jnp.sqrt(x)), 0.0, 1.0),
    "in a cond": (lambda x: jax.lax.cond(x < 1, jnp.sqrt, jnp.cos, x), 0.0, 0.0),
    "in a remat": (jax.checkpoint(lambda x: jnp.sqrt(x)), 0.0, 0.0),
    "under a vmap": (lambda x: jnp.sum(jax.vmap(jnp.sqrt)(x * jnp.ones(2))), 0.0, 0.0),
    "times zero": (lambda x: jnp.sqrt(0.0 * x), 1.0, 0.0),
    "beside a norm": (lambda x: jnp.linalg.norm(x * jnp.ones(3)), 0.0, 0.0),
}


@pytest.mark.parametrize("what", SINGULAR)
def test_a_slope_that_is_not_finite_counts_as_zero(what):
    function, point, value = SINGULAR[what]

    @jax.jit
    def slopes(x):
        found, along = jax.jvp(safe(function), (x,), (jnp.ones(()),))
        return jax.grad(function)(x), jax.grad(safe(function))(x), along, found

    plain, by_reverse, by_forward, found = slopes(jnp.asarray(point))
    assert not np.isfinite(plain)
    assert (by_reverse, by_forward, found) == (0, 0, value)


def test_finite_slopes_at_zero_do_not_change():
    def function(x):
        return x**1.0 + 3 * x**2.0 + x**3 + jnp.log1p(x) + jnp.sqrt(1 + x)

    assert jax.grad(safe(function))(0.0) == 1.0 + 1.0 + 0.5


def test_coordinates_do_not_spoil_each_other():
    x = jnp.array([0.0, 4.0, 0.0])
    np.testing.assert_array_equal(
        jax.grad(lambda x: jnp.sum(safe(jnp.sqrt)(x)))(x), [0.0, 0.25, 0.0]
    )


def test_one_argument_does_not_spoil_the_other():
    grads = jax.grad(safe(lambda x, p: x**p), argnums=(0, 1))(jnp.zeros(()), jnp.asarray(2.0))
    assert grads == (0, 0)
    of_numerator, of_denominator = jax.grad(safe(lambda n, d: (n / d) * d), argnums=(0, 1))(
        1.0, 2.0
    )
    assert (of_numerator, of_denominator) == (1.0, 0.0)


def test_an_adam_with_a_zero_second_moment_has_a_finite_slope():
    def update(b2):
        g = jnp.array([0.0, 2.0])
        v = b2 * jnp.array([0.0, 1.0]) + (1 - b2) * g**2
        return jnp.sum(g / (jnp.sqrt(v) + 1e-8))

    b2, g, v = 0.5, 2.0, 0.5 * 1.0 + 0.5 * 4.0
    assert np.isnan(jax.grad(update)(b2))
    slope = -g / v * (1 - g**2) / (2 * np.sqrt(v))
    np.testing.assert_allclose(jax.grad(safe(update))(b2), slope, rtol=1e-6)


def test_slopes_inside_a_scan_do_not_change():
    def function(x):
        return jax.lax.scan(lambda c, _: (jnp.sqrt(c), None), x, length=1)[0]

    assert jax.grad(safe(function))(0.0) == np.inf


def test_the_safe_function_can_be_compiled_and_vmapped():
    x = jnp.array([0.0, 4.0])
    slopes = jax.jit(jax.vmap(jax.grad(safe(jnp.sqrt))))(x)
    np.testing.assert_array_equal(slopes, [0.0, 0.25])
