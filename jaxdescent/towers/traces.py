"""Traces: what all past hyperparameters did to the parameters, discounted.

    T_t = decay T_{t-1} + dU_{t-1}/dh        a tree like the parameters for each name
    G_t = sum_i g_i T_i

The parameters of today are a sum of all past updates. One step asks what the last of them
did to today's loss; a trace asks it of all, the older the less. What a past update did to
later gradients and to the optimizer's memory is not counted. For a rate a in log space and
an update linear in it dU/d(log a) is U itself, and with a decay of 1 the trace is the way
that the parameters have come, x_t - x_0.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent.numerics import all_true
from jaxdescent.towers import spaces
from jaxdescent.towers.contraction import Contraction, settled


def empty(hyperparams: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The traces before the first update."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(dict(hyperparams))]
    zeros = lambda x: jnp.zeros(jnp.shape(x), jnp.promote_types(dtypes[0], jnp.result_type(x)))
    return {name: jax.tree.map(zeros, params) for name in hyperparams}


def contract(
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
