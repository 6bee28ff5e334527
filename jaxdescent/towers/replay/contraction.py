"""The hypergradient: the effect of the last update's hyperparameters on the present loss.

With U(h) the last update as a function of its hyperparameters, and g the gradient after it,

    G = (dU/dh)^T g = sum_i g_i dU_i/dh        over all coordinates i of the parameters.

Forward mode computes the terms, in one pass for each number in h, and in one pass for a
hyperparameter that is learned per leaf. Non-finite terms, due to overflow or a non-finite outer
gradient, are left out of the sum. Reverse mode computes all components of G in one pass, but its
sums are expensive. It is used for many numbers, for parameters narrower than the hyperparameters,
and for updates without a forward mode. If its result is not finite, forward mode replaces it.
`safe_derivatives` handles slopes that are singular at zero, as in sqrt.

An eligibility trace accumulates the effect of all past hyperparameters on the parameters:

    T_t = decay T_{t-1} + dU_{t-1}/dh        a tree like the parameters for each name
    G_t = sum_i g_i T_i

The current parameters are the sum of all past updates. One step measures the effect of the last
update on the current loss; a trace measures the effect of all updates, with less weight for older
ones. The effect of an update on later gradients and on the optimizer's memory is not counted.
For a learning rate a in log space and an update linear in a, dU/d(log a) is U itself, and with a
decay of 1 the trace is x_t - x_0.
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

# Up to this many passes, forward mode is preferred to one pass of reverse mode.
_MAX_FORWARD_PASSES = 4


class Mode(enum.Enum):
    """The modes of differentiation that an update supports."""

    ANY = enum.auto()
    FORWARD = enum.auto()  # the update contains a while loop
    REVERSE = enum.auto()  # the update contains a custom_vjp; no term can be masked


def goes_forward(mode: Mode, hyperparams: Mapping[str, Any], params: Any) -> bool:
    """True if an update of these parameters is differentiated in forward mode.

    Narrow parameters need reverse mode, which multiplies and adds in the precision of the
    hyperparameters; forward mode would round each term to the parameters' dtype.
    """
    passes = [1 if isinstance(x, spaces.PerLeaf) else x[0].size for x in hyperparams.values()]
    wide = all(leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(params))
    return mode is Mode.FORWARD or (
        mode is Mode.ANY and sum(passes) <= _MAX_FORWARD_PASSES and wide
    )


class Contraction(NamedTuple):
    """A hypergradient.

    Attributes:
      hypergradient: a tree like the hyperparameters, always finite.
      masked: bool[], True if non-finite terms were left out.
    """

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
      update: called as `update(hyperparams, inputs)`; returns the updates and the state.
      hyperparams: coordinates at which the derivative is taken.
      inputs: all other arrays that the update reads.
      grads: a tree like the updates.
      has_previous: bool[], True if there was a last update; otherwise the hypergradient is zero
        and nothing is masked.
      mode: the modes of differentiation that the update supports.

    Returns:
      The contraction, and the state that `update` returned.
    """
    cotangent = jax.tree.map(jnp.conj, grads)  # optax's convention for complex parameters
    by_terms = partial(_by_terms, update)
    if goes_forward(mode, hyperparams, grads):
        state = update(hyperparams, inputs)[1]
        found = by_terms(hyperparams, inputs, cotangent)
    else:
        _, pull_back, state = jax.vjp(lambda h: update(h, inputs), hyperparams, has_aux=True)
        (pulled_back,) = pull_back(cotangent)
        found = Contraction(pulled_back, jnp.zeros((), bool))
        if mode is Mode.ANY:
            fine = all_finite(pulled_back) | ~has_previous
            found = unless(by_terms)(fine, found, hyperparams, inputs, cotangent)
    return settled(found, has_previous), state


def settled(found: Contraction, has_previous: jax.Array) -> Contraction:
    """Returns a contraction that is finite, and zero where there was no last update."""
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
    """Contracts in forward mode, without the non-finite terms."""
    rows, structure = jax.tree.flatten(cotangent)
    size = sum(g.size for g in rows)
    found, finite = {}, []
    for name, node in hyperparams.items():
        # The other names are held fixed: a zero tangent times an infinite slope is NaN.
        def updates(x: Any, name: str = name) -> Any:
            return update({**hyperparams, name: x}, inputs)[0]

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
            # A scalar needs no vmap.
            sums = (
                jax.vmap(along)(type(node)(basis)) if number.shape else along(type(node)(basis[0]))
            )
            total = sum((of_leaf.totals[0] for of_leaf in sums), jnp.zeros((), number.dtype))
            found[name] = type(node)(jnp.broadcast_to(total, number.size).reshape(number.shape))
        finite += [jnp.all(of_leaf.all_finite) for of_leaf in sums]
    return Contraction(found, ~all_true(finite))


def _products(dtype: Any, _: Any, g: jax.Array, change: jax.Array) -> list[jax.Array]:
    """Returns the terms g_i dU_i."""
    if jnp.iscomplexobj(g):
        return [jnp.real(g * change).astype(dtype)]
    return [g.astype(dtype) * change.astype(dtype)]


def empty_traces(hyperparams: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """Returns the traces before the first update."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(dict(hyperparams))]

    def zeros(x: Any) -> jax.Array:
        return jnp.zeros(jnp.shape(x), jnp.promote_types(dtypes[0], jnp.result_type(x)))

    return {name: jax.tree.map(zeros, params) for name in hyperparams}


def contract_traces(
    update: Callable[[dict[str, Any]], Any],
    hyperparams: Mapping[str, Any],
    traces: Mapping[str, Any],
    decay: Any,
    grads: Any,
    has_previous: jax.Array,
) -> tuple[Contraction, dict[str, Any]]:
    """Returns the hypergradient along the traces, and the traces with the last update added.

    Args:
      update: called with hyperparameters; returns the last updates.
      hyperparams: coordinates at which the derivative is taken; numbers, or one per leaf.
      traces: from the step before.
      decay: of the traces, in [0, 1].
      grads: a tree like the updates.
      has_previous: bool[], True if there was a last update; otherwise the traces do not change.
    """
    found, added, finite = {}, {}, []
    for name, node in hyperparams.items():

        def updates(x: Any, name: str = name) -> Any:
            return update({**hyperparams, name: x})

        _, change = jax.jvp(updates, (node,), (jax.tree.map(jnp.ones_like, node),))
        finite += [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(change)]
        added[name] = jax.tree.map(partial(_add_change, decay, has_previous), traces[name], change)
        totals = jax.tree.map(_dot, grads, added[name])
        finite += [jnp.isfinite(leaf) for leaf in jax.tree.leaves(totals)]
        if isinstance(node, spaces.PerLeaf):
            found[name] = spaces.PerLeaf(type(node.space)(totals))
        else:
            zero = jnp.zeros((), node[0].dtype)
            found[name] = type(node)(sum(jax.tree.leaves(totals), zero))
    return settled(Contraction(found, ~all_true(finite)), has_previous), added


def _add_change(
    decay: Any, has_previous: jax.Array, trace: jax.Array, change: jax.Array
) -> jax.Array:
    """Returns the trace of the next step, without the non-finite parts of the last update."""
    added = jnp.where(jnp.isfinite(change), change, jnp.zeros_like(change)).astype(trace.dtype)
    return jnp.where(has_previous, decay * trace + added, trace)


def _dot(g: jax.Array, trace: jax.Array) -> jax.Array:
    """Returns the sum of the finite products, with the gradient conjugated."""
    terms = jnp.real(jnp.conj(g).astype(trace.dtype) * trace)
    return jnp.sum(jnp.where(jnp.isfinite(terms), terms, jnp.zeros_like(terms)))
