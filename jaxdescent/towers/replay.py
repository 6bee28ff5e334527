"""The inputs of the last update: what they are, and running the update on them again.

"Inputs" means all of them: hyperparameters, gradients, inner state, and the parameters
and extra arguments if the update reads them. Today's parameters in place of the last
step's would give another state (L2 before momentum drifts by 5e-3 in 100 steps, Prodigy
by 0.7). What the update reads is found by tracing it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent import validation
from jaxdescent.towers import building, dataflow, safe_derivatives, spaces


class Inputs(NamedTuple):
    """What an update is a function of.

    Attributes:
      hyperparams: the coordinates that were used.
      grads: the gradient, in the parameters' dtypes.
      state: the inner optimizer's state before the update.
      params: the parameters before the update, or None if the update does not read them.
      extra_args: the extra arguments that the update reads, by name.
    """

    hyperparams: dict[str, Any]
    grads: Any
    state: Any
    params: Any
    extra_args: dict[str, Any]


class Update(NamedTuple):
    """An update as data: the factory and what it is called with.

    Attributes:
      factory: makes the transformation.
      inputs: arrays or `jax.ShapeDtypeStruct`s; `params` is what `update` is given.
      others: extra arguments that are not carried: arrays of today, and functions.
    """

    factory: building.Factory
    inputs: Inputs
    others: dict[str, Any]

    def run(self, hyperparams: dict[str, Any]) -> tuple[Any, Any]:
        """The updates and the new state, at other hyperparameters."""
        i = self.inputs
        extra_args = {**self.others, **i.extra_args}
        tx = building.build(self.factory, hyperparams)
        return tx.update(i.grads, i.state, i.params, **extra_args)


def examples_of(extra_args: Mapping[str, Any] | None, dtype: Any = jnp.float32) -> dict[str, Any]:
    """Shapes and dtypes of the extra arguments that an update may read."""
    if extra_args is None:
        return {"value": jax.ShapeDtypeStruct((), dtype)}
    if extra_args:
        validation.mapping("extra_args", extra_args, "names and example arrays")
    for name, example in extra_args.items():
        if callable(example):
            raise TypeError(f"extra_args must hold example arrays, got a function for {name!r}")
    return jax.tree.map(_abstract, dict(extra_args))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), getattr(leaf, "dtype", jnp.result_type(leaf)))


def dtype_of_hyperparams(params: Any) -> Any:
    """float64 if a parameter is, or complex128; else float32."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(params)]
    wide = any(jnp.issubdtype(d, jnp.inexact) and jnp.finfo(d).bits == 64 for d in dtypes)
    return jnp.float64 if wide else jnp.float32


def starting_hyperparams(starts: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The starts as strong arrays, one for each leaf of `params` where that is asked for."""
    dtype = dtype_of_hyperparams(params)

    def as_arrays(start: Any) -> Any:
        if not isinstance(start, spaces.PerLeaf):
            return type(start)(jnp.array(start[0], dtype))
        number = start.space[0]
        return spaces.PerLeaf(
            type(start.space)(jax.tree.map(lambda _: jnp.array(number, dtype), params))
        )

    return {name: spaces.clamp(as_arrays(start)) for name, start in starts.items()}


# What stands for the parameters before there are any.
_STAND_IN = {"probe": jax.ShapeDtypeStruct((2, 2), jnp.float32)}


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
    hyperparams = starting_hyperparams(starts, _STAND_IN)
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
        update = _abstract_update(factory, hyperparams, _STAND_IN, examples_of(extra_args))
        return _without_effect(update)
    except NotReplayableError:
        raise
    except Exception:  # written for particular parameters; `init` tries again with those
        return []


class NotReplayableError(ValueError):
    """An update that cannot be run again on its last inputs, or not be traced at all."""


def _abstract_update(
    factory: building.Factory, hyperparams: dict[str, Any], params: Any, examples: dict[str, Any]
) -> Update:
    """The update of a factory on shapes, with the extra arguments that it asks for."""
    grads = jax.tree.map(_abstract, params)
    init = lambda h, p: building.build(factory, h).init(p)
    state = _explaining(factory, lambda: jax.eval_shape(init, hyperparams, grads))
    inputs = Inputs(jax.tree.map(_abstract, hyperparams), grads, state, grads, examples)
    functions = {name: _refuse(name) for name in ("value_fn", "obj_fn", "grad_fn")}
    attempts = [
        Update(factory, inputs, {}),
        Update(factory, inputs, {"grad": grads, **functions}),  # some cannot do without
        Update(factory, inputs._replace(extra_args={}), {}),  # and some take none at all
    ]
    errors = []
    for attempt in attempts:
        try:
            _trace(attempt)
        except TypeError as error:
            errors.append(error)
        else:
            return attempt
    raise errors[0]


def _refuse(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotReplayableError(name)

    return refuse


_NEEDS_A_NUMBER = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerArrayConversionError,
)


def _explaining(factory: building.Factory, trace: Any) -> Any:
    """Runs a trace and turns the errors that have one meaning here into that meaning."""
    name = building.label(factory)
    try:
        return trace()
    except NotReplayableError as error:
        raise NotReplayableError(
            f"factory {name} calls {error} inside its update, as line searches do; a tower "
            "replays the last update and cannot evaluate the model again for it. Switch the "
            "line search off (linesearch=None in optax.lbfgs) or choose another optimizer"
        ) from None
    except _NEEDS_A_NUMBER as error:
        raise NotReplayableError(
            f"factory {name} needs the value of a tuned hyperparameter in Python, where it is an "
            "array that changes; fix that hyperparameter in a functools.partial"
        ) from error


def _trace(update: Update) -> tuple[core.ClosedJaxpr, Any, tuple[Any, ...]]:
    """The jaxpr of an update, the structure of its outputs, and the arguments for it."""
    arrays = {n: x for n, x in update.others.items() if _is_arrays(x)}
    rest = {n: x for n, x in update.others.items() if n not in arrays}

    def run(inputs: Inputs, others: dict[str, Any]) -> Any:
        return Update(update.factory, inputs, {**rest, **others}).run(inputs.hyperparams)

    args = (update.inputs, arrays)
    trace = lambda: jax.make_jaxpr(run, return_shape=True)(*args)
    jaxpr, shapes = _explaining(update.factory, trace)
    return jaxpr, jax.tree.structure(shapes), args


def _is_arrays(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(hasattr(leaf, "dtype") for leaf in leaves)


def _without_effect(update: Update) -> list[str]:
    """The names whose derivative of the updates is zero whatever the numbers."""

    def change(tangent: Any, inputs: Inputs) -> Any:
        run = Update(update.factory, inputs, update.others).run
        return jax.jvp(lambda h: run(h)[0], (inputs.hyperparams,), (tangent,))[1]

    args = (update.inputs.hyperparams, update.inputs)
    jaxpr = _explaining(update.factory, lambda: jax.make_jaxpr(change)(*args))
    used, _ = dataflow.reads(jaxpr, args)
    return [name for name, flags in used.items() if not any(jax.tree.leaves(flags))]


def empty_inputs(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
) -> Inputs:
    """The inputs before the first update: the inner optimizer's first state, and zeros."""
    # optax.tree.map_params asks for the state of a placeholder without leaves.
    shapes = params if jax.tree.leaves(params) else None
    held, _ = summary(factory, starts, shapes, extra_args)
    hyperparams = starting_hyperparams(starts, params)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    return Inputs(
        hyperparams=hyperparams,
        grads=zeros(params),
        state=building.build(factory, hyperparams).init(params),
        params=None if held.params is None else zeros(params),
        extra_args=zeros(held.extra_args),
    )


def summary(
    factory: building.Factory,
    starts: Mapping[str, Any],
    params: Any,
    extra_args: Mapping[str, Any] | None,
) -> tuple[Inputs, bool]:
    """The shapes of the inputs that are carried, and whether forward mode is needed."""
    params = _STAND_IN if params is None else params
    hyperparams = starting_hyperparams(starts, params)
    examples = examples_of(extra_args, dtype_of_hyperparams(params))
    update = _abstract_update(factory, hyperparams, params, examples)
    jaxpr, _, args = _trace(update)
    used, _ = dataflow.reads(jaxpr, args)
    inputs = update.inputs
    is_read = {name: any(jax.tree.leaves(flags)) for name, flags in used.extra_args.items()}
    held = inputs._replace(
        params=inputs.params if any(jax.tree.leaves(used.params)) else None,
        extra_args={name: x for name, x in inputs.extra_args.items() if is_read[name]},
    )
    return held, dataflow.holds_while_loop(jaxpr)


def present_inputs(
    previous: Inputs, grads: Any, params: Any, extra_args: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Today's gradient, parameters and extra arguments in the form in which they are carried.

    Raises:
      ValueError: the parameters or an extra argument that the update reads are missing.
    """
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
        name: _refuse(name) if callable(value) else value
        for name, value in extra_args.items()
        if name not in previous.extra_args
    }
    inputs = previous if previous.params is not None else previous._replace(params=params)
    jaxpr, outputs, args = _trace(Update(factory, inputs, others))
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
