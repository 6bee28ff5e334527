"""The hypergradient: how the last update's hyperparameters changed today's loss.

With U(h) the previous update as a function of its hyperparameters, and g the gradient
after it,

    G = (dU/dh)^T g = sum_i g_i dU_i/dh        over all coordinates i of the parameters.

Reverse mode gives every component of G in one pass. Where it meets a while loop, or
where one dU_i/dh is not finite (the derivative of sqrt at zero, for a gradient
coordinate that has always been zero), forward mode gives the terms one by one: the
terms that are not finite are left out and the rest of the sum stands.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers import spaces


class Contraction(NamedTuple):
    """A hypergradient, and whether terms had to be left out of it."""

    hypergradient: dict[str, Any]
    masked: jax.Array


def contract(
    update: Callable[[Any], tuple[Any, Any]],
    hyperparams: Mapping[str, Any],
    grads: Any,
    armed: jax.Array,
    *,
    forward: bool,
) -> tuple[Contraction, Any]:
    """Contracts the derivative of an update with a gradient.

    Args:
      update: from hyperparameters to `(updates, state)`.
      hyperparams: coordinates, where the derivative is taken.
      grads: a tree like the updates.
      armed: bool[]; where false the hypergradient is zero and nothing is masked.
      forward: use forward mode throughout.

    Returns:
      The contraction, with a hypergradient like `hyperparams` that is always finite,
      and the state that `update` returned.
    """
    cotangent = jax.tree.map(jnp.conj, grads)  # optax's convention for complex parameters

    def by_terms() -> Contraction:
        return _by_terms(lambda h: update(h)[0], hyperparams, cotangent)

    if forward:
        state = update(hyperparams)[1]
        found = by_terms()
    else:
        _, pull, state = jax.vjp(update, hyperparams, has_aux=True)
        (by_reverse,) = pull(cotangent)
        found = jax.lax.cond(
            all_finite(by_reverse) | ~armed,
            lambda: Contraction(by_reverse, jnp.zeros((), bool)),
            by_terms,
        )
    zero = ~armed | ~all_finite(found.hypergradient)  # a sum of finite terms may overflow
    hypergradient = jax.tree.map(
        lambda leaf: jnp.where(zero, jnp.zeros_like(leaf), leaf), found.hypergradient
    )
    return Contraction(hypergradient, armed & (found.masked | zero)), state


def _by_terms(
    updates: Callable[[Any], Any], hyperparams: Mapping[str, Any], cotangent: Any
) -> Contraction:
    directions = _directions(hyperparams)
    dtype = jax.tree.leaves(directions)[0].dtype

    def along(tangent: Any) -> Any:
        _, change = jax.jvp(updates, (hyperparams,), (tangent,))
        return jax.tree.map(lambda g, u: _finite_terms(g, u, dtype), cotangent, change)

    sums = jax.vmap(along)(jax.tree.map(lambda *rows: jnp.stack(rows), *directions))
    terms = jax.tree.map(lambda pair: pair[0], sums, is_leaf=_is_pair)
    dropped = [pair[1] for pair in jax.tree.leaves(sums, is_leaf=_is_pair)]
    masked = jnp.any(jnp.stack(dropped)) if dropped else jnp.zeros((), bool)
    total = sum(jax.tree.leaves(terms), jnp.zeros(len(directions), dtype))
    return Contraction(_arrange(hyperparams, terms, total), masked)


class _Terms(NamedTuple):
    total: jax.Array
    dropped: jax.Array


def _is_pair(node: Any) -> bool:
    return isinstance(node, _Terms)


def _finite_terms(cotangent: jax.Array, change: jax.Array, dtype: Any) -> _Terms:
    if jnp.iscomplexobj(cotangent):
        terms = jnp.real(cotangent * change).astype(dtype)
    else:
        terms = cotangent.astype(dtype) * change.astype(dtype)
    finite = jnp.isfinite(terms)
    return _Terms(jnp.sum(jnp.where(finite, terms, 0)), ~jnp.all(finite))


def _directions(hyperparams: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One tangent per component; a name that is learned per leaf moves all leaves at once."""
    zeros = jax.tree.map(jnp.zeros_like, dict(hyperparams))
    directions = []
    for name, node in zeros.items():
        if isinstance(node, spaces.PerLeaf):
            directions.append({**zeros, name: jax.tree.map(jnp.ones_like, node)})
            continue
        number = node[0]
        basis = jnp.eye(number.size, dtype=number.dtype).reshape(-1, *number.shape)
        directions += [{**zeros, name: type(node)(direction)} for direction in basis]
    return directions


def _arrange(hyperparams: Mapping[str, Any], terms: Any, total: jax.Array) -> dict[str, Any]:
    """Puts the sums, an entry per direction, into the form of the hyperparameters."""
    arranged, row = {}, 0
    for name, node in hyperparams.items():
        if isinstance(node, spaces.PerLeaf):
            of_leaves = jax.tree.map(lambda sums, row=row: sums[row], terms)
            arranged[name] = spaces.PerLeaf(type(node.space)(of_leaves))
            row += 1
        else:
            size, shape = node[0].size, node[0].shape
            arranged[name] = type(node)(total[row : row + size].reshape(shape))
            row += size
    return arranged


def all_finite(tree: Any) -> jax.Array:
    """Whether every number in a tree of floating or complex leaves is finite; bool[]."""
    checks = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return jnp.all(jnp.stack(checks)) if checks else jnp.ones((), bool)
