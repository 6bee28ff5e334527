"""The inputs that a jaxpr reads, and its loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import jax_internals
from jaxdescent.towers.replay.dataflow import holds, inlined, reads


@jax.custom_jvp
def doubled(x, y):
    return 2 * x


@doubled.defjvp
def _(primals, tangents):
    return doubled(*primals), 2 * tangents[0]


def scanned(x, y):
    return jax.lax.scan(lambda c, row: (c + row, None), x, jnp.stack([y, y]))[0]


def looped(x, y):
    return jax.lax.while_loop(lambda c: c < 9, lambda c: 2 * c, x)


# what the function of (x, y) does: (the function, whether it reads x, whether it reads y)
FUNCTIONS = {
    "adds": (lambda x, y: x + y, True, True),
    "returns an input": (lambda x, y: y, False, True),
    "returns a constant": (lambda x, y: jnp.ones(2), False, False),
    "asks for a shape": (lambda x, y: x + jnp.zeros_like(y) * y.size, True, False),
    "multiplies by zero": (lambda x, y: x + 0.0 * y, True, True),
    "stops a gradient": (lambda x, y: x + jax.lax.stop_gradient(y), True, True),
    "computes in vain": (lambda x, y: (jnp.sin(y), x)[1], True, False),
    "goes through jit": (lambda x, y: jax.jit(lambda a, b: 2 * a)(x, y), True, False),
    "takes one of a jit's outputs": (
        lambda x, y: jax.jit(lambda a, b: (a, jnp.exp(b)))(x, y)[1],
        False,
        True,
    ),
    "nests jits": (
        lambda x, y: jax.jit(lambda a, b: jax.jit(lambda c, d: (d, c))(a, b)[0])(x, y),
        False,
        True,
    ),
    "decides by a predicate": (
        lambda x, y: jax.lax.cond(y > 0, lambda: 1.0, lambda: 2.0),
        False,
        1,
    ),
    "reads in one branch": (
        lambda x, y: jax.lax.cond(x > 0, lambda b: 1.0, lambda b: b, y),
        True,
        True,
    ),
    "reads in no branch": (
        lambda x, y: jax.lax.cond(x > 0, lambda b: 1.0, lambda b: 2.0, y),
        True,
        False,
    ),
    "takes one of a cond's outputs": (
        lambda x, y: jax.lax.cond(True, lambda a, b: (a, b), lambda a, b: (-a, b), x, y)[1],
        False,
        True,
    ),
    "switches": (lambda x, y: jax.lax.switch(1, [jnp.sin, jnp.cos, jnp.tan], x), True, False),
    "scans both": (scanned, True, True),
    "scans one": (lambda x, y: (scanned(x, x), scanned(y, y))[0], True, False),
    "loops": (looped, True, False),
    "has its own derivative": (doubled, True, True),  # whose rule may read what it does not
    "rematerializes": (lambda x, y: jax.checkpoint(lambda a, b: jnp.sin(b))(x, y), False, True),
    "is vmapped": (lambda x, y: jax.vmap(lambda a, b: a)(x[None], y[None])[0], True, False),
    "reports": (lambda x, y: (jax.debug.callback(lambda _: None, y), x)[1], True, True),
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_reads_returns_the_inputs_that_a_function_depends_on(what):
    function, of_x, of_y = FUNCTIONS[what]
    args = jnp.asarray(0.5), jnp.asarray(0.25)
    assert reads(jax.make_jaxpr(function)(*args), args) == (of_x, of_y)


@pytest.mark.parametrize("what", FUNCTIONS)
def test_an_input_that_is_not_read_changes_nothing(what):
    function = FUNCTIONS[what][0]
    args = jnp.asarray(0.5), jnp.asarray(0.25)
    used = reads(jax.make_jaxpr(function)(*args), args)
    changed = [arg if flag else arg + 100 for arg, flag in zip(args, used, strict=True)]
    np.testing.assert_array_equal(function(*changed), function(*args))


def test_reads_returns_trees_like_the_arguments():
    def function(params, rate, unused):
        return {"w": params["w"] * rate[0]}

    args = {"w": jnp.ones(2), "b": (jnp.ones(3), None)}, [jnp.ones(())], ()
    found = reads(jax.make_jaxpr(function)(*args), args)
    assert found == ({"w": True, "b": (False, None)}, [True], ())


def test_one_of_many_outputs_is_enough():
    args = 1.0, 2.0, 3.0
    assert reads(jax.make_jaxpr(lambda x, y, z: (x, 2.0, -z))(*args), args) == (True, False, True)


def counted(x, n):
    return jax.lax.fori_loop(0, n, lambda _, c: c + 1, x)


LOOPS = {
    "no loop": (lambda x: x + 1, False),
    "a loop of known length": (lambda x: counted(x, 3), False),
    "a scan": (lambda x: scanned(x, x), False),
    "a while loop": (lambda x: looped(x, x), True),
    "a loop of traced length": (lambda x: counted(x, x.astype(int)), True),
    "a while loop in a jit": (lambda x: jax.jit(looped)(x, x), True),
    "a while loop in a branch": (
        lambda x: jax.lax.cond(x > 0, lambda: looped(x, x), lambda: x),
        True,
    ),
    "a while loop in a scan": (
        lambda x: jax.lax.scan(lambda c, _: (looped(c, c), None), x, length=2)[0],
        True,
    ),
    "a while loop in a remat": (lambda x: jax.checkpoint(looped)(x, x), True),
    "a while loop under vmap": (lambda x: jax.vmap(looped)(x[None], x[None]), True),
}


@pytest.mark.parametrize("what", LOOPS)
def test_a_while_loop_is_found_however_deep(what):
    function, expected = LOOPS[what]
    assert holds(jax.make_jaxpr(function)(jnp.asarray(1.0)), "while") is expected


def test_constants_of_an_inner_function_are_kept():
    constant = np.arange(3.0)
    jaxpr = jax.make_jaxpr(jax.jit(lambda x: x + constant))(jnp.ones(3))
    flat = inlined(jaxpr)
    assert not holds(flat, "jit")
    found = jax_internals.jaxpr_as_fun(flat)(jnp.ones(3))
    np.testing.assert_array_equal(found[0], [1, 2, 3])
