"""The hypergradient: how the last update's hyperparameters changed today's loss.

With U(h) the previous update as a function of its hyperparameters, and g the gradient
after it,

    G = (dU/dh)^T g = sum_i g_i dU_i/dh        over all coordinates i of the parameters.

Forward mode gives the terms, one pass for each number in h (for one that is learned per
leaf a single pass, too): those that are not finite (a number that overflowed; an outer
gradient that is not finite) are left out and the rest of the sum stands. Reverse mode gives
every component of G in one pass, and its sums are dear: so it is for many numbers and for
narrow parameters, and has forward mode to fall back on where G is not finite; and for what
has no forward mode. Slopes that are singular at zero, as sqrt's, are the business of
`safe_derivatives`.
"""

import enum
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import all_finite, all_true
from jaxdescent.towers import spaces
from jaxdescent.towers.replay import blocks
from jaxdescent.towers.replay.blocks import Sums
from jaxdescent.towers.replay.conditional import unless

# Up to so many passes of forward mode rather than one of reverse mode.
_FEW = 4


class Mode(enum.Enum):
    """Which modes of differentiation go through an update."""

    ANY = enum.auto()
    FORWARD = enum.auto()  # it holds a while loop
    REVERSE = enum.auto()  # it holds a custom_vjp; nothing can be masked


def goes_forward(mode: Mode, hyperparams: Mapping[str, Any], params: Any) -> bool:
    """Whether an update of such parameters is differentiated in forward mode.

    Not if they are narrow: reverse mode multiplies and adds in the hyperparameters' precision,
    while forward mode would round each term to the parameters'.
    """
    passes = [1 if isinstance(x, spaces.PerLeaf) else x[0].size for x in hyperparams.values()]
    wide = all(leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(params))
    return mode is Mode.FORWARD or (mode is Mode.ANY and sum(passes) <= _FEW and wide)


class Contraction(NamedTuple):
    """A hypergradient, and whether terms had to be left out of it."""

    hypergradient: dict[str, Any]
    masked: jax.Array


def contract(
    update: Callable[..., tuple[Any, Any]],
    hyperparams: Mapping[str, Any],
    inputs: Any,
    grads: Any,
    has_previous: jax.Array,
    *,
    mode: Mode = Mode.ANY,
) -> tuple[Contraction, Any]:
    """Contracts the derivative of an update with a gradient.

    Args:
      update: from hyperparameters and inputs to `(updates, state)`.
      hyperparams: coordinates, where the derivative is taken.
      inputs: all the arrays that the update is a function of besides.
      grads: a tree like the updates.
      has_previous: bool[]; where false the hypergradient is zero and nothing is masked.
      mode: which modes go through the update.

    Returns:
      The contraction, with a hypergradient like `hyperparams` that is always finite,
      and the state that `update` returned.
    """
    cotangent = jax.tree.map(jnp.conj, grads)  # optax's convention for complex parameters
    by_terms = lambda *arguments: _by_terms(update, *arguments)
    if goes_forward(mode, hyperparams, grads):
        state = update(hyperparams, inputs)[1]
        found = by_terms(hyperparams, inputs, cotangent)
    else:
        of_hyperparams = lambda h: update(h, inputs)
        _, pull, state = jax.vjp(of_hyperparams, hyperparams, has_aux=True)
        (by_reverse,) = pull(cotangent)
        found = Contraction(by_reverse, jnp.zeros((), bool))
        if mode is Mode.ANY:
            fine = all_finite(by_reverse) | ~has_previous
            found = unless(by_terms)(fine, found, hyperparams, inputs, cotangent)
    return settled(found, has_previous), state


def settled(found: Contraction, has_previous: jax.Array) -> Contraction:
    """A contraction that is finite, and zero where there was nothing to differentiate."""
    zero = ~has_previous | ~all_finite(found.hypergradient)  # a sum of finite terms may overflow
    hypergradient = jax.tree.map(
        lambda leaf: jnp.where(zero, jnp.zeros_like(leaf), leaf), found.hypergradient
    )
    return Contraction(hypergradient, has_previous & (found.masked | zero))


def _by_terms(
    update: Callable[..., tuple[Any, Any]],
    hyperparams: Mapping[str, Any],
    inputs: Any,
    cotangent: Any,
) -> Contraction:
    """The same sums in forward mode, without the terms that are not finite."""
    rows, structure = jax.tree.flatten(cotangent)
    size = sum(g.size for g in rows)
    found, whole = {}, []
    for name, node in hyperparams.items():
        # With the other names held fixed: a zero tangent times an infinite slope is NaN.
        updates = lambda x, name=name: update({**hyperparams, name: x}, inputs)[0]

        def along(tangent: Any, updates: Any = updates, node: Any = node) -> list[Sums]:
            _, change = jax.jvp(updates, (node,), (tangent,))
            products = partial(_products, jax.tree.leaves(node)[0].dtype)
            pairs = zip(rows, jax.tree.leaves(change), strict=True)
            return [blocks.sums(products, g, du, of=size) for g, du in pairs]

        if isinstance(node, spaces.PerLeaf):  # a leaf depends on its own number alone
            sums = along(jax.tree.map(jnp.ones_like, node)) if rows else []
            totals = structure.unflatten([of_leaf.totals[0] for of_leaf in sums])
            found[name] = spaces.PerLeaf(type(node.space)(totals))
        else:
            number = node[0]
            basis = jnp.eye(number.size, dtype=number.dtype).reshape(-1, *number.shape)
            # A number needs no axis of its own.
            sums = (
                jax.vmap(along)(type(node)(basis)) if number.shape else along(type(node)(basis[0]))
            )
            total = sum((of_leaf.totals[0] for of_leaf in sums), jnp.zeros((), number.dtype))
            found[name] = type(node)(jnp.broadcast_to(total, number.size).reshape(number.shape))
        whole += [jnp.all(of_leaf.whole) for of_leaf in sums]
    return Contraction(found, ~all_true(whole))


def _products(dtype: Any, _: Any, g: jax.Array, change: jax.Array) -> list[jax.Array]:
    """The terms g_i dU_i."""
    if jnp.iscomplexobj(g):
        return [jnp.real(g * change).astype(dtype)]
    return [g.astype(dtype) * change.astype(dtype)]


def empty_traces(hyperparams: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The traces before the first update."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(dict(hyperparams))]
    zeros = lambda x: jnp.zeros(jnp.shape(x), jnp.promote_types(dtypes[0], jnp.result_type(x)))
    return {name: jax.tree.map(zeros, params) for name in hyperparams}


def contract_traces(
    update: Callable[[dict[str, Any]], Any],
    hyperparams: Mapping[str, Any],
    traces: Mapping[str, Any],
    decay: Any,
    grads: Any,
    has_previous: jax.Array,
) -> tuple[Contraction, dict[str, Any]]:
    """The hypergradient along the traces, and the traces with the last update in them.

    Args:
      update: from hyperparameters to the last updates.
      hyperparams: coordinates, where the derivative is taken; numbers, or one per leaf.
      traces: from the step before.
      decay: of them, in [0, 1].
      grads: a tree like the updates.
      has_previous: bool[]; where false there was no last update, and the traces stay.
    """
    found, longer, whole = {}, {}, []
    for name, node in hyperparams.items():
        along = lambda x, name=name: update({**hyperparams, name: x})
        _, change = jax.jvp(along, (node,), (jax.tree.map(jnp.ones_like, node),))
        fine = jax.tree.map(jnp.isfinite, change)
        whole += [jnp.all(leaf) for leaf in jax.tree.leaves(fine)]
        longer[name] = jax.tree.map(partial(_longer, decay, has_previous), traces[name], change)
        totals = jax.tree.map(_product, grads, longer[name])
        whole += [jnp.isfinite(leaf) for leaf in jax.tree.leaves(totals)]
        if isinstance(node, spaces.PerLeaf):
            found[name] = spaces.PerLeaf(type(node.space)(totals))
        else:
            zero = jnp.zeros((), node[0].dtype)
            found[name] = type(node)(sum(jax.tree.leaves(totals), zero))
    return settled(Contraction(found, ~all_true(whole)), has_previous), longer


def _longer(decay: Any, has_previous: jax.Array, trace: jax.Array, change: jax.Array) -> jax.Array:
    """The trace one step on; what is not finite of the last update is left out."""
    added = jnp.where(jnp.isfinite(change), change, jnp.zeros_like(change)).astype(trace.dtype)
    return jnp.where(has_previous, decay * trace + added, trace)


def _product(g: jax.Array, trace: jax.Array) -> jax.Array:
    """The sum of the finite products, as `contraction` takes them for complex parameters."""
    terms = jnp.real(jnp.conj(g).astype(trace.dtype) * trace)
    return jnp.sum(jnp.where(jnp.isfinite(terms), terms, jnp.zeros_like(terms)))
