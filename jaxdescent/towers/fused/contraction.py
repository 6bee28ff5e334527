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

from jaxdescent import jax_internals as core
from jaxdescent import sharding
from jaxdescent.numerics import all_finite, all_true, widest_float
from jaxdescent.towers import applied, spaces
from jaxdescent.towers.factory import cast_like
from jaxdescent.towers.fused.decomposition import Fused, Variables
from jaxdescent.towers.fused.elementwise import Elementwise, Leaf
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

    def sample(self) -> jax.Array:
        """Returns the last update at the coordinates of `applied.coordinates`."""
        return sample(self.parts, self.replay.program.args[0])

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

    def sample(self) -> jax.Array:
        """Returns the last update at the coordinates of `applied.coordinates`."""
        return sample(self.parts, self.previous)

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
    inputs = values(parts, given)
    found, finite, nonfinite = contract(parts, inputs, previous.hyperparams, grads, has_previous)
    if nonfinite is not None:
        return found, nonfinite == 0
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
    names = [v for kind in fused.inputs for v in kind]
    place = {v: i for i, v in reversed([*enumerate(names)]) if isinstance(v, core.Var)}
    program = dataflow.cut(fused.jaxpr.jaxpr, fused.updates, place.__contains__)
    run = core.jaxpr_as_fun(core.ClosedJaxpr(program, ()))
    return run(*(inputs[place[v]] for v in program.invars))


def sample(fused: Fused, record: UpdateRecord) -> jax.Array:
    """Returns the update at a few coordinates of each leaf, from the inputs there."""
    inputs = values(fused, record)
    scalars = fused.parts.scalars(inputs)
    parts = []
    for i in applied.sampled([atom.aval for atom in fused.updates]):
        leaf = fused.parts.leaves[i]
        arrays = [applied.few(inputs[n]) for n in leaf.arrays]
        shape = jax.eval_shape(applied.few, leaf.output).shape if leaf.output.shape else ()
        parts.append(jnp.ravel(leaf.update([scalars[n] for n in leaf.scalars], arrays, shape)))
    return applied.joined(parts, widest_float(record.hyperparams))


def contract(
    fused: Fused,
    inputs: Sequence[Any],
    hyperparams: Mapping[str, Any],
    grads: Any,
    has_previous: jax.Array,
) -> tuple[Contraction, jax.Array, jax.Array | None]:
    """Contracts the derivative of an update with a gradient.

    Args:
      fused: the update.
      inputs: the values of its inputs, first the hyperparameters.
      hyperparams: coordinates at which the derivative is taken.
      grads: a tree like the updates.
      has_previous: bool[], True if there was a last update; otherwise the hypergradient is zero
        and nothing is masked.

    Returns:
      The contraction; bool[], True if every term was finite, and then every number in `grads` is
      finite, with or without a last update; and, where arrays may be divided among devices, the
      number of non-finite numbers in `grads`, which is summed in the same pass.
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
    dtype = jax.tree.leaves(hyperparams)[0].dtype if jax.tree.leaves(hyperparams) else jnp.float32
    per_leaf = any(isinstance(node, spaces.PerLeaf) for node in hyperparams.values())
    groups = [[k] for k in range(len(leaves))] if per_leaf else _groups(parts, leaves)
    shared = scalars, [*slopes.values()]
    size, rows, counts = sum(g.size for g in leaves), [], sharding.may_be_partitioned(*leaves)
    for group in groups:
        leaf = parts.leaves[group[0]]
        places = [parts.leaves[k].arrays for k in group]
        terms = partial(_terms, leaf, dtype, counts)
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
    nonfinite = sum((row.totals[-1] for row in rows), jnp.zeros((), dtype)) if counts else None
    return settled(Contraction(found, ~all_terms_finite), has_previous), all_terms_finite, nonfinite


def _groups(parts: Elementwise, grads: Sequence[jax.Array]) -> list[list[int]]:
    """Returns groups of leaves: small leaves with the same update share a group."""
    groups: list[list[int]] = []
    open_groups: dict[Any, list[int]] = {}
    for k, (leaf, g) in enumerate(zip(parts.leaves, grads, strict=True)):
        if sharding.may_be_partitioned(g) or not blocks.is_small(g.size):
            groups.append([k])
            continue
        key = (str(g.dtype), leaf.signature)
        together = [*open_groups.get(key, ()), k]
        if len(together) > 1 and blocks.is_small(sum(grads[i].size for i in together)):
            open_groups[key].append(k)
        else:
            groups.append([k])
            open_groups[key] = groups[-1]
    return groups


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
    dtype: Any,
    counts: bool,
    shared: tuple[Sequence[jax.Array], Sequence[Mapping[int, jax.Array]]],
    g: jax.Array,
    *arrays: jax.Array,
) -> list[jax.Array]:
    """Returns the terms g_i dU_i/dh_j of some coordinates, for each hyperparameter.

    If it `counts`, the last term is 1 for each number of the gradient that is not finite.
    """
    scalars, directions = shared
    changes = [_derivative(leaf, scalars, arrays, slopes, g.shape) for slopes in directions]
    found = [g.astype(dtype) * change.astype(dtype) for change in changes]
    return [*found, (~jnp.isfinite(g)).astype(dtype)] if counts else found


def _derivative(
    leaf: Leaf,
    scalars: Sequence[jax.Array],
    arrays: Sequence[jax.Array],
    slopes: Mapping[int, jax.Array],
    shape: tuple[int, ...],
) -> jax.Array:
    """Returns the derivative of a leaf's update along slopes of scalars."""
    moving = [i for i in leaf.scalars if i in slopes]

    def update(some_scalars: Sequence[jax.Array]) -> jax.Array:
        given = _with(scalars, moving, some_scalars)
        return leaf.update([given[i] for i in leaf.scalars], arrays, shape)

    at, along = [scalars[i] for i in moving], [slopes[i] for i in moving]
    return jax.jvp(update, (at,), (along,))[1]


def _with(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    replaced = dict(zip(places, others, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]
