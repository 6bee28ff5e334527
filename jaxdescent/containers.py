"""Sees through the containers in which frameworks keep parameters and optimizer states.

    Flax NNX     a Variable around each array; `nnx.state` turns a NamedTuple into a mapping
    Flax linen   a box of axis names around an array; a FrozenDict in place of a dict
    Equinox      modules with leaves that are not arrays; `eqx.filter` puts None in their place
    Orbax        without a template, a mapping in place of a NamedTuple

No framework is imported: a box is recognized by its methods, and a state in the form of a mapping
by the names of its fields.
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar
from typing import get_type_hints as uncached_type_hints

import jax

State = TypeVar("State")
Path = tuple[str, ...]
get_type_hints = lru_cache(uncached_type_hints)  # asked of every mapping in a tree


def unboxed(tree: Any) -> Any:
    """Returns a tree with the contents of Flax's variables and boxes in their place."""
    return jax.tree.map(_open, tree, is_leaf=_is_box)


def _is_box(node: Any) -> bool:
    # The type is asked: a Variable passes the names that it does not have on to its array.
    kind = type(node)
    return hasattr(kind, "get_raw_value") or hasattr(kind, "unbox")


def _open(node: Any) -> Any:
    if not _is_box(node):
        return node
    is_variable = hasattr(type(node), "get_raw_value")
    return unboxed(node.get_raw_value() if is_variable else node.unbox())


def boxed_like(tree: Any, reference: Any) -> Any:
    """Returns the leaves of `tree` in the containers of `reference`, which it matches unboxed."""
    return jax.tree.unflatten(jax.tree.structure(reference), jax.tree.leaves(tree))


def find_states(
    tree: Any, *kinds: type[State], may_be_empty: tuple[str, ...] | None = None
) -> list[State]:
    """Returns the states in a tree that are of some NamedTuple types, in order; not nested ones.

    Args:
      tree: a state as optax returns it, as `nnx.Optimizer` holds it, as `nnx.state` lists it, or
        as Orbax restores it without a template.
      *kinds: the types of the states.
      may_be_empty: the fields that a mapping of the others may lack, because they may have no
        arrays; they are then (). With None a mapping is not a state.

    Returns:
      States of these types, of arrays without boxes.
    """

    def kind_of(node: Any) -> type[State] | None:
        for kind in kinds:
            if isinstance(node, kind):
                return kind
            if may_be_empty is not None and isinstance(node, Mapping):
                fields = {*get_type_hints(kind)}
                if fields - {*may_be_empty} <= set(node) <= fields:
                    return kind
        return None

    def is_state(node: Any) -> bool:
        return kind_of(node) is not None

    nodes = [node for node in jax.tree.leaves(tree, is_leaf=is_state) if is_state(node)]
    return [_as_state(unboxed(node), kind_of(node)) for node in nodes]


def _as_state(node: Any, kind: Any) -> Any:
    """Returns a NamedTuple for a mapping; fields that are annotated as NamedTuples too."""
    if not isinstance(node, Mapping):
        return node
    annotations = get_type_hints(kind)

    def field(name: str) -> Any:
        value, inner = node.get(name, ()), annotations[name]
        return _as_state(value, inner) if hasattr(inner, "_fields") else value

    return kind(*map(field, kind._fields))


def leaves_by_path(tree: Any) -> dict[Path, Any]:
    """Returns the leaves without boxes by the names on their paths, which all containers share."""
    leaves = jax.tree_util.tree_leaves_with_path(unboxed(tree))
    return {tuple(map(_name, path)): leaf for path, leaf in leaves}


def _name(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def variables_of_module(params: Any, paths: Any) -> Any:
    """Returns the variables at some paths of a module of Flax NNX, as `nnx.State`.

    Other parameters are returned as they are.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not isinstance(params, nnx.Module):
        return params
    return nnx.state(params, lambda path, _: tuple(map(str, path)) in paths)


def filled(arrays: Any, params: Any) -> Any:
    """Returns `arrays` with the leaves of `params` where they are None: undoes `params_like`."""
    if jax.tree.structure(arrays) == jax.tree.structure(params):
        return arrays

    def fill(array: Any, leaf: Any) -> Any:
        return leaf if array is None else array

    return jax.tree.map(fill, arrays, params, is_leaf=lambda node: node is None)


def params_like(params: Any, updates: Any) -> Any:
    """Returns the parameters with None where the updates are None.

    Equinox's models hold functions and other leaves that have no gradient. optax ignores them.
    """
    if params is None or jax.tree.structure(params) == jax.tree.structure(updates):
        return params

    def keep(update: Any, leaf: Any) -> Any:
        return None if update is None else leaf

    try:
        return jax.tree.map(keep, updates, params, is_leaf=lambda node: node is None)
    except (TypeError, ValueError):  # not like the updates, which the caller reports
        return params
