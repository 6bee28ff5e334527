"""Agents as rows of a matrix, and which of them a rule moves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxdescent.agents.population import Population


def as_rows(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Returns a tree [agents, ...] as f[agents, n], and the function that maps rows back."""
    _, to_tree = ravel_pytree(jax.tree.map(lambda x: x[0], tree))
    return jax.vmap(lambda agent: ravel_pytree(agent)[0])(tree), jax.vmap(to_tree)


def not_pruned(population: Population, members: jax.Array) -> jax.Array:
    """Returns bool[agents], True for the members that no other rule has pruned in this rung.

    The loop removes agents whose value is not finite. They remain members, because a rule that
    moves them can bring them back. If a rule has pruned agents with finite values in this rung,
    however, it has pruned these too.
    """
    removed = members & ~population.alive & population.evaluated
    is_finite = jnp.isfinite(population.values)
    remains = removed & ~is_finite & ~jnp.any(removed & is_finite)
    return members & (population.alive | remains)
