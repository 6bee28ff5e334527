"""The hypergradient of an update that moves each coordinate on its own.

With numbers a(h) and a function f of single coordinates (see `elementwise`),

    G_j = sum_i g_i dU_i/dh_j = sum_i g_i (df/da)_i . da/dh_j,

and each term needs the coordinate i of every buffer once: a sum that reads them all and
writes nothing. Forward mode, since the da/dh_j are numbers; and as in the general path, a
term that is not finite is left out and counted.
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
from jaxdescent.towers.fused.ema_inversion import Rewind
from jaxdescent.towers.replay import blocks, dataflow
from jaxdescent.towers.replay.conditional import on_cpu, unless
from jaxdescent.towers.replay.contraction import Contraction, settled
from jaxdescent.towers.replay.replay import Replay, Step
from jaxdescent.towers.replay.tracing import UpdateRecord


class FusedReplay(NamedTuple):
    """The last update, differentiated from its inputs coordinate by coordinate.

    Attributes:
      replay: the update as a program, which makes the step.
      parts: the update taken apart.
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


class FusedRecall(NamedTuple):
    """The last update, differentiated from the state after it coordinate by coordinate.

    Attributes:
      previous: the record of the last update, with the state after it.
      parts: the update taken apart.
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
        # The updates once more, now from the state as it is stored: else XLA makes it twice.
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
    found, whole = contract(parts, values(parts, given), previous.hyperparams, grads, has_previous)
    # No term is finite where the gradient is not, so that mostly nothing is left to check;
    # but where a conditional is dear, it is checked always.
    return found, unless(all_finite)(whole & on_cpu(), jnp.ones((), bool), grads)


def values(fused: Fused, record: UpdateRecord) -> list[Any]:
    """Returns the values of an update's inputs; None for those that the record lacks."""
    kinds = {name: jax.tree.leaves(tree) for name, tree in record._asdict().items()}
    given = Variables(consts=fused.jaxpr.consts, **kinds)
    rows = zip(given, fused.inputs, strict=True)
    return [x for kind, names in rows for x in (kind or [None] * len(names))[: len(names)]]


def updates_of(fused: Fused, inputs: Sequence[Any]) -> list[Any]:
    """The updates from the values of what they are functions of."""
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
      inputs: the values of its inputs, those of `hyperparams` first.
      hyperparams: coordinates, where the derivative is taken.
      grads: a tree like the updates.
      has_previous: bool[]; where false the hypergradient is zero and nothing is masked.

    Returns:
      The contraction, and bool[] whether every term of it was finite; then so is every
      number in `grads`, whatever `has_previous` says.
    """
    parts = fused.parts
    leaves, structure = jax.tree.flatten(grads)
    # Before the first update there are numbers like 1 / (1 - b^0); any other do as well then.
    at_work = lambda x, idle: jnp.where(has_previous, x, jnp.full_like(x, idle))
    numbers = [at_work(x, 1) for x in parts.numbers(inputs)]
    slopes = {
        name: {i: at_work(x, 0) for i, x in of_name.items()}
        for name, of_name in _slopes(parts, inputs, hyperparams).items()
    }
    inverses = {i: each.inverse_slope(numbers) for i, each in fused.rewinds.items()}
    dtype = jax.tree.leaves(hyperparams)[0].dtype if jax.tree.leaves(hyperparams) else jnp.float32
    per_leaf = any(isinstance(node, spaces.PerLeaf) for node in hyperparams.values())
    groups = [[k] for k in range(len(leaves))] if per_leaf else _groups(fused, leaves)
    of_all = numbers, [*slopes.values()], inverses
    size, rows = sum(g.size for g in leaves), []
    for group in groups:
        leaf = parts.leaves[group[0]]
        rewinds = {i: fused.rewinds[i] for i in leaf.arrays if i in fused.rewinds}
        places = [_read(parts.leaves[k], fused.rewinds) for k in group]
        terms = partial(_terms, leaf, rewinds, dtype, places[0])
        alike = [
            [leaves[k] for k in group],
            *([inputs[i] for i in row] for row in zip(*places, strict=True)),
        ]
        rows.append(blocks.sums(terms, *map(_end_to_end, alike), numbers=of_all, of=size))
    whole = all_true([row.whole for row in rows])
    found = {}
    for j, (name, node) in enumerate(hyperparams.items()):
        totals = [row.totals[j] for row in rows]
        if isinstance(node, spaces.PerLeaf):
            found[name] = spaces.PerLeaf(type(node.space)(structure.unflatten(totals)))
        else:
            found[name] = type(node)(sum(totals, jnp.zeros((), dtype)))
    return settled(Contraction(found, ~whole), has_previous), whole


def _groups(fused: Fused, grads: Sequence[jax.Array]) -> list[list[int]]:
    """The leaves, those together that are small and move alike."""
    groups: list[list[int]] = []
    filling: dict[Any, list[int]] = {}
    for k, (leaf, g) in enumerate(zip(fused.parts.leaves, grads, strict=True)):
        if blocks.is_spread(g) or not blocks.is_small(g.size):
            groups.append([k])
            continue
        key = (str(g.dtype), leaf.signature, *_moments_of(fused, leaf))
        together = [*filling.get(key, ()), k]
        if len(together) > 1 and blocks.is_small(sum(grads[i].size for i in together)):
            filling[key].append(k)
        else:
            groups.append([k])
            filling[key] = groups[-1]
    return groups


def _moments_of(fused: Fused, leaf: Leaf) -> list[Any]:
    """Which of a leaf's arrays are moments, and how those move; equal for leaves that do alike."""
    places = _read(leaf, fused.rewinds)
    rewinds = [(i, fused.rewinds[i].leaf) for i in leaf.arrays if i in fused.rewinds]
    among = lambda arrays: tuple(map(places.index, arrays))
    return [(among([i]), among(own.arrays[1:]), own.signature) for i, own in rewinds]


def _end_to_end(arrays: Sequence[jax.Array]) -> jax.Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate([jnp.ravel(x) for x in arrays])


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
    rewinds: Mapping[int, Rewind],
    dtype: Any,
    places: Sequence[int],
    of_all: tuple[Sequence[jax.Array], Sequence[Mapping[int, jax.Array]], Mapping[int, Any]],
    g: jax.Array,
    *held: jax.Array,
) -> list[jax.Array]:
    """The terms g_i dU_i/dh_j of some coordinates, for every hyperparameter."""
    numbers, along, inverses = of_all
    at = dict(zip(places, held, strict=True))
    last = {
        i: at | {each.before: each.rewound(numbers, inverses[i], at)} for i, each in rewinds.items()
    }
    kinds = []
    for slopes in along:
        moments = {
            i: _change(each.leaf, numbers, last[i], slopes, {}, g.shape)
            for i, each in rewinds.items()
            if not slopes.keys().isdisjoint(each.leaf.numbers)
        }
        change = _change(leaf, numbers, at, slopes, moments, g.shape)
        kinds.append(g.astype(dtype) * change.astype(dtype))
    return kinds


def _change(
    leaf: Leaf,
    numbers: Sequence[jax.Array],
    arrays: Mapping[int, jax.Array],
    slopes: Mapping[int, jax.Array],
    changes: Mapping[int, jax.Array],
    shape: tuple[int, ...],
) -> jax.Array:
    """How a leaf's update changes as some numbers and some arrays do."""
    moving = [i for i in leaf.numbers if i in slopes], [i for i in leaf.arrays if i in changes]
    here = [numbers[i] for i in moving[0]], [arrays[i] for i in moving[1]]
    along = [slopes[i] for i in moving[0]], [changes[i] for i in moving[1]]

    def update(some_numbers: Sequence[jax.Array], some_arrays: Sequence[jax.Array]) -> jax.Array:
        given = _with(numbers, moving[0], some_numbers)
        held = {**arrays, **dict(zip(moving[1], some_arrays, strict=True))}
        return leaf.update([given[i] for i in leaf.numbers], [held[i] for i in leaf.arrays], shape)

    return jax.jvp(update, here, along)[1]


def _read(leaf: Leaf, rewinds: Mapping[int, Rewind]) -> list[int]:
    """The inputs that the terms of a leaf are made from."""
    for_moments = [j for i in leaf.arrays if i in rewinds for j in rewinds[i].leaf.arrays[1:]]
    return [*dict.fromkeys((*leaf.arrays, *for_moments))]


def _with(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    replaced = dict(zip(places, others, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]
