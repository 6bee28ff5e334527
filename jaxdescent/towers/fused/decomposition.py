"""Decides which arrays the fused method needs to differentiate an update.

`from_inputs` takes all inputs of the last update, as the general method does.

`from_state` needs fewer arrays. Many updates read only the *new* moments s_t, and s_t does not
depend on some hyperparameters h: the learning rate and eps of Adam, the learning rate of momentum.
Then s_t, which the optimizer stores anyway, is enough. If s_t depends on h, as on a beta, ds_t/dh
needs the state before the update, and `from_inputs` is used.
"""

from typing import Any, NamedTuple

import jax

from jaxdescent import jax_internals as core
from jaxdescent.towers.fused import elementwise
from jaxdescent.towers.fused.elementwise import Elementwise, NotElementwiseError
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
      inputs: the variables that the update is considered a function of; None where an input is
        not used.
      updates: the outputs that are updates.
      parts: the updates as functions of scalars and single coordinates.
    """

    jaxpr: core.ClosedJaxpr
    inputs: Variables
    updates: list[Any]
    parts: Elementwise

    def reads(self, kind: str) -> bool:
        """True if the derivative reads inputs of a kind, a field of `Variables`."""
        index = Variables._fields.index(kind)
        first = sum(map(len, self.inputs[:index]))
        places = {*self.parts.given, *(i for leaf in self.parts.leaves for i in leaf.arrays)}
        return not places.isdisjoint(range(first, first + len(self.inputs[index])))


def from_inputs(trace: TracedUpdate) -> Fused:
    """Returns an update as a function of all its inputs.

    Raises:
      NotElementwiseError: the update is not coordinate-wise.
    """
    jaxpr, updates, variables = _flat(trace)
    return _split(jaxpr, updates, variables._replace(new_state=[]))


def from_state(trace: TracedUpdate) -> Fused:
    """Returns an update as a function of the state after it and as few other inputs as possible.

    Raises:
      NotElementwiseError: the update depends on the state before it, or on a moment that depends
        on the hyperparameters, or the update is not coordinate-wise.
    """
    jaxpr, updates, variables = _flat(trace)
    moved = set().union(*(dataflow.reached(jaxpr.jaxpr, v) for v in variables.hyperparams))
    new_state = [
        v if isinstance(v, core.Var) and v not in moved else None for v in variables.new_state
    ]
    return _split(jaxpr, updates, variables._replace(new_state=new_state, state=[]))


def _split(jaxpr: core.ClosedJaxpr, updates: list[Any], inputs: Variables) -> Fused:
    parts = elementwise.split(jaxpr.jaxpr, updates, [v for kind in inputs for v in kind])
    return Fused(jaxpr, inputs, updates, parts)


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
