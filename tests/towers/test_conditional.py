"""A conditional that stays one under vmap, however deep, and can be differentiated through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.towers.replay.conditional import unless

FINE = jnp.array([True, False, True])
VALUES = {"a": jnp.array([1.0, 2.0, 3.0]), "n": jnp.array([1, 2, 3])}
INPUTS = jnp.array([4.0, 9.0, 16.0])


def root(x):
    return {"a": jnp.sqrt(x), "n": jnp.int32(x)}


def choose(fine, value, x):
    return unless(root)(fine, value, x)


def test_each_agent_gets_its_own_choice():
    arguments = FINE, VALUES, INPUTS
    in_rows = jax.tree.map(lambda x: x[None], arguments)
    one_by_one = [choose(*jax.tree.map(lambda x, i=i: x[i], arguments)) for i in range(3)]
    for chosen in (
        jax.vmap(choose)(*arguments),
        jax.tree.map(lambda x: x[0], jax.vmap(jax.vmap(choose))(*in_rows)),
        jax.tree.map(lambda *x: jnp.stack(x), *one_by_one),
    ):
        np.testing.assert_array_equal(chosen["a"], [1.0, 3.0, 3.0])
        np.testing.assert_array_equal(chosen["n"], [1, 9, 3])


@pytest.mark.parametrize("in_axes", [(None, 0, 0), (0, None, None), (None, None, 0)])
def test_arguments_without_an_agent_axis_are_shared(in_axes):
    pairs = zip((FINE, VALUES, INPUTS), in_axes, strict=True)

    def pick(tree, axis):
        return tree if axis == 0 else jax.tree.map(lambda x: x[1], tree)

    arguments = [pick(*pair) for pair in pairs]
    chosen = jax.vmap(choose, in_axes=in_axes)(*arguments)
    each = [jnp.broadcast_to(x, (3,)) for x in (arguments[0], arguments[1]["a"], arguments[2])]
    np.testing.assert_array_equal(chosen["a"], jnp.where(each[0], each[1], jnp.sqrt(each[2])))


@pytest.mark.parametrize("levels", [1, 2])
def test_nothing_is_computed_if_no_agent_needs_it(levels):
    computed = []

    def counted(x):
        jax.debug.callback(lambda: computed.append(1))
        return jnp.sqrt(x)

    run, x = jax.vmap(unless(counted)), INPUTS
    if levels == 2:
        run, x = jax.vmap(run), x[None]
    fine = jnp.ones(x.shape, bool)
    jax.block_until_ready(jax.jit(run)(fine, x, x))
    jax.effects_barrier()
    assert computed == []
    jax.block_until_ready(jax.jit(run)(fine.at[..., 0].set(False), x, x))
    jax.effects_barrier()
    assert computed


def test_derivatives_pass_through_the_value_where_it_is_fine():
    def total(x):
        return jnp.sum(jax.vmap(unless(jnp.sqrt))(FINE, 5 * x, x))

    np.testing.assert_array_equal(jax.grad(total)(INPUTS), [5.0, 0.0, 5.0])

    def alone(x):
        return unless(jnp.sqrt)(FINE[0], 5 * x, x)

    assert float(jax.jit(jax.grad(alone))(2.0)) == 5.0
