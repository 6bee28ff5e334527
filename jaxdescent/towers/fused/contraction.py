"""The hypergradient of a coordinate-wise update.

With scalars a(h) and an elementwise function f (see `elementwise`),

    G_j = sum_i g_i dU_i/dh_j = sum_i g_i (df/da)_i . da/dh_j,

Each term needs coordinate i of every buffer once, so the sum reads each buffer once and stores no
array. It uses forward mode, because the da/dh_j are scalars. As in the general method, non-finite
terms are left out and counted.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend import core

from jaxdescent.numerics import all_finite, all_true
from jaxdescent.towers import spaces
from jaxdescent.towers.factory import cast_like
from jaxdescent.towers.fused.decomposition import Fused, Variables
from jaxdescent.towers.fused.elementwise import Elementwise, Leaf
from jaxdescent.towers.fused.ema_inversion import Inversion
from jaxdescent.towers.replay import blocks, dataflow
from jaxdescent.towers.replay.conditional import on_cpu, unless
from jaxdescent.towers.replay.contraction import Contraction, settled
from jaxdescent.towers.replay.replay import Replay, Step
from jaxdescent.towers.replay.tracing import UpdateRecord


class FusedFromInputs(NamedTuple):
    """The last update, differentiated coordinate by coordinate from its inputs.

    Attributes:
      replay: the update as a program; it also makes the current step.
      parts: the update, split for the fused method.
    """

    replay: Replay
    parts: Fused

    def contract(self, grads: Any, has_previous: jax.Array) -> tuple[Contraction, jax.Array]:
        """Returns the hypergradient, and bool[], True if `grads` is finite."""
        inputs, _ = self.replay.program.args
        return _contract(self.parts, inputs, self.replay.previous, grads, has_previous)

    def step(self, *args: Any, **flags: jax.Array) -> Step:
        """Makes the present step as `Replay.step` does."""
        return self.replay.step(*args, **flags)


class FusedFromState(NamedTuple):
    """The last update, differentiated coordinate by coordinate from the state after it.

    Attributes:
      previous: the record of the last update, with the state after it.
      parts: the update, split for the fused method.
    """

    previous: UpdateRecord
    parts: Fused

    def contract(self, grads: Any, has_previous: jax.Array) -> tuple[Contraction, jax.Array]:
        """Returns the hypergradient, and bool[], True if `grads` is finite."""
        return _contract(self.parts, self.previous, self.previous, grads, has_previous)

    def step(
        self,
        tx: Any,
        present: UpdateRecord,
        extra_args: Mapping[str, Any],
        *,
        ready: jax.Array,
        usable: jax.Array,
    ) -> Step:
        """Makes the present step from the present state; arguments as `Replay.step` has them."""
        del ready
        old = self.previous
        updates, state = tx.update(present.grads, old.new_state, present.params, **extra_args)
        # Recompute the updates from the state as stored: otherwise XLA computes the state twice.
        state = optax.tree.where(usable, state, old.new_state)
        leaves = updates_of(self.parts, values(self.parts, present._replace(new_state=state)))
        updates = cast_like(jax.tree.unflatten(jax.tree.structure(updates), leaves), updates)
        record = present._replace(
            grads=None if old.grads is None else present.grads,
            new_state=state,
            params=None if old.params is None else present.params,
        )
        zeros = jax.tree.map(jnp.zeros_like, old.grads)
        return Step(updates, record, old._replace(new_state=state, grads=zeros))


def _contract(
    parts: Fused,
    given: UpdateRecord,
    previous: UpdateRecord,
    grads: Any,
    has_previous: jax.Array,
) -> tuple[Contraction, jax.Array]:
    found, finite = contract(parts, values(parts, given), previous.hyperparams, grads, has_previous)
    # A non-finite gradient makes its term non-finite, so the gradient itself rarely needs a check.
    # On platforms where conditionals are expensive, the check always runs.
    return found, unless(all_finite)(finite & on_cpu(), jnp.ones((), bool), grads)


def values(fused: Fused, record: UpdateRecord) -> list[Any]:
    """Returns the values of an update's inputs; None for those that the record lacks."""
    kinds = {name: jax.tree.leaves(tree) for name, tree in record._asdict().items()}
    given = Variables(consts=fused.jaxpr.consts, **kinds)
    rows = zip(given, fused.inputs, strict=True)
    return [x for kind, names in rows for x in (kind or [None] * len(names))[: len(names)]]


def updates_of(fused: Fused, inputs: Sequence[Any]) -> list[Any]:
    """Returns the updates from the values of the inputs."""
    held = [v for kind in fused.inputs[:-1] for v in kind]  # all but the state before
    place = {v: i for i, v in reversed([*enumerate(held)]) if isinstance(v, core.Var)}
    program = dataflow.cut(fused.jaxpr.jaxpr, fused.updates, place.__contains__)
    run = core.jaxpr_as_fun(core.ClosedJaxpr(program, ()))
    return run(*(inputs[place[v]] for v in program.invars))


def contract(
    fused: Fused,
    inputs: Sequence[Any],
    hyperparams: Mapping[str, Any],
    grads: Any,
    has_previous: jax.Array,
) -> tuple[Contraction, jax.Array]:
    """Contracts the derivative of an update with a gradient.

    Args:
      fused: the update.
      inputs: the values of its inputs, first the hyperparameters.
      hyperparams: coordinates at which the derivative is taken.
      grads: a tree like the updates.
      has_previous: bool[], True if there was a last update; otherwise the hypergradient is zero
        and nothing is masked.

    Returns:
      The contraction, and bool[], True if every term was finite. Then every number in `grads` is
      finite, with or without a last update.
    """
    parts = fused.parts
    leaves, structure = jax.tree.flatten(grads)

    # Before the first update there are scalars like 1 / (1 - b^0); they have no effect then.
    def or_default(x: jax.Array, default: float) -> jax.Array:
        return jnp.where(has_previous, x, jnp.full_like(x, default))

    scalars = [or_default(x, 1) for x in parts.scalars(inputs)]
    slopes = {
        name: {i: or_default(x, 0) for i, x in of_name.items()}
        for name, of_name in _slopes(parts, inputs, hyperparams).items()
    }
    inverses = {i: each.inverse_slope(scalars) for i, each in fused.inversions.items()}
    dtype = jax.tree.leaves(hyperparams)[0].dtype if jax.tree.leaves(hyperparams) else jnp.float32
    per_leaf = any(isinstance(node, spaces.PerLeaf) for node in hyperparams.values())
    groups = [[k] for k in range(len(leaves))] if per_leaf else _groups(fused, leaves)
    shared = scalars, [*slopes.values()], inverses
    size, rows = sum(g.size for g in leaves), []
    for group in groups:
        leaf = parts.leaves[group[0]]
        inversions = {i: fused.inversions[i] for i in leaf.arrays if i in fused.inversions}
        places = [_arrays_read(parts.leaves[k], fused.inversions) for k in group]
        terms = partial(_terms, leaf, inversions, dtype, places[0])
        columns = [
            [leaves[k] for k in group],
            *([inputs[i] for i in row] for row in zip(*places, strict=True)),
        ]
        rows.append(blocks.sums(terms, *map(_concatenate, columns), scalars=shared, of=size))
    all_terms_finite = all_true([row.all_finite for row in rows])
    found = {}
    for j, (name, node) in enumerate(hyperparams.items()):
        totals = [row.totals[j] for row in rows]
        if isinstance(node, spaces.PerLeaf):
            found[name] = spaces.PerLeaf(type(node.space)(structure.unflatten(totals)))
        else:
            found[name] = type(node)(sum(totals, jnp.zeros((), dtype)))
    return settled(Contraction(found, ~all_terms_finite), has_previous), all_terms_finite


def _groups(fused: Fused, grads: Sequence[jax.Array]) -> list[list[int]]:
    """Returns groups of leaves: small leaves with the same update share a group."""
    groups: list[list[int]] = []
    open_groups: dict[Any, list[int]] = {}
    for k, (leaf, g) in enumerate(zip(fused.parts.leaves, grads, strict=True)):
        if blocks.is_sharded(g) or not blocks.is_small(g.size):
            groups.append([k])
            continue
        key = (str(g.dtype), leaf.signature, *_inversion_signatures(fused, leaf))
        together = [*open_groups.get(key, ()), k]
        if len(together) > 1 and blocks.is_small(sum(grads[i].size for i in together)):
            open_groups[key].append(k)
        else:
            groups.append([k])
            open_groups[key] = groups[-1]
    return groups


def _inversion_signatures(fused: Fused, leaf: Leaf) -> list[Any]:
    """Returns a key that is equal for leaves whose moments have the same inversions."""
    places = _arrays_read(leaf, fused.inversions)

    def positions(arrays: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(places.index, arrays))

    moments = [(i, fused.inversions[i].leaf) for i in leaf.arrays if i in fused.inversions]
    return [(positions([i]), positions(own.arrays[1:]), own.signature) for i, own in moments]


def _concatenate(arrays: Sequence[jax.Array]) -> jax.Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate([jnp.ravel(x) for x in arrays])


def _slopes(
    parts: Elementwise, inputs: Sequence[Any], hyperparams: Mapping[str, Any]
) -> dict[str, dict[int, jax.Array]]:
    """Returns, for each name, the derivatives of the scalars that depend on it."""
    structure = jax.tree.structure(dict(hyperparams))
    places = structure.unflatten(range(structure.num_leaves))
    found = {}
    for name in hyperparams:
        indices = jax.tree.leaves(places[name])  # several if it is learned per leaf
        at = [inputs[i] for i in indices]

        def scalars_at(xs: Sequence[Any], indices: Sequence[int] = indices) -> list[Any]:
            return parts.scalars(_with(inputs, indices, xs))

        _, slopes = jax.jvp(scalars_at, (at,), ([jnp.ones_like(x) for x in at],))
        moved = frozenset().union(*(parts.moved[i] for i in indices))
        found[name] = {i: slopes[i] for i in moved}
    return found


def _terms(
    leaf: Leaf,
    inversions: Mapping[int, Inversion],
    dtype: Any,
    places: Sequence[int],
    shared: tuple[Sequence[jax.Array], Sequence[Mapping[int, jax.Array]], Mapping[int, Any]],
    g: jax.Array,
    *arrays: jax.Array,
) -> list[jax.Array]:
    """Returns the terms g_i dU_i/dh_j of some coordinates, for each hyperparameter."""
    scalars, directions, inverses = shared
    at = dict(zip(places, arrays, strict=True))
    before = {
        i: at | {each.before: each.value_before(scalars, inverses[i], at)}
        for i, each in inversions.items()
    }
    terms = []
    for slopes in directions:
        moments = {
            i: _derivative(each.leaf, scalars, before[i], slopes, {}, g.shape)
            for i, each in inversions.items()
            if not slopes.keys().isdisjoint(each.leaf.scalars)
        }
        change = _derivative(leaf, scalars, at, slopes, moments, g.shape)
        terms.append(g.astype(dtype) * change.astype(dtype))
    return terms


def _derivative(
    leaf: Leaf,
    scalars: Sequence[jax.Array],
    arrays: Mapping[int, jax.Array],
    slopes: Mapping[int, jax.Array],
    changes: Mapping[int, jax.Array],
    shape: tuple[int, ...],
) -> jax.Array:
    """Returns the derivative of a leaf's update along slopes of scalars and changes of arrays."""
    moving = [i for i in leaf.scalars if i in slopes], [i for i in leaf.arrays if i in changes]
    at = [scalars[i] for i in moving[0]], [arrays[i] for i in moving[1]]
    along = [slopes[i] for i in moving[0]], [changes[i] for i in moving[1]]

    def update(some_scalars: Sequence[jax.Array], some_arrays: Sequence[jax.Array]) -> jax.Array:
        given = _with(scalars, moving[0], some_scalars)
        held = {**arrays, **dict(zip(moving[1], some_arrays, strict=True))}
        return leaf.update([given[i] for i in leaf.scalars], [held[i] for i in leaf.arrays], shape)

    return jax.jvp(update, at, along)[1]


def _arrays_read(leaf: Leaf, inversions: Mapping[int, Inversion]) -> list[int]:
    """Returns the indices of the inputs that the terms of a leaf read."""
    for_moments = [j for i in leaf.arrays if i in inversions for j in inversions[i].leaf.arrays[1:]]
    return [*dict.fromkeys((*leaf.arrays, *for_moments))]


def _with(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    replaced = dict(zip(places, others, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]
