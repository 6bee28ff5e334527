"""Replay: running the last update again on its own inputs.

"Inputs" means all of them: hyperparameters, gradients, inner state, and the parameters
and extra arguments if the update reads them. Today's parameters in place of the last
step's would give another state wherever they enter it: L2 before momentum, Prodigy.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent import validation
from jaxdescent.towers import building, dataflow, fused, method, safe_derivatives, tracing
from jaxdescent.towers.conditional import unless
from jaxdescent.towers.contraction import Contraction, Mode, contract
from jaxdescent.towers.elementwise import Elementwise, NotElementwiseError
from jaxdescent.towers.finite import all_finite
from jaxdescent.towers.inputs import Inputs, Update, starting_hyperparams


def empty_inputs(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
    how: str,
) -> Inputs:
    """The inputs before the first update: the inner optimizer's first state, and zeros."""
    # optax.tree.map_params asks for the state of a placeholder without leaves.
    shapes = params if jax.tree.leaves(params) else None
    held = method.summary(factory, starts, shapes, extra_args, how).carried
    hyperparams = starting_hyperparams(starts, params)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    return Inputs(
        hyperparams=hyperparams,
        grads=None if held.grads is None else zeros(params),
        state=building.build(factory, hyperparams).init(params),
        params=None if held.params is None else zeros(params),
        extra_args=zeros(held.extra_args),
    )


def present_inputs(
    previous: Inputs, grads: Any, params: Any, extra_args: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Today's gradient, parameters and extra arguments in the form in which they are carried.

    Raises:
      ValueError: the gradients are not shaped like the parameters; the parameters or an
        extra argument that the update reads are missing.
    """
    like = params if previous.grads is None else previous.grads
    if like is not None:
        validation.shaped_like("the gradients", grads, like)
    if previous.params is not None and params is None:
        raise ValueError("update(grads, state, params) needs params: this optimizer reads them")
    for name, last in previous.extra_args.items():
        if extra_args.get(name) is None:
            raise ValueError(
                f"update(..., {name}=...) is missing: this optimizer reads the extra argument "
                f"{name!r}"
            )
        validation.shaped_like(f"{name}=", extra_args[name], last, "its example in extra_args")
    return (
        grads if like is None else building.cast_like(grads, like),
        None if previous.params is None else building.cast_like(params, previous.params),
        {n: building.cast_like(extra_args[n], x) for n, x in previous.extra_args.items()},
    )


class Contracted(NamedTuple):
    """What the last update has to say.

    Attributes:
      found: its hypergradient.
      state: the inner optimizer's state after it.
      finite: bool[]; whether the gradient that it was contracted with is finite.
    """

    found: Contraction
    state: Any
    finite: jax.Array


class LastUpdate(Protocol):
    """The last update, ready to be contracted with a gradient."""

    def contract(self, grads: Any, armed: jax.Array) -> Contracted:
        """The hypergradient."""
        ...


class General(NamedTuple):
    """The last update as a function of its hyperparameters.

    Attributes:
      run: from hyperparameters and `inputs` to `(updates, state)`, with safe derivatives.
      inputs: all else that it is a function of.
      hyperparams: those that were used.
      mode: which modes of differentiation go through it.
    """

    run: Callable[[dict[str, Any], Any], tuple[Any, Any]]
    inputs: Any
    hyperparams: dict[str, Any]
    mode: Mode

    def contract(self, grads: Any, armed: jax.Array) -> Contracted:
        """The hypergradient, through the whole update."""
        found, state = contract(
            self.run, self.hyperparams, self.inputs, grads, armed, mode=self.mode
        )
        return Contracted(found, state, all_finite(grads))


class Fused(NamedTuple):
    """The last update, coordinate by coordinate.

    Attributes:
      parts: the update taken apart.
      inputs: the values of its inputs.
      hyperparams: those that were used.
      state: the inner optimizer's state after it.
    """

    parts: Elementwise
    inputs: Sequence[Any]
    hyperparams: dict[str, Any]
    state: Any

    def contract(self, grads: Any, armed: jax.Array) -> Contracted:
        """The hypergradient, in one pass over the buffers."""
        found, whole = fused.contract(self.parts, self.inputs, self.hyperparams, grads, armed)
        # No term is finite where the gradient is not, so that mostly nothing is left to check.
        finite = unless(all_finite)(whole, jnp.ones((), bool), grads)
        return Contracted(found, self.state, finite)


def last_update(
    factory: building.Factory,
    previous: Inputs,
    grads: Any,
    params: Any,
    extra_args: Mapping[str, Any],
    how: str,
) -> LastUpdate:
    """The last update, ready to be differentiated; what it does not read takes today's value.

    Raises:
      ValueError: the update reads an array that is not carried, or calls the model.
    """
    others = {
        name: tracing.refuse(name) if callable(value) else value
        for name, value in extra_args.items()
        if name not in previous.extra_args
    }
    lean = previous.grads is None
    inputs = previous._replace(grads=grads) if lean else previous
    inputs = inputs if inputs.params is not None else inputs._replace(params=params)
    trace = tracing.trace(Update(factory, inputs, others))
    _, used = dataflow.reads(trace.jaxpr, trace.args)
    for name, flags in used.items():
        if any(jax.tree.leaves(flags)):
            raise ValueError(
                f"the factory's update reads the extra argument {name!r}, whose last value a "
                f"replay needs; pass extra_args={{{name!r}: an example array}} to hypergradient"
            )
    if lean:
        parts, values = fused.from_state(trace, previous.state)
        return Fused(parts, values, previous.hyperparams, previous.state)
    if how != "general":
        try:
            parts, values = fused.from_inputs(trace)
        except NotElementwiseError:
            pass
        else:
            return Fused(parts, values, previous.hyperparams, trace.run()[1])

    def run(hyperparams: dict[str, Any], given: Any) -> tuple[Any, Any]:
        consts, inputs, others = given
        leaves = jax.tree.leaves((inputs._replace(hyperparams=hyperparams), others))
        closed = core.ClosedJaxpr(trace.jaxpr.jaxpr, consts)
        return trace.outputs.unflatten(safe_derivatives.evaluate(closed, *leaves))

    given = (trace.jaxpr.consts, *trace.args)
    return General(run, given, previous.hyperparams, tracing.mode_of(trace.jaxpr))
