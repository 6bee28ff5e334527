"""Replay: running the last update again on its own inputs.

"Inputs" means all of them: hyperparameters, gradients, inner state, and the parameters
and extra arguments if the update reads them. Today's parameters in place of the last
step's would give another state (L2 before momentum drifts by 5e-3 in 100 steps, Prodigy
by 0.7).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.towers import building, dataflow, safe_derivatives, tracing
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
    for name in previous.extra_args:
        if name not in extra_args:
            raise ValueError(
                f"update(..., {name}=...) is missing: this optimizer reads the extra argument "
                f"{name!r}"
            )
    return (
        building.cast_like(grads, previous.grads),
        None if previous.params is None else building.cast_like(params, previous.params),
        {n: building.cast_like(extra_args[n], x) for n, x in previous.extra_args.items()},
    )


def last_update(
    factory: building.Factory, previous: Inputs, params: Any, extra_args: Mapping[str, Any]
) -> tuple[Callable[[dict[str, Any]], tuple[Any, Any]], bool]:
    """The last update as a function of its hyperparameters.

    What the update does not read takes today's value.

    Returns:
      From hyperparameters to `(updates, state)`, with safe derivatives; and whether
      only forward mode goes through it.

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

    def run(hyperparams: dict[str, Any]) -> tuple[Any, Any]:
        leaves = jax.tree.leaves((inputs._replace(hyperparams=hyperparams), args[1]))
        return outputs.unflatten(safe_derivatives.evaluate(jaxpr, *leaves))

    return run, dataflow.holds_while_loop(jaxpr)
