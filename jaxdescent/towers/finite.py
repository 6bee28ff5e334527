"""Checks for numbers that are not finite, over whole trees."""

from typing import Any

import jax
import jax.numpy as jnp

_FEW = 8


def all_true(flags: list[jax.Array]) -> jax.Array:
    """Whether every flag in a list of bool[] is true."""
    if not flags:
        return jnp.ones((), bool)
    together = jnp.stack(flags)
    if len(flags) <= _FEW:
        return jnp.all(together)
    # XLA would fuse a reduction of n flags into each of its n uses, a program that grows with
    # the square of n. It does not fuse a sort, and false sorts first.
    return jnp.sort(together)[0]


def all_finite(tree: Any) -> jax.Array:
    """Whether every number in the floating and complex leaves of a tree is finite; bool[]."""
    return all_true(
        [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if _inexact(leaf)]
    )


def stayed_finite(before: Any, after: Any) -> jax.Array:
    """Whether no finite number became infinite or NaN; some states hold infinities by design."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all_true(
        [jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)) for old, new in pairs if _inexact(old)]
    )


def _inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
