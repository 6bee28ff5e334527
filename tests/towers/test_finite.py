"""Checks over trees: right for any number of leaves, and cheap to compile for many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.numerics import all_finite, all_true
from jaxdescent.towers.tower import _stayed_finite as stayed_finite
from tests.compiling import compiled


@pytest.mark.parametrize("count", [0, 1, 8, 9, 100])
def test_one_false_flag_among_any_number_is_found(count):
    flags = [jnp.asarray(True)] * count
    assert bool(jax.jit(all_true)(flags))
    for i in {0, count // 2, count - 1} if count else set():
        assert not jax.jit(all_true)([*flags[:i], jnp.asarray(False), *flags[i + 1 :]])


def test_every_leaf_of_a_large_tree_is_checked():
    tree = {f"leaf {i}": np.ones(3) for i in range(20)}
    assert bool(all_finite(tree))
    for name in tree:
        assert not all_finite({**tree, name: np.array([1.0, np.nan, 1.0])})


def test_an_infinity_by_design_may_stay_but_no_number_may_become_one():
    state = {"best": np.array([np.inf, 1.0]), "count": np.arange(2)}
    assert bool(stayed_finite(state, {"best": np.array([0.5, 2.0]), "count": np.arange(2)}))
    assert bool(stayed_finite(state, state))
    assert not stayed_finite(state, {"best": np.array([0.5, np.nan]), "count": np.arange(2)})


def test_the_program_grows_with_the_leaves_and_not_with_their_square():
    def lines_of_the_program(leaves):
        params = {f"leaf {i}": jnp.ones(2) for i in range(leaves)}
        tune = {"learning_rate": jd.per_leaf(0.1)}
        tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune=tune)
        program = compiled(tx.update, params, tx.init(params), params)
        return len(program.as_text().splitlines())

    assert lines_of_the_program(24) < 2.2 * lines_of_the_program(12)
