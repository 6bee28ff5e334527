"""Replay: running the last update again on its own inputs.

"Inputs" means all of them: hyperparameters, gradients, inner state, and the parameters
and extra arguments if the update reads them. Today's parameters in place of the last
step's would give another state wherever they enter it: L2 before momentum, Prodigy.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent import validation
from jaxdescent.towers import building, dataflow, safe_derivatives, tracing
from jaxdescent.towers.contraction import Mode
from jaxdescent.towers.inputs import Inputs, Update, starting_hyperparams


def empty_inputs(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
) -> Inputs:
    """The inputs before the first update: the inner optimizer's first state, and zeros."""
    # optax.tree.map_params asks for the state of a placeholder without leaves.
    shapes = params if jax.tree.leaves(params) else None
    held, _ = tracing.summary(factory, starts, shapes, extra_args)
    hyperparams = starting_hyperparams(starts, params)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    return Inputs(
        hyperparams=hyperparams,
        grads=zeros(params),
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
    validation.shaped_like("the gradients", grads, previous.grads)
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
        building.cast_like(grads, previous.grads),
        None if previous.params is None else building.cast_like(params, previous.params),
        {n: building.cast_like(extra_args[n], x) for n, x in previous.extra_args.items()},
    )


class LastUpdate(NamedTuple):
    """The last update as a function of its hyperparameters.

    Attributes:
      run: from hyperparameters and `inputs` to `(updates, state)`, with safe derivatives.
      inputs: all else that it is a function of.
      mode: which modes of differentiation go through it.
    """

    run: Callable[[dict[str, Any], Any], tuple[Any, Any]]
    inputs: Any
    mode: Mode


def last_update(
    factory: building.Factory, previous: Inputs, params: Any, extra_args: Mapping[str, Any]
) -> LastUpdate:
    """The last update, ready to be run again; what it does not read takes today's value.

    Raises:
      ValueError: the update reads an array that is not carried, or calls the model.
    """
    others = {
        name: tracing.refuse(name) if callable(value) else value
        for name, value in extra_args.items()
        if name not in previous.extra_args
    }
    inputs = previous if previous.params is not None else previous._replace(params=params)
    jaxpr, outputs, args = tracing.trace(Update(factory, inputs, others))
    _, used = dataflow.reads(jaxpr, args)
    for name, flags in used.items():
        if any(jax.tree.leaves(flags)):
            raise ValueError(
                f"the factory's update reads the extra argument {name!r}, whose last value a "
                f"replay needs; pass extra_args={{{name!r}: an example array}} to hypergradient"
            )

    def run(hyperparams: dict[str, Any], given: Any) -> tuple[Any, Any]:
        consts, inputs, others = given
        leaves = jax.tree.leaves((inputs._replace(hyperparams=hyperparams), others))
        closed = core.ClosedJaxpr(jaxpr.jaxpr, consts)
        return outputs.unflatten(safe_derivatives.evaluate(closed, *leaves))

    return LastUpdate(run, (jaxpr.consts, *args), tracing.mode_of(jaxpr))
