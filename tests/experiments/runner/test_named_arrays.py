"""A tree has a name for each array and is rebuilt from the arrays bit for bit."""

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

from experiments.runner.named_arrays import MismatchError, copy_to_host, named_leaves, rebuild

# JAX's dtypes without x64; wider ones are narrowed before a program sees them.
DTYPES = ("float32", "float16", "bfloat16", "int32", "uint32", "int8", "uint8", "bool", "complex64")


class Pair(NamedTuple):
    first: Any
    second: Any


def bits(tree):
    """Returns structure, dtypes, shapes and bytes, of random keys their kind too."""
    leaves, structure = jax.tree.flatten(tree)

    def bits_of(leaf):
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            return str(jax.random.key_impl(leaf)), *bits_of(jax.random.key_data(leaf))
        array = np.asarray(leaf)
        return array.dtype.name, array.shape, array.tobytes()

    return structure, [bits_of(leaf) for leaf in leaves]


def round_trip(tree):
    return rebuild(copy_to_host(tree), tree, "file")


@st.composite
def array(draw):
    """Draws arrays of arbitrary bits, so that NaN payloads and negative zeros occur."""
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
        # Names with the separator, and names that look like list indices.
        st.dictionaries(st.sampled_from(["a", "b", "0", "1", "a.b", "a.0", "."]), children),
    )


TREES = st.recursive(st.one_of(array(), st.none()), containers, max_leaves=8)


@given(TREES)
def test_any_tree_is_rebuilt_bit_for_bit(tree):
    assert bits(round_trip(tree)) == bits(tree)


@given(TREES)
def test_every_leaf_has_its_own_name(tree):
    assert len(named_leaves(tree)) == len(jax.tree.leaves(tree))


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
def test_similar_names_are_distinguished(tree):
    assert bits(round_trip(tree)) == bits(tree)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("saved_as", [copy_to_host, named_leaves])
def test_random_keys_draw_the_same_numbers_again(impl, saved_as):
    tree = {"one": jax.random.key(7, impl=impl), "many": jax.random.split(jax.random.key(8), 3)}
    rebuilt = rebuild(saved_as(tree), tree, "file")
    assert bits(rebuilt) == bits(tree)
    assert jax.random.normal(rebuilt["one"]) == jax.random.normal(tree["one"])


def test_a_network_and_its_optimizer_are_rebuilt():
    graph, state = nnx.split(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    tree = {"model": state, "optimizer": optax.adam(optax.linear_schedule(1, 0, 9)).init(state)}
    rebuilt = round_trip(tree)
    assert bits(rebuilt) == bits(tree)
    assert isinstance(nnx.merge(graph, rebuilt["model"]), nnx.BatchNorm)


@pytest.mark.parametrize("tree", [None, [], {"nothing": None}])
def test_a_tree_without_arrays_is_rebuilt(tree):
    assert round_trip(tree) == tree


def test_a_tree_of_one_array_is_rebuilt():
    assert bits(round_trip(np.float32(2.5))) == bits(np.float32(2.5))


@pytest.mark.parametrize("leaf", [3, 2.5, True, np.arange(2), np.ones(2)], ids=repr)
def test_numbers_that_jax_would_narrow_match_their_own_example(leaf):
    # A study may keep a count, or NumPy's own float64, beside its parameters.
    np.testing.assert_array_equal(round_trip({"x": leaf})["x"], leaf)


def test_copies_on_the_host_do_not_change_with_the_original():
    original = np.zeros(3, np.float32)
    copies = copy_to_host({"x": original})
    original += 1
    assert copies["x"].tolist() == [0, 0, 0]
    copies["x"] += 1  # writable


EXAMPLE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": np.zeros((3, 2), np.float32)}, "w is float32[3,2] there, expected float32[2,3]"),
        ({"b": np.zeros(3, ml_dtypes.bfloat16)}, "b is bfloat16[3] there, expected float32[3]"),
        ({"b": None}, "b is missing there, expected float32[3]"),
        ({"c": np.zeros((), bool)}, "c is bool[] there, expected nothing"),
    ],
    ids=["shape", "dtype", "too few", "too many"],
)
def test_a_mismatch_is_one_line_with_the_name_and_both_shapes(change, words):
    with pytest.raises(MismatchError) as raised:
        rebuild(copy_to_host({**EXAMPLE, **change}), EXAMPLE, "checkpoint runs/1")
    message = str(raised.value)
    assert message == f"checkpoint runs/1 belongs to another run or other settings: {words}"


def test_a_nested_leaf_is_named_by_its_path():
    tree = {"layers": [Pair(jnp.ones(2), {"b": jnp.ones(3)})]}
    assert [*named_leaves(tree)] == ["layers.0.first", "layers.0.second.b"]
