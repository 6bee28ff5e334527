"""Agents as rows of a matrix, for rules that combine coordinates of different agents."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree


def as_rows(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Returns a tree [agents, ...] as f[agents, n], and the function that maps rows back."""
    _, to_tree = ravel_pytree(jax.tree.map(lambda x: x[0], tree))
    return jax.vmap(lambda agent: ravel_pytree(agent)[0])(tree), jax.vmap(to_tree)
