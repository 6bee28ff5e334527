"""Updates as data: the record of an update, and its program.

An update is a function of hyperparameters, gradients, the inner optimizer's state, parameters
and extra arguments. A tower keeps an `UpdateRecord` of the last update, from which the next
step differentiates it. A `TracedUpdate` is the update's jaxpr, traced on shapes to analyze it
or on arrays to differentiate it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from jaxdescent import jax_internals as core
from jaxdescent import validation
from jaxdescent.towers.factory import Factory, build, cast_like, label
from jaxdescent.towers.replay import dataflow
from jaxdescent.towers.replay.contraction import Mode


class UpdateRecord(NamedTuple):
    """Record of an update, from which the next step differentiates the update.

    Exactly one of `state` and `new_state` is stored. An entry that the derivative does not need
    is None.

    Attributes:
      hyperparams: coordinates of the hyperparameters that the update used.
      grads: the gradient, in the parameters' dtypes.
      state: the inner optimizer's state before the update.
      new_state: the inner optimizer's state after the update.
      params: the parameters before the update.
      extra_args: the extra arguments that the update read, by name.
    """

    hyperparams: dict[str, Any]
    grads: Any
    state: Any
    new_state: Any
    params: Any
    extra_args: dict[str, Any]

    def present(self, grads: Any, params: Any, extra_args: Mapping[str, Any]) -> "UpdateRecord":
        """Returns the record of the present step, without hyperparameters and states.

        Arrays have the dtypes of this record, so that the next step can keep them.

        Raises:
          ValueError: the gradients do not have the parameters' shapes; or the parameters or an
            extra argument that the update reads are missing.
        """
        like = params if self.grads is None else self.grads
        if like is not None:
            validation.shaped_like("the gradients", grads, like)
        if self.params is not None and params is None:
            raise ValueError("update(grads, state, params) needs params: this optimizer reads them")
        for name, last in self.extra_args.items():
            if extra_args.get(name) is None:
                raise ValueError(
                    f"update(..., {name}=...) is missing: this optimizer reads the extra argument "
                    f"{name!r}"
                )
            validation.shaped_like(f"{name}=", extra_args[name], last, "its example in extra_args")
        return UpdateRecord(
            hyperparams={},
            grads=grads if like is None else cast_like(grads, like),
            state=None,
            new_state=None,
            params=params if self.params is None else cast_like(params, self.params),
            extra_args={n: cast_like(extra_args[n], x) for n, x in self.extra_args.items()},
        )

    def inputs(self, present: "UpdateRecord") -> "UpdateRecord":
        """Returns complete inputs; those that were not stored are replaced by current values."""
        return UpdateRecord(
            hyperparams=self.hyperparams,
            grads=present.grads if self.grads is None else self.grads,
            state=self.state if self.new_state is None else self.new_state,
            new_state=None,
            params=present.params if self.params is None else self.params,
            extra_args=self.extra_args,
        )


class NotReplayableError(ValueError):
    """Raised for an update that cannot be traced, or cannot be run again on its last inputs."""


class TracedUpdate(NamedTuple):
    """The program of an update.

    Attributes:
      jaxpr: the update as a jaxpr.
      outputs: the tree structure of its results, the updates and the new state.
      args: the jaxpr's arguments, arrays or shapes: the inputs that a record keeps, and other
        arrays by name.
    """

    jaxpr: core.ClosedJaxpr
    outputs: Any
    args: tuple[UpdateRecord, dict[str, Any]]

    @property
    def mode(self) -> Mode:
        """The modes of differentiation that the program supports."""
        if dataflow.holds(self.jaxpr, "while"):
            return Mode.FORWARD
        return Mode.REVERSE if dataflow.holds(self.jaxpr, "custom_vjp_call") else Mode.ANY

    def run(self) -> tuple[Any, Any]:
        """Returns the updates and the new state, if the arguments are arrays."""
        results = core.jaxpr_as_fun(self.jaxpr)(*jax.tree.leaves(self.args))
        return self.outputs.unflatten(results)


def run_update(
    factory: Factory, hyperparams: Any, inputs: UpdateRecord, others: dict[str, Any]
) -> tuple[Any, Any]:
    """Returns the updates and the new state of a factory's transformation.

    Args:
      factory: makes the transformation.
      hyperparams: the coordinates to build the transformation at.
      inputs: the inputs that a record keeps.
      others: extra arguments that no record keeps: arrays and functions.
    """
    tx = build(factory, hyperparams)
    extra_args = {**others, **inputs.extra_args}
    return tx.update(inputs.grads, inputs.state, inputs.params, **extra_args)


def trace(factory: Factory, inputs: UpdateRecord, others: dict[str, Any]) -> TracedUpdate:
    """Returns the program of an update, on arrays or shapes.

    Raises:
      NotReplayableError: the update calls the model, or needs a tuned value in Python.
    """
    arrays = {n: x for n, x in others.items() if _is_arrays(x)}
    rest = {n: x for n, x in others.items() if n not in arrays}

    def run(inputs: UpdateRecord, others: dict[str, Any]) -> Any:
        return run_update(factory, inputs.hyperparams, inputs, {**rest, **others})

    args = (inputs, arrays)

    def traced() -> Any:
        return jax.make_jaxpr(run, return_shape=True)(*args)

    jaxpr, shapes = explain_errors(factory, traced)
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


def explain_errors(factory: Factory, attempt: Callable[[], Any]) -> Any:
    """Runs a trace; explains errors that are caused by the factory."""
    name = label(factory)
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
    """Returns a stand-in for a function of the model, which raises when it is called."""

    def refused(*_: Any, **__: Any) -> NoReturn:
        raise NotReplayableError(name)

    return refused


def _model_functions(grads: Any) -> tuple[dict[str, Any], ...]:
    """Returns sets of stand-ins for functions of the model that an update may require."""
    return (
        {},
        {"grad": grads, "value_fn": refuse("value_fn")},
        {"obj_fn": refuse("obj_fn")},
        {"grad_fn": refuse("grad_fn")},
    )


def trace_on_shapes(
    factory: Factory, hyperparams: dict[str, Any], params: Any, examples: dict[str, Any]
) -> tuple[TracedUpdate, dict[str, Any]]:
    """Traces an update on shapes, with the extra arguments that it asks for.

    Args:
      factory: makes the transformation.
      hyperparams: coordinates of the hyperparameters.
      params: arrays or shapes.
      examples: shapes of the extra arguments that the update may read.

    Returns:
      The program, and the extra arguments that no record keeps.
    """
    grads = jax.tree.map(abstract, params)

    def init(hyperparams: Any, params: Any) -> Any:
        return build(factory, hyperparams).init(params)

    state = explain_errors(factory, lambda: jax.eval_shape(init, hyperparams, grads))
    inputs = UpdateRecord(jax.tree.map(abstract, hyperparams), grads, state, None, grads, examples)
    errors = []
    for keywords in (examples, {}):  # some take no keyword at all
        for others in _model_functions(grads):
            try:
                return trace(factory, inputs._replace(extra_args=keywords), others), others
            except NotReplayableError:
                raise
            except (TypeError, ValueError) as error:
                errors.append(error)
    if isinstance(errors[0], TypeError) and "argument" in str(errors[0]):
        raise TypeError(
            f"the update of factory {label(factory)} rejects its arguments: {errors[0]}; "
            "if it reads a keyword, pass extra_args={its name: an example array} to hypergradient"
        ) from errors[0]
    raise errors[0]


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of an array or a number."""
    dtype = getattr(leaf, "dtype", jnp.result_type(leaf))
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.dtypes.canonicalize_dtype(dtype, True))
