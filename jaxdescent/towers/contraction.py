"""The hypergradient: how the last update's hyperparameters changed today's loss.

With U(h) the previous update as a function of its hyperparameters, and g the gradient
after it,

    G = (dU/dh)^T g = sum_i g_i dU_i/dh        over all coordinates i of the parameters.

Forward mode gives the terms, one pass for each number in h (for one that is learned per
leaf a single pass, too): those that are not finite (a number that overflowed; an outer
gradient that is not finite) are left out and the rest of the sum stands. Reverse mode gives
every component of G in one pass, and its sums are dear: so it is for many numbers, and has
forward mode to fall back on where G is not finite; and for what has no forward mode. Slopes
that are singular at zero, as sqrt's, are the business of `safe_derivatives`.
"""

import enum
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers import blocks, spaces
from jaxdescent.towers.conditional import unless
from jaxdescent.towers.finite import all_finite, all_true

# Up to so many passes of forward mode rather than one of reverse mode.
_FEW = 4


class Mode(enum.Enum):
    """Which modes of differentiation go through an update."""

    ANY = enum.auto()
    FORWARD = enum.auto()  # it holds a while loop
    REVERSE = enum.auto()  # it holds a custom_vjp; nothing can be masked


def goes_forward(mode: Mode, hyperparams: Mapping[str, Any]) -> bool:
    """Whether an update is differentiated in forward mode."""
    passes = [1 if isinstance(x, spaces.PerLeaf) else x[0].size for x in hyperparams.values()]
    return mode is Mode.FORWARD or (mode is Mode.ANY and sum(passes) <= _FEW)


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
    if goes_forward(mode, hyperparams):
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
    """The same sums in forward mode, without the terms that are not finite."""
    changes = {}
    for name, node in hyperparams.items():
        # With the other names held fixed: a zero tangent times an infinite slope is NaN.
        updates = lambda x, name=name: update({**hyperparams, name: x}, inputs)[0]
        changes[name] = _changes(updates, node)
    rows, structure = jax.tree.flatten(cotangent)
    size = sum(g.size for g in rows)
    along = [jax.tree.leaves(change) for of_name in changes.values() for change in of_name]
    dtype = jax.tree.leaves(hyperparams)[0].dtype if jax.tree.leaves(hyperparams) else jnp.float32
    sums = [
        blocks.sums(partial(_products, dtype), g, *(change[i] for change in along), of=size)
        for i, g in enumerate(rows)
    ]
    totals = iter(zip(*(of_leaf.totals for of_leaf in sums), strict=True))
    found = {}
    for name, node in hyperparams.items():
        if isinstance(node, spaces.PerLeaf):  # a leaf depends on its own number alone
            found[name] = spaces.PerLeaf(type(node.space)(structure.unflatten(next(totals, ()))))
        else:
            numbers = [sum(next(totals, ()), jnp.zeros((), dtype)) for _ in changes[name]]
            found[name] = type(node)(jnp.stack(numbers).reshape(node[0].shape))
    return Contraction(found, ~all_true([of_leaf.whole for of_leaf in sums]))


def _changes(updates: Callable[[Any], Any], node: Any) -> list[Any]:
    """How the updates change with each number of a hyperparameter, or with those of all leaves."""
    along = lambda tangent: jax.jvp(updates, (node,), (tangent,))[1]
    if isinstance(node, spaces.PerLeaf) or node[0].size == 1:
        return [along(jax.tree.map(jnp.ones_like, node))]
    number = node[0]
    basis = jnp.eye(number.size, dtype=number.dtype).reshape(-1, *number.shape)
    every = jax.vmap(along)(type(node)(basis))
    return [jax.tree.map(lambda x, i=i: x[i], every) for i in range(number.size)]


def _products(dtype: Any, _: Any, g: jax.Array, *changes: jax.Array) -> list[jax.Array]:
    """The terms g_i dU_i."""
    if jnp.iscomplexobj(g):
        return [jnp.real(g * change).astype(dtype) for change in changes]
    return [g.astype(dtype) * change.astype(dtype) for change in changes]
