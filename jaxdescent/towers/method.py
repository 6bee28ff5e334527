"""How an update is differentiated, and hence what a tower carries from step to step.

general    any update: forward or reverse mode through all of it, at its last inputs
fused      coordinate by coordinate, where the update works like that; from the state after
           the update where that is enough, else at its last inputs
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxdescent.towers import building, dataflow, fused, tracing
from jaxdescent.towers.contraction import Mode
from jaxdescent.towers.elementwise import NotElementwiseError
from jaxdescent.towers.inputs import (
    Inputs,
    Outcome,
    dtype_of_hyperparams,
    examples_of,
    starting_hyperparams,
)

METHODS = ("auto", "general", "fused")


class Summary(NamedTuple):
    """What is known of an update from its shapes.

    Attributes:
      carried: the shapes of what is carried.
      mode: which modes of differentiation go through the update.
      method: "general" or "fused".
    """

    carried: Inputs | Outcome
    mode: Mode
    method: str


class NotFusedError(ValueError):
    """An update that the fused method does not cover."""


def resolve(
    factory: building.Factory,
    starts: Mapping[str, Any],
    extra_args: Mapping[str, Any] | None,
    method: str,
) -> str:
    """The method for a factory, as far as it can be told before there are parameters.

    An "auto" stays open where the factory is written for particular parameters; it is
    resolved in the same way for those.

    Raises:
      ValueError: the method is "fused", and the update does not allow it.
    """
    if method == "general":
        return method
    try:
        found = summary(factory, starts, None, extra_args, method).method
    except NotFusedError:
        raise
    except Exception:  # `init` tries again with the real parameters
        return method
    return method if found == "fused" else "general"


def summary(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
    method: str,
) -> Summary:
    """How the update for given parameters is differentiated.

    Args:
      factory: makes the transformation.
      starts: the tuned names.
      params: the parameters, or None for a stand-in.
      extra_args: examples of what the update may read.
      method: one of `METHODS`.

    Raises:
      ValueError: the method is "fused", and the update does not allow it.
    """
    params = tracing.STAND_IN if params is None else params
    hyperparams = starting_hyperparams(starts, params)
    examples = examples_of(extra_args, dtype_of_hyperparams(params))
    update = tracing.abstract_update(factory, hyperparams, params, examples)
    trace = tracing.trace(update)
    mode = tracing.mode_of(trace.jaxpr)
    used, _ = dataflow.reads(trace.jaxpr, trace.args)
    inputs = update.inputs
    is_read = {name: any(jax.tree.leaves(flags)) for name, flags in used.extra_args.items()}
    carried = inputs._replace(
        params=inputs.params if any(jax.tree.leaves(used.params)) else None,
        extra_args={name: x for name, x in inputs.extra_args.items() if is_read[name]},
    )
    if method == "general":
        return Summary(carried, mode, method)
    try:
        found = fused.from_state(trace)
        kept = {name: getattr(inputs, name) for name in ("grads", "params") if found.reads(name)}
        nothing = {"grads": None, "params": None}
        outcome: Any = {**carried._asdict(), **nothing, **kept}
        return Summary(Outcome(**outcome), mode, "fused")
    except NotElementwiseError:
        pass
    try:
        fused.from_inputs(trace)
    except NotElementwiseError as error:
        if method == "fused":
            raise NotFusedError(
                f"method must be 'general' or 'auto' for {building.label(factory)} with these "
                f"parameters and hyperparameters, got 'fused': it uses {error}"
            ) from None
        return Summary(carried, mode, "general")
    return Summary(carried, mode, "fused")
