"""Random keys in the states of agents: how they are found, and how each agent gets its own.

Typed keys are found wherever they are, also in the variables of Flax NNX. A raw key is an array of
integers like any other. It is found by its shape and dtype if it is the whole tree, or if "key" or
"rng" occurs in a name on its path, as in {"rngs": {"dropout": key}}.
"""

from typing import Any

import jax
import jax.numpy as jnp

RAW_KEY_NAMES = ("key", "rng")
"""Parts of the names under which arrays with the shape of raw keys are taken for keys."""


def is_key(value: Any) -> bool:
    """True if `value` is an array of typed random keys."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_raw_key(path: Any, leaf: Any) -> bool:
    """True if a leaf has the shape and the dtype of raw random keys, and a path that says so."""
    raw_shape = jax.eval_shape(jax.random.PRNGKey, 0).shape
    if jnp.result_type(leaf) != jnp.uint32 or jnp.shape(leaf)[-1:] != raw_shape:
        return False
    names = [str(getattr(part, "name", getattr(part, "key", ""))).lower() for part in path]
    return not names or any(part in name for name in names for part in RAW_KEY_NAMES)


def fold_into_keys(tree: Any, numbers: jax.Array) -> Any:
    """Folds numbers, i32[agents], into the random keys of a tree [agents, ...].

    Leaves that are not keys are returned as they are.
    """

    def fold(path: Any, leaf: Any) -> Any:
        if is_key(leaf):
            shape = ()
        elif jnp.ndim(leaf) > 1 and is_raw_key(path, leaf):
            shape = leaf.shape[-1:]
        else:
            return leaf
        keys = leaf.reshape(len(leaf), -1, *shape)
        fold_each = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)))
        return fold_each(keys, numbers).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(fold, tree)
