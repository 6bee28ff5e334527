"""The hypergradient of an update that moves each coordinate on its own.

With numbers a(h) and a function f of single coordinates (see `elementwise`),

    G_j = sum_i g_i dU_i/dh_j = sum_i g_i (df/da)_i . da/dh_j,

and each term needs the coordinate i of every buffer once: a sum that reads them all and
writes nothing. Forward mode, since the da/dh_j are numbers; and as in the general path, a
term that is not finite is left out and counted.

What has to be carried for it. If U reads the gradient, all inputs of the last update, as
in the general path. But often it acts on the *new* moments s_t alone and they do not depend
on h: the rate and eps of Adam, the rate of momentum. Then s_t, which the optimizer holds
anyway, is enough, and nothing else is carried.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent.towers import blocks, dataflow, elementwise, spaces
from jaxdescent.towers.contraction import Contraction, settled
from jaxdescent.towers.elementwise import Elementwise, Leaf, NotElementwiseError
from jaxdescent.towers.finite import all_true
from jaxdescent.towers.tracing import Trace


def from_inputs(trace: Trace) -> tuple[Elementwise, list[Any]]:
    """An update as a function of all its inputs, and their values, hyperparameters first.

    Raises:
      NotElementwiseError: it does not move each coordinate on its own.
    """
    jaxpr, hyperparams, updates, _ = _variables(trace)
    rest = jaxpr.jaxpr.invars[len(hyperparams) :]
    parts = elementwise.split(jaxpr.jaxpr, updates, [*hyperparams, *jaxpr.jaxpr.constvars, *rest])
    values = jax.tree.leaves(trace.args)
    n = len(hyperparams)
    return parts, [*values[:n], *jaxpr.consts, *values[n:]]


def from_state(trace: Trace, state: Any = None) -> tuple[Elementwise, list[Any]]:
    """An update as a function of hyperparameters and the state after it, and their values.

    Raises:
      NotElementwiseError: it needs more than these, or does not move each coordinate on
        its own, or the state depends on the hyperparameters.
    """
    jaxpr, hyperparams, updates, new_state = _variables(trace)
    held = {v for v in new_state if isinstance(v, core.Var)}
    if any(dataflow.reached(jaxpr.jaxpr, v) & held for v in hyperparams):
        raise NotElementwiseError("a hyperparameter that enters the state")
    given = [*hyperparams, *jaxpr.jaxpr.constvars, *new_state]
    values = jax.tree.leaves(trace.args)[: len(hyperparams)]
    return elementwise.split(jaxpr.jaxpr, updates, given), [
        *values,
        *jaxpr.consts,
        *jax.tree.leaves(state),
    ]


def _variables(trace: Trace) -> tuple[core.ClosedJaxpr, list[Any], list[Any], list[Any]]:
    """The jaxpr without inner calls; its hyperparameters, updates and new state."""
    jaxpr = dataflow.inlined(trace.jaxpr)
    hyperparams = jaxpr.jaxpr.invars[: len(jax.tree.leaves(trace.args[0].hyperparams))]
    if any(v.aval.shape for v in hyperparams):
        raise NotElementwiseError("a hyperparameter that is an array")
    n = trace.outputs.children()[0].num_leaves
    return jaxpr, hyperparams, jaxpr.jaxpr.outvars[:n], jaxpr.jaxpr.outvars[n:]


def contract(
    parts: Elementwise,
    inputs: Sequence[Any],
    hyperparams: Mapping[str, Any],
    grads: Any,
    armed: jax.Array,
) -> tuple[Contraction, jax.Array]:
    """Contracts the derivative of an update with a gradient.

    Args:
      parts: the update.
      inputs: the values of its inputs, those of `hyperparams` first.
      hyperparams: coordinates, where the derivative is taken.
      grads: a tree like the updates.
      armed: bool[]; where false the hypergradient is zero and nothing is masked.

    Returns:
      The contraction, and bool[] whether every term of it was finite; then so is every
      number in `grads`, whatever `armed` says.
    """
    leaves, structure = jax.tree.flatten(grads)
    numbers, slopes = parts.numbers(inputs), _slopes(parts, inputs, hyperparams)
    dtype = jax.tree.leaves(hyperparams)[0].dtype if jax.tree.leaves(hyperparams) else jnp.float32
    rows = []
    for leaf, g in zip(parts.leaves, leaves, strict=True):
        along = [{i: s for i, s in moved.items() if i in leaf.numbers} for moved in slopes.values()]
        terms = partial(_terms, leaf, numbers, along, dtype)
        rows.append(blocks.sums(terms, g, *(inputs[i] for i in leaf.arrays)))
    whole = all_true([row.whole for row in rows])
    found = {}
    for j, (name, node) in enumerate(hyperparams.items()):
        totals = [row.totals[j] for row in rows]
        if isinstance(node, spaces.PerLeaf):
            found[name] = spaces.PerLeaf(type(node.space)(structure.unflatten(totals)))
        else:
            found[name] = type(node)(sum(totals, jnp.zeros((), dtype)))
    return settled(Contraction(found, ~whole), armed), whole


def _slopes(
    parts: Elementwise, inputs: Sequence[Any], hyperparams: Mapping[str, Any]
) -> dict[str, dict[int, jax.Array]]:
    """For each name, the derivatives of the numbers that depend on it."""
    structure = jax.tree.structure(dict(hyperparams))
    places = structure.unflatten(range(structure.num_leaves))
    found = {}
    for name in hyperparams:
        mine = jax.tree.leaves(places[name])  # several if it is learned per leaf
        at = [inputs[i] for i in mine]
        moving = lambda xs, mine=mine: parts.numbers(_with(inputs, mine, xs))
        _, slopes = jax.jvp(moving, (at,), ([jnp.ones_like(x) for x in at],))
        found[name] = {i: slopes[i] for i in frozenset().union(*(parts.moved[i] for i in mine))}
    return found


def _terms(
    leaf: Leaf,
    numbers: Sequence[jax.Array],
    along: Sequence[Mapping[int, jax.Array]],
    dtype: Any,
    g: jax.Array,
    *arrays: jax.Array,
) -> list[jax.Array]:
    """The terms g_i dU_i/dh_j of some coordinates, for every hyperparameter."""

    def update(moved: Mapping[int, jax.Array]) -> jax.Array:
        given = [moved.get(i, numbers[i]) for i in leaf.numbers]
        return leaf.update(given, arrays, g.shape)

    kinds = []
    for slopes in along:
        at = {i: numbers[i] for i in slopes}
        if at:
            _, change = jax.jvp(update, (at,), (dict(slopes),))
        else:
            change = jnp.zeros_like(g)
        kinds.append(g.astype(dtype) * change.astype(dtype))
    return kinds


def _with(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    replaced = dict(zip(places, others, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]
