"""Decides which arrays the fused method needs to differentiate an update.

`from_inputs` takes all inputs of the last update, as the general method does.

`from_state` needs fewer arrays. Many updates read only the *new* moments s_t, and s_t does not
depend on some hyperparameters h: the learning rate and eps of Adam, the learning rate of momentum.
Then s_t, which the optimizer stores anyway, is enough. If s_t depends on h, as on a beta, then s_t
and the gradient are enough if s_t is a moving average (see `ema_inversion`).
"""

from typing import Any, NamedTuple

import jax
from jax.extend import core

from jaxdescent.towers import spaces
from jaxdescent.towers.fused import elementwise
from jaxdescent.towers.fused.elementwise import Elementwise, NotElementwiseError
from jaxdescent.towers.fused.ema_inversion import Inversion, invert
from jaxdescent.towers.replay import dataflow
from jaxdescent.towers.replay.tracing import TracedUpdate


class Variables(NamedTuple):
    """The variables of an update's jaxpr, by their role."""

    hyperparams: list[Any]
    consts: list[Any]
    new_state: list[Any]
    grads: list[Any]
    params: list[Any]
    extra_args: list[Any]
    state: list[Any]


class Fused(NamedTuple):
    """An update that the fused method can differentiate.

    Attributes:
      jaxpr: the update, without inner calls.
      inputs: the variables that the update is considered a function of.
      updates: the outputs that are updates.
      parts: the updates as functions of scalars and single coordinates.
      inversions: for each input that is a moment after the update and depends on the
        hyperparameters, the inversion that gives the moment before it.
    """

    jaxpr: core.ClosedJaxpr
    inputs: Variables
    updates: list[Any]
    parts: Elementwise
    inversions: dict[int, Inversion]

    def reads(self, kind: str) -> bool:
        """True if the derivative reads inputs of a kind, a field of `Variables`."""
        places = {*self.parts.given}
        for leaf in (*self.parts.leaves, *(each.leaf for each in self.inversions.values())):
            places.update(leaf.arrays)
        return not places.isdisjoint(_places(self.inputs, kind))


def _places(variables: Variables, kind: str) -> range:
    index = Variables._fields.index(kind)
    first = sum(map(len, variables[:index]))
    return range(first, first + len(variables[index]))


def from_inputs(trace: TracedUpdate) -> Fused:
    """Returns an update as a function of all its inputs.

    Raises:
      NotElementwiseError: the update is not coordinate-wise.
    """
    jaxpr, updates, variables = _flat(trace)
    inputs = variables._replace(new_state=[])
    parts = elementwise.split(jaxpr.jaxpr, updates, [v for kind in inputs for v in kind])
    return Fused(jaxpr, inputs, updates, parts, {})


def from_state(trace: TracedUpdate) -> Fused:
    """Returns an update as a function of the state after it and as few other inputs as possible.

    A moment that depends on h is replaced by a new variable wherever it is read. This separates the
    update of the moment from the updates that read the moment.

    Raises:
      NotElementwiseError: these inputs are not enough, or the update is not coordinate-wise.
    """
    jaxpr, updates, inputs = _flat(trace)
    held = {v for kind in inputs[:-1] for v in kind if isinstance(v, core.Var)}
    if any(v not in held for v in dataflow.cut(jaxpr.jaxpr, updates, held.__contains__).invars):
        raise NotElementwiseError("the state before the update")
    moved = set().union(*(dataflow.reached(jaxpr.jaxpr, v) for v in inputs.hyperparams))
    twins = {v: core.Var(v.aval) for v in inputs.new_state if _is_moment(v) and v in moved}
    reader = dataflow.renamed(jaxpr.jaxpr, twins)

    def twin(atom: Any) -> Any:
        return twins.get(atom, atom) if isinstance(atom, core.Var) else atom

    def is_given(atom: Any) -> bool:
        return isinstance(atom, core.Var) and (atom in twins or atom not in moved)

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
    inversions = {
        after[k]: invert(leaf, before[k], after[k]) for k, leaf in zip(followed, own, strict=True)
    }
    apart = moments.union(before)
    others = [i for each in inversions.values() for i in each.leaf.arrays[1:]]
    if not apart.isdisjoint([*parts.given, *others]) or not read.isdisjoint(before):
        raise NotElementwiseError("a state that depends on another state")
    _check_factors(trace, parts, {i for each in inversions.values() for i in each.factors})
    return Fused(jaxpr, inputs, updates, parts._replace(leaves=leaves), inversions)


def _is_moment(atom: Any) -> bool:
    """True if an atom of the state is an array of real numbers, not a scalar."""
    return isinstance(atom, core.Var) and elementwise.is_real(atom) and _shape(atom) != ()


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


_PRODUCTS = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "div", "exp", "integer_pow", "logistic",
    "mul", "neg", "pow", "reshape", "rsqrt", "sqrt", "square",
))  # fmt: skip


def _check_factors(trace: TracedUpdate, parts: Elementwise, factors: set[int]) -> None:
    """Raises unless the slope of each moment changes in proportion to itself.

    This holds for a beta learned as its logit, for a learning rate learned as its logarithm, and
    for products of these. A difference such as 1 - h can cross zero with a nonzero slope.
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
            raise NotElementwiseError(f"a moment whose decay may reach zero in {kind.__name__}")
        moved |= dataflow.reached(program, program.invars[parts.given.index(i)])
    slopes = dataflow.cut(program, [program.outvars[i] for i in sorted(factors)], lambda _: False)
    for eqn in slopes.eqns:
        if eqn.primitive.name not in _PRODUCTS and not moved.isdisjoint(eqn.outvars):
            raise NotElementwiseError(f"a moment whose slope is a {eqn.primitive.name}")


def _flat(trace: TracedUpdate) -> tuple[core.ClosedJaxpr, list[Any], Variables]:
    """Returns an update without inner calls, its updates and its other variables."""
    closed = dataflow.deduplicated(trace.jaxpr)
    jaxpr, n = closed.jaxpr, trace.outputs.children()[0].num_leaves
    inputs, _ = jax.tree.unflatten(jax.tree.structure(trace.args), jaxpr.invars)
    kinds = {name: jax.tree.leaves(tree) for name, tree in inputs._asdict().items()}
    if any(v.aval.shape for v in kinds["hyperparams"]):
        raise NotElementwiseError("a hyperparameter that is an array")
    kinds["new_state"] = jaxpr.outvars[n:]
    variables = Variables(consts=jaxpr.constvars, **kinds)
    return closed, jaxpr.outvars[:n], variables
