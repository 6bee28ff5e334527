"""Replay: running the last update again on its own inputs.

"Inputs" means all of them: hyperparameters, gradients, inner state, and the parameters
and extra arguments if the update reads them. Today's parameters in place of the last
step's would give another state wherever they enter it: L2 before momentum, Prodigy.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent import validation
from jaxdescent.numerics import all_finite
from jaxdescent.towers import (
    building,
    dataflow,
    fused,
    method,
    safe_derivatives,
    traces,
    tracing,
)
from jaxdescent.towers.conditional import on_cpu, unless
from jaxdescent.towers.contraction import Contraction, contract
from jaxdescent.towers.elementwise import NotElementwiseError
from jaxdescent.towers.fused import Fused
from jaxdescent.towers.inputs import Inputs, Outcome, Update, starting_hyperparams


def empty_inputs(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
    how: str,
) -> Inputs | Outcome:
    """What is carried before the first update: the inner optimizer's first state, and zeros."""
    # optax.tree.map_params asks for the state of a placeholder without leaves.
    shapes = params if jax.tree.leaves(params) else None
    held = method.summary(factory, starts, shapes, extra_args, how).carried
    hyperparams = starting_hyperparams(starts, params)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    return type(held)(
        hyperparams=hyperparams,
        grads=None if held.grads is None else zeros(params),
        state=building.build(factory, hyperparams).init(params),
        params=None if held.params is None else zeros(params),
        extra_args=zeros(held.extra_args),
    )


def present_inputs(
    previous: Inputs | Outcome, grads: Any, params: Any, extra_args: Mapping[str, Any]
) -> Inputs:
    """Today's inputs, in the form in which they are carried, without hyperparameters and state.

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
    return Inputs(
        hyperparams={},
        grads=grads if like is None else building.cast_like(grads, like),
        state=None,
        params=params if previous.params is None else building.cast_like(params, previous.params),
        extra_args={
            n: building.cast_like(extra_args[n], x) for n, x in previous.extra_args.items()
        },
    )


class Step(NamedTuple):
    """A step of the inner optimizer.

    Attributes:
      updates: what it makes of today's gradient.
      previous: what is carried from it.
      skipped: what is carried if today's gradient is not used after all.
    """

    updates: Any
    previous: Any
    skipped: Any


class Replay(NamedTuple):
    """The last update, from all its inputs.

    Attributes:
      previous: the inputs.
      trace: the update.
      parts: the update taken apart, or None if it is differentiated as a whole.
    """

    previous: Inputs
    trace: tracing.TracedUpdate
    parts: Fused | None

    def contract(self, grads: Any, has_previous: jax.Array) -> tuple[Contraction, jax.Array]:
        """The hypergradient, and bool[] whether `grads` is finite."""
        hyperparams = self.previous.hyperparams
        if self.parts is not None:
            values = fused.values(self.parts, self.trace.args[0], None)
            return _fused_contraction(self.parts, values, hyperparams, grads, has_previous)
        given = (self.trace.jaxpr.consts, *self.trace.args)
        mode = tracing.mode_of(self.trace.jaxpr)
        found, _ = contract(self._run_safely, hyperparams, given, grads, has_previous, mode=mode)
        return found, all_finite(grads)

    def contract_traces(
        self, longer: Any, decay: Any, grads: Any, has_previous: jax.Array
    ) -> tuple[Contraction, dict[str, Any]]:
        """The hypergradient along the traces, and the traces with this update in them."""
        given = (self.trace.jaxpr.consts, *self.trace.args)
        update = lambda hyperparams: self._run_safely(hyperparams, given)[0]
        return traces.contract(
            update, self.previous.hyperparams, longer, decay, grads, has_previous
        )

    def _run_safely(self, hyperparams: dict[str, Any], given: Any) -> tuple[Any, Any]:
        consts, inputs, others = given
        leaves = jax.tree.leaves((inputs._replace(hyperparams=hyperparams), others))
        closed = core.ClosedJaxpr(self.trace.jaxpr.jaxpr, consts)
        return self.trace.outputs.unflatten(safe_derivatives.evaluate(closed, *leaves))

    def step(
        self, tx: Any, today: Inputs, extra_args: Mapping[str, Any], has_previous: jax.Array, _: Any
    ) -> Step:
        """A step from the state that the last update left behind."""
        state = where(has_previous, self.trace.run()[1], self.previous.state)
        updates, _ = tx.update(today.grads, state, today.params, **extra_args)
        held = today if self.previous.params is not None else today._replace(params=None)
        zeros = jax.tree.map(jnp.zeros_like, self.previous.grads)
        skipped = self.previous._replace(state=state, grads=zeros)
        return Step(updates, held._replace(state=state), skipped)


class Recall(NamedTuple):
    """The last update, from the state after it.

    Attributes:
      previous: that state, and what else is needed.
      parts: the update taken apart.
    """

    previous: Outcome
    parts: Fused

    def contract(self, grads: Any, has_previous: jax.Array) -> tuple[Contraction, jax.Array]:
        """The hypergradient, and bool[] whether `grads` is finite."""
        inputs = Inputs(**self.previous._asdict())._replace(state=None)
        values = fused.values(self.parts, inputs, self.previous.state)
        return _fused_contraction(
            self.parts, values, self.previous.hyperparams, grads, has_previous
        )

    def step(
        self, tx: Any, today: Inputs, extra_args: Mapping[str, Any], _: Any, usable: jax.Array
    ) -> Step:
        """A step from the present state."""
        updates, state = tx.update(today.grads, self.previous.state, today.params, **extra_args)
        # The updates once more, now from the state as it is stored: else XLA makes it twice.
        state = where(usable, state, self.previous.state)
        values = fused.values(self.parts, today._replace(state=None), state)
        leaves = fused.updates_of(self.parts, values)
        updates = building.cast_like(
            jax.tree.unflatten(jax.tree.structure(updates), leaves), updates
        )
        held = {
            name: getattr(today, name) if getattr(self.previous, name) is not None else None
            for name in ("grads", "params")
        }
        zeros = jax.tree.map(jnp.zeros_like, self.previous.grads)
        carried: Any = {**today._asdict(), **held, "state": state}
        previous = Outcome(**carried)
        return Step(updates, previous, self.previous._replace(state=state, grads=zeros))


def _fused_contraction(
    parts: Fused, values: Any, hyperparams: Any, grads: Any, has_previous: jax.Array
) -> tuple[Contraction, jax.Array]:
    found, whole = fused.contract(parts, values, hyperparams, grads, has_previous)
    # No term is finite where the gradient is not, so that mostly nothing is left to check;
    # but where a conditional is dear, it is checked always.
    return found, unless(all_finite)(whole & on_cpu(), jnp.ones((), bool), grads)


def last_update(
    factory: building.Factory,
    previous: Inputs | Outcome,
    today: Inputs,
    extra_args: Mapping[str, Any],
    how: str,
) -> Replay | Recall:
    """The last update, ready to be differentiated; what it does not read takes today's value.

    Raises:
      ValueError: the update reads an array that is not carried, or calls the model.
    """
    others = {
        name: tracing.refuse(name) if callable(value) else value
        for name, value in extra_args.items()
        if name not in previous.extra_args
    }
    kept = {name: x for name, x in previous._asdict().items() if x is not None}
    trace = tracing.trace(Update(factory, today._replace(**kept), others))
    _, used = dataflow.reads(trace.jaxpr, trace.args)
    for name, flags in used.items():
        if any(jax.tree.leaves(flags)):
            raise ValueError(
                f"the factory's update reads the extra argument {name!r}, whose last value a "
                f"replay needs; pass extra_args={{{name!r}: an example array}} to hypergradient"
            )
    if isinstance(previous, Outcome):
        return Recall(previous, fused.from_state(trace))
    if how == "general":
        return Replay(previous, trace, None)
    try:
        return Replay(previous, trace, fused.from_inputs(trace))
    except NotElementwiseError:
        return Replay(previous, trace, None)


def where(condition: jax.Array, yes: Any, no: Any) -> Any:
    """The one tree or the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
