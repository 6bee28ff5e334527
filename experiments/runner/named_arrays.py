"""The arrays of a tree by name, and the tree from its arrays.

A name is the path of the leaf: fields, keys and indices joined by dots, such as `params.0.w`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runner import processes


class MismatchError(Exception):
    """The arrays do not match the tree; the message is one line that names the array."""


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves by name: JAX arrays unchanged, others as NumPy arrays.

    Numbers and NumPy arrays have the dtype that JAX gives them.
    """
    paths = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "." for path, _ in paths]
    if len({*names}) < len(names):  # the keys 0 and "0", for example
        names = [jax.tree_util.keystr(path) for path, _ in paths]
    return {name: _as_array(leaf) for name, (_, leaf) in zip(names, paths, strict=True)}


def copy_to_host(tree: Any) -> dict[str, np.ndarray]:
    """Returns copies of the leaves by name as NumPy arrays; a random key becomes its data."""
    leaves = named_leaves(processes.on_host(tree))
    return {name: np.array(key_data(leaf)) for name, leaf in leaves.items()}


def rebuild(arrays: Mapping[str, Any], example: Any, source: str) -> Any:
    """Returns a tree like `example` that has the arrays as leaves.

    Args:
      arrays: by name; random keys as keys or as their data.
      example: a tree of arrays.
      source: where the arrays come from, for the error.

    Raises:
      MismatchError: a name, a shape or a dtype differs.

    Example:
      >>> rebuild({"x.0": np.ones(2, np.float32)}, {"x": [np.zeros(2, np.float32)]}, "file")
      {'x': [array([1., 1.], dtype=float32)]}
    """
    check_match(arrays, example, source)
    leaves = []
    for name, leaf in named_leaves(example).items():
        array = arrays[name]
        if _is_key(leaf) and not _is_key(array):
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(example), leaves)


def check_match(arrays: Mapping[str, Any], example: Any, source: str) -> None:
    """Raises MismatchError if a name, a shape or a dtype differs.

    Args:
      arrays: by name; their shapes and dtypes are enough.
      example: a tree of arrays.
      source: where the arrays come from, for the error.
    """
    expected = named_leaves(example)
    for name in [*expected, *arrays]:
        saved, wanted = (_form(side[name]) if name in side else None for side in (arrays, expected))
        if saved != wanted:
            raise MismatchError(
                f"{source} belongs to another run or other settings: "
                f"{name} is {saved or 'missing'} there, expected {wanted or 'nothing'}"
            )


def key_data(leaf: Any) -> Any:
    """Returns the data of a random key, and any other array unchanged."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, jax.typeof(leaf).dtype)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _form(leaf: Any) -> str:
    """Returns shape and dtype; a random key has its data's."""
    leaf = key_data(leaf)
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
