"""The parts of a tower, analyzed once.

A `Spec` holds the factory, the initial values of the tuned hyperparameters, the signal, examples of
extra arguments and the method of differentiation. `make_spec` checks them and analyzes the update
on stand-in parameters. `Spec.analyze` analyzes it on the real parameters, once for each set of
shapes. The analysis decides which arrays of an update the state must keep for its derivative:

general    for any update: differentiates all of it at its last inputs, in forward or reverse mode
fused      for coordinate-wise updates: differentiates from the state after the update if that is
           enough, otherwise from its last inputs
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.numerics import widest_float
from jaxdescent.towers import factory as factories
from jaxdescent.towers import spaces
from jaxdescent.towers.fused import decomposition
from jaxdescent.towers.fused.contraction import FusedFromInputs, FusedFromState
from jaxdescent.towers.fused.elementwise import NotElementwiseError
from jaxdescent.towers.replay import dataflow
from jaxdescent.towers.replay.contraction import Mode
from jaxdescent.towers.replay.replay import Replay
from jaxdescent.towers.replay.tracing import (
    NotReplayableError,
    TracedUpdate,
    UpdateRecord,
    abstract,
    explain_errors,
    refuse,
    run_update,
    trace,
    trace_on_shapes,
)
from jaxdescent.towers.signals import EligibilityTrace, OneStep

METHODS = ("auto", "general", "fused")

RESERVED = frozenset({"outer_grads", "skip"})
"""Keywords that a tower's update takes for itself and does not pass on."""

_MAX_ANALYSES = 64  # sets of shapes that a spec remembers

# Stands for the parameters before there are any.
_STAND_IN = {"probe": jax.ShapeDtypeStruct((2, 2), jnp.float32)}


class NotFusedError(ValueError):
    """Raised for an update that the fused method cannot differentiate."""


class Analysis(NamedTuple):
    """Result of analyzing the update of some parameters.

    Attributes:
      record: the shapes of an update's record.
      mode: the modes of differentiation that the update supports.
      method: "general" or "fused".
    """

    record: UpdateRecord
    mode: Mode
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class Spec:
    """The analyzed arguments of `hypergradient`.

    Attributes:
      factory: makes the transformation that is tuned.
      starts: initial coordinates of the tuned hyperparameters, by name.
      signal: the effect on the loss that trains the hyperparameters.
      extra_args: examples of the extra arguments that the update may read.
      method: one of `METHODS`; "auto" is resolved for each set of parameters.
      without_effect: the tuned names that do not affect the update of the same step.
    """

    factory: factories.Factory
    starts: dict[str, Any]
    signal: OneStep | EligibilityTrace
    extra_args: Mapping[str, Any] | None
    method: str
    without_effect: tuple[str, ...] = ()
    _analyses: dict[Any, Analysis] = dataclasses.field(default_factory=dict, compare=False)

    def build(self, hyperparams: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
        """Builds the transformation with hyperparameters at the given coordinates."""
        return factories.build(self.factory, hyperparams)

    def starting_hyperparams(self, params: Any) -> dict[str, Any]:
        """Returns the initial coordinates as strongly typed arrays; per leaf for `PerLeaf`."""
        return _starting_hyperparams(self.starts, params)

    def analyze(self, params: Any) -> Analysis:
        """Analyzes the update of some parameters.

        Args:
          params: arrays or shapes; for None or a tree without leaves a stand-in is analyzed.

        Raises:
          ValueError: the method is "fused" and the update mixes coordinates, or the update cannot
            be traced.
        """
        shapes = jax.tree.map(abstract, params if jax.tree.leaves(params) else _STAND_IN)
        key = _key(shapes)
        if key not in self._analyses:
            if len(self._analyses) >= _MAX_ANALYSES:
                del self._analyses[next(iter(self._analyses))]  # the oldest
            self._analyses[key] = self._analysis(self._trace_on_shapes(shapes)[0])
        return self._analyses[key]

    def _trace_on_shapes(self, params: Any) -> tuple[TracedUpdate, dict[str, Any]]:
        examples = _examples(self.extra_args, widest_float(params))
        hyperparams = self.starting_hyperparams(params)
        return trace_on_shapes(self.factory, hyperparams, params, examples)

    def _analysis(self, program: TracedUpdate) -> Analysis:
        inputs = program.args[0]
        used, _ = dataflow.reads(program.jaxpr, program.args)
        is_read = {name: any(jax.tree.leaves(flags)) for name, flags in used.extra_args.items()}
        record = inputs._replace(
            params=inputs.params if any(jax.tree.leaves(used.params)) else None,
            extra_args={name: x for name, x in inputs.extra_args.items() if is_read[name]},
        )
        if self.method == "general":
            return Analysis(record, program.mode, "general")
        try:
            parts = decomposition.from_state(program)
        except NotElementwiseError:
            pass
        else:
            record = record._replace(
                grads=inputs.grads if parts.reads("grads") else None,
                state=None,
                new_state=inputs.state,
                params=inputs.params if parts.reads("params") else None,
            )
            return Analysis(record, program.mode, "fused")
        try:
            decomposition.from_inputs(program)
        except NotElementwiseError as error:
            if self.method == "fused":
                raise NotFusedError(
                    f"method must be 'general' or 'auto' for {factories.label(self.factory)} with "
                    f"these parameters and hyperparameters, got 'fused': it uses {error}"
                ) from None
            return Analysis(record, program.mode, "general")
        return Analysis(record, program.mode, "fused")

    def first_record(self, params: Any) -> UpdateRecord:
        """Returns the record before the first update: the first inner state, and zeros."""
        shapes = self.analyze(params).record
        hyperparams = self.starting_hyperparams(params)
        state = self.build(hyperparams).init(params)

        def zeros(tree: Any) -> Any:
            return jax.tree.map(jnp.zeros_like, tree)

        return UpdateRecord(
            hyperparams=hyperparams,
            grads=None if shapes.grads is None else zeros(params),
            state=None if shapes.state is None else state,
            new_state=None if shapes.new_state is None else state,
            params=None if shapes.params is None else zeros(params),
            extra_args=zeros(shapes.extra_args),
        )

    def current_and_last(
        self, previous: UpdateRecord, grads: Any, params: Any, extra_args: Mapping[str, Any]
    ) -> tuple[UpdateRecord, Replay | FusedFromInputs | FusedFromState]:
        """Returns the record of the present step, and the last update to be differentiated.

        Args:
          previous: the record of the last update.
          grads: the present gradient.
          params: the present parameters, or None.
          extra_args: the present extra arguments.

        Raises:
          ValueError: an argument that the update reads is missing or has another shape than
            before; or the update reads an array that is not kept, or calls the model.
        """
        present = previous.present(grads, params, extra_args)
        return present, self._last_update(previous, present, extra_args)

    def _last_update(
        self, previous: UpdateRecord, present: UpdateRecord, extra_args: Mapping[str, Any]
    ) -> Replay | FusedFromInputs | FusedFromState:
        others = {
            name: refuse(name) if callable(value) else value
            for name, value in extra_args.items()
            if name not in previous.extra_args
        }
        program = trace(self.factory, previous.inputs(present), others)
        _, used = dataflow.reads(program.jaxpr, program.args)
        for name, flags in used.items():
            if any(jax.tree.leaves(flags)):
                raise ValueError(
                    f"the factory's update reads the extra argument {name!r}, whose last value a "
                    f"replay needs; pass extra_args={{{name!r}: an example array}} to "
                    "hypergradient"
                )
        if previous.new_state is not None:
            return FusedFromState(previous, decomposition.from_state(program))
        replay = Replay(previous, program)
        if self.method == "general":
            return replay
        try:
            return FusedFromInputs(replay, decomposition.from_inputs(program))
        except NotElementwiseError:
            return replay


def make_spec(
    factory: Any,
    tune: Mapping[str, Any],
    signal: Any,
    extra_args: Mapping[str, Any] | None,
    method: str,
) -> Spec:
    """Checks the arguments of `hypergradient` and analyzes the update on a stand-in.

    A factory that is written for particular parameters fails on the stand-in; then `init`
    analyzes the update for the first time.

    Raises:
      TypeError: an argument is of the wrong type, or the factory does not return a
        transformation.
      ValueError: an argument is out of range; the factory rejects its keywords, branches on a
        tuned value or calls the model; or the method is "fused" and the update does not allow it.
    """
    factory = validation.factory("factory", factory)
    tune = validation.mapping("tune", tune, "names and starting values")
    factories.check_keywords(factory, tune)
    starts = {name: spaces.start_of(name, start) for name, start in tune.items()}
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    method = _method_for(signal, starts, method)
    _examples(extra_args, jnp.float32)
    _call_once(factory, starts)
    spec = Spec(factory, starts, signal, extra_args, method)
    try:
        program, others = spec._trace_on_shapes(_STAND_IN)
    except NotReplayableError:
        raise
    except Exception:  # `init` tries again with the real parameters
        return spec
    without_effect = _without_effect(spec, program, others)
    try:
        analysis = spec._analysis(program)
    except NotFusedError:
        raise
    except Exception:
        return dataclasses.replace(spec, without_effect=without_effect)
    return dataclasses.replace(
        spec,
        # "auto" stays open: parameters of another dtype may need the general method.
        method=method if analysis.method == "fused" else "general",
        without_effect=without_effect,
        _analyses={_key(_STAND_IN): analysis},
    )


def check_factory(
    factory: factories.Factory, starts: Mapping[str, Any], extra_args: Mapping[str, Any] | None
) -> None:
    """Raises if a factory cannot be called with some names, or does not use their values.

    Args:
      factory: makes the transformation.
      starts: initial coordinates, by name.
      extra_args: examples of the extra arguments that the update reads.

    Raises:
      TypeError, ValueError: as `hypergradient` does; or the update does not depend on a name.
    """
    factories.check_keywords(factory, starts)
    examples = _examples(extra_args, jnp.float32)
    _call_once(factory, starts)

    def init(hyperparams: Any, params: Any) -> Any:
        return factories.build(factory, hyperparams).init(params)

    def update(hyperparams: Any, state: Any, params: Any, examples: dict[str, Any]) -> Any:
        tx = factories.build(factory, hyperparams)
        return tx.update(params, state, params, **examples)

    hyperparams = jax.tree.map(abstract, _starting_hyperparams(starts, _STAND_IN))
    try:
        state = explain_errors(factory, lambda: jax.eval_shape(init, hyperparams, _STAND_IN))
        args = hyperparams, state, _STAND_IN, examples
        jaxpr = explain_errors(factory, lambda: jax.make_jaxpr(update)(*args))
    except NotReplayableError:
        raise
    except Exception:  # needs something that only a real update has
        return
    for name, used in dataflow.reads(jaxpr, args)[0].items():
        if not any(jax.tree.leaves(used)):
            raise ValueError(
                f"the factory's update must depend on {name}, got an update that ignores it, or "
                "keeps its initial value in the state as optax.inject_hyperparams does; pass it to "
                "the optimizer itself"
            )


def _key(shapes: Any) -> Any:
    leaves, structure = jax.tree.flatten(shapes)
    return structure, *leaves, jnp.result_type(float)  # float64 if x64 is enabled


def check_hyper_optimizer(
    hyper_optimizer: optax.GradientTransformation, starts: Mapping[str, Any]
) -> None:
    """Raises if the hyper-optimizer evaluates a loss of the hyperparameters.

    Raises:
      ValueError: it does; a tower has no loss of the hyperparameters alone to give it.
    """
    hyperparams = _starting_hyperparams(starts, _STAND_IN)
    examples = _examples(None, jnp.float32)
    try:
        trace_on_shapes(lambda: hyper_optimizer, {}, hyperparams, examples)
    except NotReplayableError:
        raise ValueError(
            "hyper_optimizer calls a loss function inside its update, as line searches do; "
            "there is none of the hyperparameters alone. Choose another optimizer"
        ) from None
    except Exception:  # needs something that only a real update has
        return


def _method_for(signal: Any, starts: Mapping[str, Any], method: str) -> str:
    """Returns the method that a signal allows, or raises."""
    if not isinstance(signal, (OneStep, EligibilityTrace)):
        raise TypeError(
            f"signal must be jd.one_step() or jd.eligibility_trace(decay), got {signal!r}"
        )
    if isinstance(signal, OneStep):
        return method
    if method == "fused":
        raise ValueError(
            "method must be 'auto' or 'general' with jd.eligibility_trace, got 'fused'"
        )
    for name, start in starts.items():
        number = start.space[0] if isinstance(start, spaces.PerLeaf) else start[0]
        if jnp.ndim(number):
            raise ValueError(
                f"tune[{name!r}] must be a number, or one per leaf, with jd.eligibility_trace, got "
                f"an array of shape {jnp.shape(number)}"
            )
    return "general"


def _call_once(factory: factories.Factory, starts: Mapping[str, Any]) -> None:
    """Raises if the factory cannot be called with the tuned names alone."""
    hyperparams = _starting_hyperparams(starts, _STAND_IN)
    values = {name: spaces.natural(coordinate) for name, coordinate in hyperparams.items()}
    one_leaf = {n: v["probe"] if isinstance(v, dict) else v for n, v in values.items()}
    try:
        result = factory(**one_leaf)
    except Exception as error:
        raise ValueError(
            f"factory {factories.label(factory)} cannot be called with "
            f"{', '.join(hyperparams)} alone: {error}"
        ) from error
    validation.transformation("the factory's result", result)


def _without_effect(spec: Spec, program: TracedUpdate, others: dict[str, Any]) -> tuple[str, ...]:
    """Returns the names by which the derivative of the updates is zero at all values."""

    def change(tangent: Any, inputs: UpdateRecord) -> Any:
        def updates(hyperparams: Any) -> Any:
            return run_update(spec.factory, hyperparams, inputs, others)[0]

        return jax.jvp(updates, (inputs.hyperparams,), (tangent,))[1]

    args = (program.args[0].hyperparams, program.args[0])
    try:
        jaxpr = explain_errors(spec.factory, lambda: jax.make_jaxpr(change)(*args))
    except NotReplayableError:
        raise
    except Exception:  # no forward mode
        return ()
    used, _ = dataflow.reads(jaxpr, args)
    return tuple(name for name, flags in used.items() if not any(jax.tree.leaves(flags)))


def _examples(extra_args: Mapping[str, Any] | None, dtype: Any) -> dict[str, Any]:
    """Returns shapes of the extra arguments that an update may read."""
    value = {"value": jax.ShapeDtypeStruct((), dtype)}
    if extra_args is None:
        return value
    if not isinstance(extra_args, Mapping) or extra_args:
        validation.mapping("extra_args", extra_args, "names and example arrays")
    for name in RESERVED & {*extra_args}:
        raise ValueError(
            f"extra_args must not name {name!r}, which the tower's own update takes; rename the "
            "keyword of the factory's update"
        )
    for name, example in extra_args.items():
        for leaf in jax.tree.leaves(example):
            if not (hasattr(leaf, "dtype") or isinstance(leaf, (int, float, complex))):
                kind = "the function " if callable(leaf) else ""
                raise TypeError(
                    f"extra_args must hold example arrays, got {kind}{leaf!r} for {name!r}"
                )
    declared = {n: jax.tree.map(abstract, x) for n, x in {**value, **extra_args}.items()}
    return {name: example for name, example in declared.items() if example is not None}


def _starting_hyperparams(starts: Mapping[str, Any], params: Any) -> dict[str, Any]:
    dtype = widest_float(params)

    def as_arrays(start: Any) -> Any:
        if not isinstance(start, spaces.PerLeaf):
            return type(start)(jnp.array(start[0], dtype))
        number = start.space[0]
        return spaces.PerLeaf(
            type(start.space)(jax.tree.map(lambda _: jnp.array(number, dtype), params))
        )

    return {name: spaces.clamp(as_arrays(start)) for name, start in starts.items()}
