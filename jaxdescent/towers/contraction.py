"""The hypergradient: how the last update's hyperparameters changed today's loss.

With U(h) the previous update as a function of its hyperparameters, and g the gradient
after it,

    G = (dU/dh)^T g = sum_i g_i dU_i/dh        over all coordinates i of the parameters.

Reverse mode gives every component of G in one pass. Where it meets a while loop, or
where a term is not finite (a number that overflowed; an outer gradient that is not
finite), forward mode gives the terms one by one: those that are not finite are left out
and the rest of the sum stands. Slopes that are singular at zero, as sqrt's, are the
business of `safe_derivatives`.
"""

import enum
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers import spaces
from jaxdescent.towers.conditional import unless
from jaxdescent.towers.finite import all_finite, all_true


class Mode(enum.Enum):
    """Which modes of differentiation go through an update."""

    ANY = "reverse"
    FORWARD = "forward"  # it holds a while loop
    REVERSE = "reverse only"  # it holds a custom_vjp; nothing can be masked


class Contraction(NamedTuple):
    """A hypergradient, and whether terms had to be left out of it."""

    hypergradient: dict[str, Any]
    masked: jax.Array


def contract(
    update: Callable[..., tuple[Any, Any]],
    hyperparams: Mapping[str, Any],
    inputs: Any,
    grads: Any,
    armed: jax.Array,
    *,
    mode: Mode = Mode.ANY,
) -> tuple[Contraction, Any]:
    """Contracts the derivative of an update with a gradient.

    Args:
      update: from hyperparameters and inputs to `(updates, state)`.
      hyperparams: coordinates, where the derivative is taken.
      inputs: all the arrays that the update is a function of besides.
      grads: a tree like the updates.
      armed: bool[]; where false the hypergradient is zero and nothing is masked.
      mode: which modes go through the update.

    Returns:
      The contraction, with a hypergradient like `hyperparams` that is always finite,
      and the state that `update` returned.
    """
    cotangent = jax.tree.map(jnp.conj, grads)  # optax's convention for complex parameters
    by_terms = lambda *arguments: _by_terms(update, *arguments)
    if mode is Mode.FORWARD:
        state = update(hyperparams, inputs)[1]
        found = by_terms(hyperparams, inputs, cotangent)
    else:
        of_hyperparams = lambda h: update(h, inputs)
        _, pull, state = jax.vjp(of_hyperparams, hyperparams, has_aux=True)
        (by_reverse,) = pull(cotangent)
        found = Contraction(by_reverse, jnp.zeros((), bool))
        if mode is Mode.ANY:
            fine = all_finite(by_reverse) | ~armed
            found = unless(by_terms)(fine, found, hyperparams, inputs, cotangent)
    return settled(found, armed), state


def settled(found: Contraction, armed: jax.Array) -> Contraction:
    """A contraction that is finite, and zero where there was nothing to differentiate."""
    zero = ~armed | ~all_finite(found.hypergradient)  # a sum of finite terms may overflow
    hypergradient = jax.tree.map(
        lambda leaf: jnp.where(zero, jnp.zeros_like(leaf), leaf), found.hypergradient
    )
    return Contraction(hypergradient, armed & (found.masked | zero))


def _by_terms(
    update: Callable[..., tuple[Any, Any]],
    hyperparams: Mapping[str, Any],
    inputs: Any,
    cotangent: Any,
) -> Contraction:
    """The same sums in forward mode, name by name, without the terms that are not finite."""
    found, whole = {}, []
    for name, node in hyperparams.items():
        # With the other names held fixed: a zero tangent times an infinite slope is NaN.
        updates = lambda x, name=name: update({**hyperparams, name: x}, inputs)[0]
        along = partial(_terms_along, updates, node)
        if isinstance(node, spaces.PerLeaf):  # a leaf depends on its own number alone
            terms = along(jax.tree.map(jnp.ones_like, node), cotangent)
            found[name] = spaces.PerLeaf(type(node.space)(_totals(terms)))
        else:
            number = node[0]
            basis = jnp.eye(number.size, dtype=number.dtype).reshape(-1, *number.shape)
            terms = jax.vmap(along, in_axes=(0, None))(type(node)(basis), cotangent)
            total = sum(jax.tree.leaves(_totals(terms)), jnp.zeros(number.size, number.dtype))
            found[name] = type(node)(total.reshape(number.shape))
        whole += [jnp.all(pair.whole) for pair in jax.tree.leaves(terms, is_leaf=_is_terms)]
    return Contraction(found, ~all_true(whole))


class _Terms(NamedTuple):
    """The sum of a leaf's finite terms, and whether these are all of them."""

    total: jax.Array
    whole: jax.Array


def _is_terms(node: Any) -> bool:
    return isinstance(node, _Terms)


def _totals(terms: Any) -> Any:
    return jax.tree.map(lambda pair: pair.total, terms, is_leaf=_is_terms)


def _terms_along(updates: Callable[[Any], Any], node: Any, tangent: Any, cotangent: Any) -> Any:
    """For each leaf, the finite terms g_i dU_i in the direction of a tangent."""
    dtype = jax.tree.leaves(node)[0].dtype if jax.tree.leaves(node) else jnp.float32
    _, change = jax.jvp(updates, (node,), (tangent,))

    def of_leaf(g: jax.Array, du: jax.Array) -> _Terms:
        if jnp.iscomplexobj(g):
            terms = jnp.real(g * du).astype(dtype)
        else:
            terms = g.astype(dtype) * du.astype(dtype)
        finite = jnp.isfinite(terms)
        return _Terms(jnp.sum(jnp.where(finite, terms, 0)), jnp.all(finite))

    return jax.tree.map(of_leaf, cotangent, change)
