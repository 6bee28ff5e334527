"""Tests of loops over selected rows in chunks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescent import chunking

ROWS = 13
CHOSEN_FIRST = jax.jit(chunking.chosen_first)


@pytest.fixture(scope="module")
def tenfold():
    """A function that replaces rows by 10 x + constant, compiled once for each chunk size."""

    def run(size, tree, order, count):
        def function(rows, constants):
            return {"x": rows["x"] * 10 + constants, "n": rows["n"] + 1}

        constants = jnp.arange(ROWS, dtype=jnp.float32)
        return chunking.in_chunks(function, tree, order, count, size=size, constants=constants)

    return jax.jit(run, static_argnums=0)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([1, 4, 13, 40]),
    order=st.permutations(range(ROWS)),
    count=st.integers(0, ROWS),
)
def test_exactly_the_first_rows_of_the_order_are_replaced(tenfold, size, order, count):
    x = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    tree = {"x": jnp.array(x), "n": jnp.zeros(ROWS, jnp.int32)}
    after = tenfold(size, tree, jnp.array(order), count)
    chosen = np.isin(np.arange(ROWS), order[:count])
    expected = np.where(chosen, x * np.float32(10) + np.arange(ROWS, dtype=np.float32), x)
    np.testing.assert_allclose(after["x"], expected, rtol=1e-6)
    np.testing.assert_array_equal(after["n"], chosen)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=9, max_size=9))
def test_selected_rows_come_first_and_keep_their_order(chosen):
    order, count = CHOSEN_FIRST(jnp.array(chosen))
    assert count == sum(chosen)
    first = [i for i, is_chosen in enumerate(chosen) if is_chosen]
    rest = [i for i, is_chosen in enumerate(chosen) if not is_chosen]
    assert order.tolist() == first + rest


@pytest.mark.parametrize(
    ("rows", "size", "chunk"),
    [
        (1, 64, 1),
        (2, 64, 2),
        (3, 64, 4),
        (6, 64, 8),
        (8, 64, 8),
        (20, 64, 24),
        (20, 4, 4),
        (20, 5, 8),
    ],
)
def test_chunks_are_filled_up_to_full_blocks(rows, size, chunk):
    seen = []

    def function(x, _):
        seen.append(len(x))
        return x + 1

    x = jnp.arange(float(rows))
    after = chunking.in_chunks(function, x, jnp.arange(rows), rows, size=size)
    np.testing.assert_array_equal(after, x + 1)
    assert {*seen} == {chunk}


def test_one_program_serves_all_counts():
    looped = jax.jit(
        chex.assert_max_traces(
            lambda x, count: chunking.in_chunks(
                lambda rows, _: rows + 1, x, jnp.arange(8), count, size=2
            ),
            1,
        )
    )
    assert [int(looped(jnp.zeros(8), count).sum()) for count in (0, 3, 8)] == [0, 3, 8]


def test_rows_can_be_random_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    folded = chunking.in_chunks(
        lambda rows, _: jax.vmap(lambda k: jax.random.fold_in(k, 1))(rows),
        keys,
        jnp.array([2, 0, 1]),
        1,
        size=2,
    )
    assert (folded == keys).tolist() == [True, True, False]
    assert folded[2] == jax.random.fold_in(keys[2], 1)
