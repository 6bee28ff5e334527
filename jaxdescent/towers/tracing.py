"""Tracing an update: what it reads, what it needs, and whether it can be replayed at all.

An update is traced on shapes: at construction on a stand-in for the parameters, at `init`
on the shapes of the real ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import optax
from jax.extend import core

from jaxdescent import validation
from jaxdescent.towers import building, dataflow, spaces
from jaxdescent.towers.contraction import Mode
from jaxdescent.towers.inputs import (
    Inputs,
    Update,
    abstract,
    examples_of,
    starting_hyperparams,
)

# What stands for the parameters before there are any.
STAND_IN = {"probe": jax.ShapeDtypeStruct((2, 2), jnp.float32)}


class NotReplayableError(ValueError):
    """An update that cannot be run again on its last inputs, or not be traced at all."""


class TracedUpdate(NamedTuple):
    """An update on shapes or arrays.

    Attributes:
      jaxpr: the update.
      outputs: the structure of what it returns, updates and state.
      args: what the jaxpr is a function of: the inputs, and other arrays by name.
    """

    jaxpr: core.ClosedJaxpr
    outputs: Any
    args: tuple[Inputs, dict[str, Any]]

    def run(self) -> tuple[Any, Any]:
        """The updates and the new state, if the arguments are arrays."""
        results = core.jaxpr_as_fun(self.jaxpr)(*jax.tree.leaves(self.args))
        return self.outputs.unflatten(results)


def trace(update: Update) -> TracedUpdate:
    """The jaxpr of an update."""
    arrays = {n: x for n, x in update.others.items() if _is_arrays(x)}
    rest = {n: x for n, x in update.others.items() if n not in arrays}

    def run(inputs: Inputs, others: dict[str, Any]) -> Any:
        return Update(update.factory, inputs, {**rest, **others}).run(inputs.hyperparams)

    args = (update.inputs, arrays)
    traced = lambda: jax.make_jaxpr(run, return_shape=True)(*args)
    jaxpr, shapes = _explaining(update.factory, traced)
    return TracedUpdate(jaxpr, jax.tree.structure(shapes), args)


def _is_arrays(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(
        hasattr(leaf, "dtype") or isinstance(leaf, (float, complex)) for leaf in leaves
    )


_NEEDS_A_NUMBER = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerArrayConversionError,
)


def _explaining(factory: building.Factory, attempt: Any) -> Any:
    """Runs a trace and turns the errors that have one meaning here into that meaning."""
    name = building.label(factory)
    try:
        return attempt()
    except NotReplayableError as error:
        raise NotReplayableError(
            f"factory {name} calls {error} inside its update, as line searches do; a tower "
            "replays the last update and cannot evaluate the model again for it. Switch that "
            "off (linesearch=None in optax.lbfgs) or choose another optimizer"
        ) from None
    except _NEEDS_A_NUMBER as error:
        raise NotReplayableError(
            f"factory {name} needs the value of a tuned hyperparameter in Python, where it is an "
            "array that changes; fix that hyperparameter in a functools.partial"
        ) from error


def refuse(name: str) -> Any:
    """Stands for a function of the model that a replay must not call."""

    def refused(*_: Any, **__: Any) -> NoReturn:
        raise NotReplayableError(name)

    return refused


# Some updates cannot do without a function of the model, and fail until they are given it.
_FUNCTIONS: tuple[Callable[[Any], dict[str, Any]], ...] = (
    lambda _: {},
    lambda grads: {"grad": grads, "value_fn": refuse("value_fn")},
    lambda _: {"obj_fn": refuse("obj_fn")},
    lambda _: {"grad_fn": refuse("grad_fn")},
)


def abstract_update(
    factory: building.Factory, hyperparams: dict[str, Any], params: Any, examples: dict[str, Any]
) -> Update:
    """The update of a factory on shapes, with the extra arguments that it asks for."""
    grads = jax.tree.map(abstract, params)
    init = lambda h, p: building.build(factory, h).init(p)
    state = _explaining(factory, lambda: jax.eval_shape(init, hyperparams, grads))
    inputs = Inputs(jax.tree.map(abstract, hyperparams), grads, state, grads, examples)
    errors = []
    for keywords in (examples, {}):  # some take no keyword at all
        for others in _FUNCTIONS:
            attempt = Update(factory, inputs._replace(extra_args=keywords), others(grads))
            try:
                trace(attempt)
            except NotReplayableError:
                raise
            except (TypeError, ValueError) as error:
                errors.append(error)
            else:
                return attempt
    if isinstance(errors[0], TypeError) and "argument" in str(errors[0]):
        raise TypeError(
            f"the update of factory {building.label(factory)} rejects its arguments: {errors[0]}; "
            "if it reads a keyword, pass extra_args={its name: an example array} to hypergradient"
        ) from errors[0]
    raise errors[0]


def mode_of(jaxpr: core.ClosedJaxpr) -> Mode:
    """Which modes of differentiation go through an update."""
    if dataflow.holds(jaxpr, "while"):
        return Mode.FORWARD
    return Mode.REVERSE if dataflow.holds(jaxpr, "custom_vjp_call") else Mode.ANY


def check(
    factory: building.Factory, starts: Mapping[str, Any], extra_args: Mapping[str, Any] | None
) -> list[str]:
    """Tries the factory before there are parameters.

    Returns:
      The tuned names that cannot move the parameters in the step that uses them.

    Raises:
      ValueError: the factory rejects its keywords, branches on a tuned value, or calls
        the model.
      TypeError: the factory returns no transformation.
    """
    examples = examples_of(extra_args)
    hyperparams = starting_hyperparams(starts, STAND_IN)
    values = {name: spaces.natural(coordinate) for name, coordinate in hyperparams.items()}
    one_leaf = {n: v["probe"] if isinstance(v, dict) else v for n, v in values.items()}
    try:
        result = factory(**one_leaf)
    except Exception as error:
        raise ValueError(
            f"factory {building.label(factory)} cannot be called with "
            f"{', '.join(hyperparams)} alone: {error}"
        ) from error
    validation.transformation("the factory's result", result)
    try:
        update = abstract_update(factory, hyperparams, STAND_IN, examples)
        return _without_effect(update)
    except NotReplayableError:
        raise
    except Exception:  # written for particular parameters; `init` tries again with those
        return []


def check_hyper_optimizer(
    hyper_optimizer: optax.GradientTransformation, starts: Mapping[str, Any]
) -> None:
    """Raises if the hyper-optimizer would evaluate a loss of the hyperparameters.

    Raises:
      ValueError: it does; there is no such function to give it.
    """
    hyperparams = starting_hyperparams(starts, STAND_IN)
    try:
        abstract_update(lambda: hyper_optimizer, {}, hyperparams, examples_of(None))
    except NotReplayableError:
        raise ValueError(
            "hyper_optimizer calls a loss function inside its update, as line searches do; "
            "there is none of the hyperparameters alone. Choose another optimizer"
        ) from None
    except Exception:  # wants something that only a real update has
        return


def _without_effect(update: Update) -> list[str]:
    """The names whose derivative of the updates is zero whatever the numbers."""

    def change(tangent: Any, inputs: Inputs) -> Any:
        run = Update(update.factory, inputs, update.others).run
        return jax.jvp(lambda h: run(h)[0], (inputs.hyperparams,), (tangent,))[1]

    args = (update.inputs.hyperparams, update.inputs)
    jaxpr = _explaining(update.factory, lambda: jax.make_jaxpr(change)(*args))
    used, _ = dataflow.reads(jaxpr, args)
    return [name for name, flags in used.items() if not any(jax.tree.leaves(flags))]
