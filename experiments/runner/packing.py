"""A tree of arrays as names, a table and bytes, and back.

An array's name is its path in the tree; a typed random key is taken by its numbers. `pack`
lays the bytes of many arrays end to end and `unpack` finds them again by the table, which
JSON can hold.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class PackingError(Exception):
    """Arrays that do not make the tree that is wanted; the message is one line."""


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Copies of a tree's arrays on the host, by path; of a typed key its numbers."""
    return {path: np.array(leaf) for path, leaf in leaves(tree).items()}


def unflatten(arrays: Mapping[str, np.ndarray], example: Any, where: str) -> Any:
    """The tree like `example` that the arrays make.

    Args:
      arrays: by path, as `flatten` returns them.
      example: a tree of arrays.
      where: what they come from, for the error.

    Raises:
      PackingError: a name, a shape or a dtype differs.
    """
    wanted = {path: jax.typeof(leaf) for path, leaf in leaves(example).items()}
    for path in [*wanted, *arrays]:
        here, there = (_shape(side.get(path)) for side in (wanted, arrays))
        if here != there:
            raise PackingError(
                f"{where} belongs to another run or other settings: "
                f"{path} is {there} there and {here} here"
            )
    examples, structure = jax.tree.flatten(example)
    restored: list[Any] = []
    for leaf, array in zip(examples, (arrays[path] for path in wanted), strict=True):
        if _is_key(leaf):
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        restored.append(array)
    return jax.tree.unflatten(structure, restored)


def pack(items: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], np.ndarray]:
    """Where each array of each item is, and a copy of them all end to end.

    It is a copy since a donated buffer is overwritten by the next step.
    """
    table, place, end = {}, [], 0
    for item, arrays in items.items():
        table[item] = {}
        for path, leaf in jax.device_get(dict(arrays)).items():
            array = np.asarray(leaf)
            row = {"shape": [*array.shape], "dtype": array.dtype.name, "start": end}
            table[item][path] = row
            place.append((end, array))
            end += array.nbytes
    content = np.zeros(max(end, 1), np.uint8)  # Orbax takes no array without elements
    for start, array in place:
        numbers = content[start : start + array.nbytes].view(array.dtype)
        numbers.reshape(array.shape)[...] = array
    return table, content


def unpack(table: Mapping[str, Any], content: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each item by path, from what `pack` returned.

    Example:
      >>> unpack(*pack({"carry": {"x": np.arange(3.0)}}))
      {'carry': {'x': array([0., 1., 2.])}}
    """

    def array(row: Mapping[str, Any]) -> np.ndarray:
        dtype = np.dtype(row["dtype"])
        size = dtype.itemsize * int(np.prod(row["shape"]))
        part = content[row["start"] : row["start"] + size]
        return part.copy().view(dtype).reshape(row["shape"])

    return {item: {path: array(row) for path, row in rows.items()} for item, rows in table.items()}


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves by path, in the dtype that JAX gives them; of a typed key its numbers."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "." for path, _ in found]
    if len({*names}) < len(names):  # as of the keys 0 and "0"
        names = [jax.tree_util.keystr(path) for path, _ in found]
    return dict(zip(names, (_numbers(leaf) for _, leaf in found), strict=True))


def _numbers(leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, jax.typeof(leaf).dtype)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape(leaf: Any) -> str:
    if leaf is None:
        return "missing"
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
