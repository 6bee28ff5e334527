"""A tree goes into names, a table and bytes, and comes back as it was, bit for bit."""

import json
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from experiments.runner.packing import (
    PackingError,
    flatten,
    leaves,
    pack,
    unflatten,
    unpack,
)

# What jax holds without x64; wider ones would be narrowed before any program saw them.
DTYPES = ("float32", "float16", "bfloat16", "int32", "uint32", "int8", "uint8", "bool", "complex64")


class Pair(NamedTuple):
    first: Any
    second: Any


def bits(tree):
    """Structure, dtypes, shapes and bytes; of a typed key also its kind."""
    found, structure = jax.tree.flatten(tree)

    def of(leaf):
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            return str(jax.random.key_impl(leaf)), *of(jax.random.key_data(leaf))
        array = np.asarray(leaf)
        return array.dtype.name, array.shape, array.tobytes()

    return structure, [of(leaf) for leaf in found]


def through_json(items):
    """Through `pack`, the table through JSON as in a checkpoint, and back."""
    table, content = pack(items)
    return unpack(json.loads(json.dumps(table)), content)


def there_and_back(tree):
    return unflatten(through_json({"item": leaves(tree)})["item"], tree, "here")


@st.composite
def array(draw):
    """Any bits at all, so that nan payloads and negative zeros are among them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    size = int(np.prod(shape)) * dtype.itemsize
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    content = content & 1 if dtype.kind == "b" else content
    return content.copy().view(dtype).reshape(shape)


def containers(children):
    return st.one_of(
        st.lists(children, max_size=3),
        st.tuples(children, children).map(lambda both: Pair(*both)),
        # Names with the separator, and names that look like the places in a list.
        st.dictionaries(st.sampled_from(["a", "b", "0", "1", "a.b", "a.0", "."]), children),
    )


TREES = st.recursive(st.one_of(array(), st.none()), containers, max_leaves=8)


@given(TREES)
def test_any_tree_comes_back_as_it_was(tree):
    assert bits(there_and_back(tree)) == bits(tree)


@given(TREES)
def test_every_leaf_has_a_name_of_its_own(tree):
    assert len(leaves(tree)) == len(jax.tree.leaves(tree))


@given(TREES, TREES)
def test_items_do_not_mix(one, other):
    items = {"one": leaves(one), "other": leaves(other)}
    found = through_json(items)
    assert bits(unflatten(found["one"], one, "here")) == bits(one)
    assert bits(unflatten(found["other"], other, "here")) == bits(other)


@pytest.mark.parametrize(
    "tree",
    [
        OrderedDict([(0, np.ones(2, np.float32)), ("0", np.zeros(3, np.float32))]),
        {"a.b": np.ones(2, np.float32), "a": {"b": np.zeros(3, np.float32)}},
        {"a.0": np.ones(2, np.float32), "a": [np.zeros(3, np.float32)]},
        {"": np.ones(2, np.float32), ".": np.zeros(3, np.float32)},
        Pair({"x": np.float32(1)}, {"x": np.float32(2)}),
    ],
    ids=["0 and '0'", "a.b", "a.0", "empty", "fields"],
)
def test_names_that_look_alike_are_told_apart(tree):
    assert bits(there_and_back(tree)) == bits(tree)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_come_back_with_the_same_numbers_to_draw(impl):
    tree = {"one": jax.random.key(7, impl=impl), "many": jax.random.split(jax.random.key(8), 3)}
    back = there_and_back(tree)
    assert bits(back) == bits(tree)
    assert jax.random.normal(back["one"]) == jax.random.normal(tree["one"])


def test_what_a_network_and_its_optimizer_keep_comes_back():
    graph, state = nnx.split(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    tree = {"model": state, "optimizer": optax.adam(optax.linear_schedule(1, 0, 9)).init(state)}
    back = there_and_back(tree)
    assert bits(back) == bits(tree)
    assert isinstance(nnx.merge(graph, back["model"]), nnx.BatchNorm)


@pytest.mark.parametrize("tree", [None, [], {"nothing": None}])
def test_a_tree_without_arrays_comes_back(tree):
    assert there_and_back(tree) == tree


def test_a_tree_that_is_one_array_comes_back():
    assert bits(there_and_back(np.float32(2.5))) == bits(np.float32(2.5))


@pytest.mark.parametrize("leaf", [3, 2.5, True, np.arange(2), np.ones(2)], ids=repr)
def test_numbers_that_jax_would_narrow_fit_the_example_that_they_came_from(leaf):
    # A study may keep a count, or NumPy's own float64, beside its parameters.
    back = unflatten(flatten({"x": leaf}), {"x": leaf}, "here")
    np.testing.assert_array_equal(back["x"], leaf)


def test_flatten_copies_so_that_what_is_kept_stays():
    mine = np.zeros(3, np.float32)
    kept = flatten({"x": mine})
    mine += 1
    assert kept["x"].tolist() == [0, 0, 0]


def test_pack_copies_and_unpacked_arrays_are_their_own():
    mine = np.zeros(3, np.float32)
    table, content = pack({"item": {"x": mine}})
    mine += 1
    found = unpack(table, content)["item"]["x"]
    assert found.tolist() == [0, 0, 0]
    content[...] = 255
    assert found.tolist() == [0, 0, 0]
    found += 1  # it can be written, too


def test_the_bytes_lie_end_to_end():
    table, content = pack({"one": {"x": np.ones(3, np.uint8)}, "two": {"y": np.ones(2, "f4")}})
    assert [table["one"]["x"]["start"], table["two"]["y"]["start"]] == [0, 3]
    assert content.nbytes == 3 + 8


HERE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": np.zeros((3, 2), np.float32)}, "w is float32[3,2] there and float32[2,3] here"),
        ({"b": np.zeros(3, ml_dtypes.bfloat16)}, "b is bfloat16[3] there and float32[3] here"),
        ({"b": None}, "b is missing there and float32[3] here"),
        ({"c": np.zeros((), bool)}, "c is bool[] there and missing here"),
    ],
    ids=["shape", "dtype", "too few", "too many"],
)
def test_what_does_not_fit_is_one_line_with_the_leaf_and_both_shapes(change, words):
    with pytest.raises(PackingError) as raised:
        unflatten(flatten({**HERE, **change}), HERE, "checkpoint runs/1")
    said = str(raised.value)
    assert said == f"checkpoint runs/1 belongs to another run or other settings: {words}"


def test_a_nested_leaf_is_named_by_its_path():
    tree = {"layers": [Pair(jnp.ones(2), {"b": jnp.ones(3)})]}
    assert [*leaves(tree)] == ["layers.0.first", "layers.0.second.b"]
