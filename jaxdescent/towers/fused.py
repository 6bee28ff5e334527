"""The hypergradient of an update that moves each coordinate on its own.

With numbers a(h) and a function f of single coordinates (see `elementwise`),

    G_j = sum_i g_i dU_i/dh_j = sum_i g_i (df/da)_i . da/dh_j,

and each term needs the coordinate i of every buffer once: a sum that reads them all and
writes nothing. Forward mode, since the da/dh_j are numbers; and as in the general path, a
term that is not finite is left out and counted.

What has to be carried for it. If U reads the gradient, all inputs of the last update, as
in the general path. But often it acts on the *new* moments s_t alone and they do not depend
on h: the rate and eps of Adam, the rate of momentum. Then s_t, which the optimizer holds
anyway, is enough, and nothing else is carried. And where h moves s_t, as a beta does, s_t and
the gradient are enough if s_t is a moving average: see `rewinding`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent.numerics import all_true
from jaxdescent.towers import blocks, dataflow, elementwise, spaces
from jaxdescent.towers.contraction import Contraction, settled
from jaxdescent.towers.elementwise import Elementwise, Leaf, NotElementwiseError
from jaxdescent.towers.inputs import Inputs
from jaxdescent.towers.rewinding import Rewind, rewind
from jaxdescent.towers.tracing import TracedUpdate


class Variables(NamedTuple):
    """The variables of an update's jaxpr, by what they hold."""

    hyperparams: list[Any]
    consts: list[Any]
    new_state: list[Any]
    grads: list[Any]
    params: list[Any]
    extra_args: list[Any]
    state: list[Any]


class Fused(NamedTuple):
    """An update taken apart.

    Attributes:
      jaxpr: the update, without inner calls.
      inputs: the variables that it is taken to be a function of.
      updates: its outputs that are updates.
      parts: the updates as functions of single coordinates and numbers.
      rewinds: for an input that is a moment after the update, how what it was before is had
        from it, and how it depends on the hyperparameters.
    """

    jaxpr: core.ClosedJaxpr
    inputs: Variables
    updates: list[Any]
    parts: Elementwise
    rewinds: dict[int, Rewind]

    def reads(self, kind: str) -> bool:
        """Whether the derivative reads the inputs of one kind."""
        places = {*self.parts.given}
        for leaf in (*self.parts.leaves, *(each.leaf for each in self.rewinds.values())):
            places.update(leaf.arrays)
        return not places.isdisjoint(_places(self.inputs, kind))


def _places(variables: Variables, kind: str) -> range:
    index = Variables._fields.index(kind)
    first = sum(map(len, variables[:index]))
    return range(first, first + len(variables[index]))


def from_inputs(trace: TracedUpdate) -> Fused:
    """An update as a function of all its inputs.

    Raises:
      NotElementwiseError: it does not move each coordinate on its own.
    """
    jaxpr, updates, variables = _flat(trace)
    inputs = variables._replace(new_state=[])
    parts = elementwise.split(jaxpr.jaxpr, updates, [v for kind in inputs for v in kind])
    return Fused(jaxpr, inputs, updates, parts, {})


def from_state(trace: TracedUpdate) -> Fused:
    """An update as a function of the state after it, and no more of the rest than it needs.

    A moment that h moves gets a twin, which is given to whoever reads the moment. So the
    moment's own update stands apart from the updates that are made of it.

    Raises:
      NotElementwiseError: that is not enough, or it does not move each coordinate on its own.
    """
    jaxpr, updates, inputs = _flat(trace)
    held = {v for kind in inputs[:-1] for v in kind if isinstance(v, core.Var)}
    if any(v not in held for v in dataflow.cut(jaxpr.jaxpr, updates, held.__contains__).invars):
        raise NotElementwiseError("the state before the update")
    moved = set().union(*(dataflow.reached(jaxpr.jaxpr, v) for v in inputs.hyperparams))
    twins = {v: core.Var(v.aval) for v in inputs.new_state if _is_moment(v) and v in moved}
    reader = dataflow.renamed(jaxpr.jaxpr, twins)
    twin = lambda atom: twins.get(atom, atom) if isinstance(atom, core.Var) else atom
    is_given = lambda atom: isinstance(atom, core.Var) and (atom in twins or atom not in moved)
    known = inputs._replace(
        new_state=[twin(v) if is_given(v) else None for v in inputs.new_state],
        state=[v if v.aval.shape else None for v in inputs.state],
    )
    names = [v for kind in known for v in kind]
    outputs = [twin(v) for v in updates]
    read = {i for leaf in elementwise.split(reader, outputs, names).leaves for i in leaf.arrays}
    before, after = _places(inputs, "state"), _places(inputs, "new_state")
    moments = {i for i in after if names[i] in set(twins.values())}
    followed = [k for k, i in enumerate(after) if i in read & moments]
    parts = elementwise.split(reader, [*outputs, *(inputs.new_state[k] for k in followed)], names)
    leaves, own = parts.leaves[: len(outputs)], parts.leaves[len(outputs) :]
    rewinds = {
        after[k]: rewind(leaf, before[k], after[k]) for k, leaf in zip(followed, own, strict=True)
    }
    apart = moments.union(before)
    others = [i for each in rewinds.values() for i in each.leaf.arrays[1:]]
    if not apart.isdisjoint([*parts.given, *others]) or not read.isdisjoint(before):
        raise NotElementwiseError("a state that depends on another one")
    _check_factors(trace, parts, {i for each in rewinds.values() for i in each.factors})
    return Fused(jaxpr, inputs, updates, parts._replace(leaves=leaves), rewinds)


def _is_moment(atom: Any) -> bool:
    """Whether an atom of the state is an array of real numbers."""
    return isinstance(atom, core.Var) and elementwise.is_real(atom) and _shape(atom) != ()


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


_PRODUCTS = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "div", "exp", "integer_pow", "logistic",
    "mul", "neg", "pow", "reshape", "rsqrt", "sqrt", "square",
))  # fmt: skip


def _check_factors(trace: TracedUpdate, parts: Elementwise, factors: set[int]) -> None:
    """Raises unless whatever moves the slope of a moment does so less the smaller that is.

    A beta learned in its logit, or a rate in its logarithm, moves in proportion to itself, and
    so do products of them. A difference like 1 - h may pass through zero at full speed.
    """
    kinds = [
        type(node.space if isinstance(node, spaces.PerLeaf) else node)
        for _, node in sorted(trace.args[0].hyperparams.items())  # as its leaves are
        for _ in jax.tree.leaves(node)
    ]
    program: Any = parts.program
    moved: set[Any] = set()
    for i, kind in enumerate(kinds):
        if not parts.moved[i] & factors:
            continue
        if kind not in (spaces.UnitInterval, spaces.Positive):
            raise NotElementwiseError(f"a moment that {kind.__name__} may make forget everything")
        moved |= dataflow.reached(program, program.invars[parts.given.index(i)])
    slopes = dataflow.cut(program, [program.outvars[i] for i in sorted(factors)], lambda _: False)
    for eqn in slopes.eqns:
        if eqn.primitive.name not in _PRODUCTS and not moved.isdisjoint(eqn.outvars):
            raise NotElementwiseError(f"a moment whose slope is a {eqn.primitive.name}")


def _flat(trace: TracedUpdate) -> tuple[core.ClosedJaxpr, list[Any], Variables]:
    """An update without inner calls: its updates and all other variables."""
    closed = dataflow.deduplicated(trace.jaxpr)
    jaxpr, n = closed.jaxpr, trace.outputs.children()[0].num_leaves
    inputs, _ = jax.tree.unflatten(jax.tree.structure(trace.args), jaxpr.invars)
    kinds = {name: jax.tree.leaves(tree) for name, tree in inputs._asdict().items()}
    if any(v.aval.shape for v in kinds["hyperparams"]):
        raise NotElementwiseError("a hyperparameter that is an array")
    variables = Variables(consts=jaxpr.constvars, new_state=jaxpr.outvars[n:], **kinds)
    return closed, jaxpr.outvars[:n], variables


def values(fused: Fused, inputs: Inputs, new_state: Any) -> list[Any]:
    """The values of an update's inputs; None for what is not held."""
    kinds = {name: jax.tree.leaves(tree) for name, tree in inputs._asdict().items()}
    given = Variables(consts=fused.jaxpr.consts, new_state=jax.tree.leaves(new_state), **kinds)
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
