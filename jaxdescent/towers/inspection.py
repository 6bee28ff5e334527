"""Reads and sets learned hyperparameters, reads inner states, and describes optimizers."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import containers, validation
from jaxdescent.towers import spaces
from jaxdescent.towers.factory import build, label
from jaxdescent.towers.replay.contraction import goes_forward
from jaxdescent.towers.replay.tracing import run_update
from jaxdescent.towers.self_tuning import SelfTuning
from jaxdescent.towers.signals import EligibilityTrace
from jaxdescent.towers.tower import HypergradientState, Tower, innermost
from jaxdescent.towers.tuning.plans import SelfTuningState

LearnedState = HypergradientState | SelfTuningState


def get_hyperparams(state: Any, /) -> list[dict[str, Any]]:
    """Returns the hyperparameters in use, in natural units, from the bottom of the tower up.

    Args:
      state: a tower's or self-tuning state, or any tree that holds one: the state of a chain or a
        population, the `opt_state` of an `nnx.Optimizer`, `nnx.state(optimizer)`, a `TrainState`,
        or a state that Orbax restored without a template.

    Returns:
      A dict for each level. Values have the shapes of their initial values, with the axes of a
      population in front; a name that is learned per leaf has a tree like the parameters.

    Raises:
      ValueError: `state` does not hold exactly one tower's state.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> state = optax.chain(optax.clip(1.0), tx).init(jnp.zeros(3))
      >>> jd.get_hyperparams(state)
      [{'learning_rate': Array(0.5, dtype=float32)}]
    """
    return [
        {name: spaces.natural(node) for name, node in level.hyperparams.items()}
        for level in _levels(state)
    ]


def _levels(state: Any) -> list[LearnedState]:
    """Returns the states of a tower's levels from the bottom up; self-tuning is one level."""
    found = [_the_learned_in(state)]
    while isinstance(tower := found[-1], HypergradientState):
        if not (above := _learned_in(tower.hyper_state)):
            break
        found.append(_only(above))
    return found


def _the_learned_in(state: Any) -> LearnedState:
    if not (found := _learned_in(state)):
        raise ValueError(f"state must hold a tower's state, got {type(state).__name__} without one")
    return _only(found)


def _learned_in(state: Any) -> list[LearnedState]:
    kinds: Any = HypergradientState, SelfTuningState
    found: list[LearnedState] = containers.find_states(
        state, *kinds, may_be_empty=("hyper_state", "traces", "inner_state")
    )
    return [
        node._replace(hyperparams={n: spaces.restored(x) for n, x in node.hyperparams.items()})
        for node in found
    ]


def _only(found: list[LearnedState]) -> LearnedState:
    if len(found) > 1:
        raise ValueError(
            f"state must hold one tower's state, got {len(found)} side by side; pass the part "
            "that belongs to one of them"
        )
    return found[0]


def set_hyperparams(state: Any, /, *levels: Mapping[str, Any]) -> Any:
    """Returns a state with other hyperparameters, which the next update uses.

    Args:
      state: a tower's state, or any tree that holds one, as for `get_hyperparams`.
      *levels: new values in natural units, a mapping for each level from the bottom up; omitted
        names do not change. Values broadcast to the present shape.

    Returns:
      A state like `state`; nothing is recompiled. The record of the last update keeps the
      hyperparameters that the update used. A learning rate that is set ends the range test of
      `jd.self_tuning`.

    Raises:
      ValueError: a name is unknown, a value is out of range, there are more levels than the
        tower has, or `state` does not hold exactly one tower's state. Values traced under `jit`
        are not checked: they are clamped into the space, and NaN changes nothing.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> state = jd.set_hyperparams(tx.init(jnp.zeros(3)), {"learning_rate": 1.0})
      >>> jd.get_hyperparams(state)
      [{'learning_rate': Array(1., dtype=float32)}]
    """
    for level in levels:
        if not isinstance(level, Mapping):
            raise TypeError(
                f"levels must be mappings of names and values, got {level!r}; "
                "unpack a list of them with a star"
            )
    leaves, structure = jax.tree.flatten(state)
    # The levels of a state whose leaves are their own positions say which leaves to change.
    found = _levels(structure.unflatten(range(len(leaves))))
    if len(levels) > len(found):
        raise ValueError(
            f"levels must be at most {len(found)}, the tower's height, got {len(levels)}"
        )
    for level, new in zip(found, levels, strict=False):
        if unknown := set(new) - set(level.hyperparams):
            raise ValueError(
                f"levels must name tuned hyperparameters, got {sorted(unknown)[0]!r}; "
                f"tuned are {', '.join(level.hyperparams)}"
            )
        for name, value in new.items():
            for kind, position, number in _numbers_at(name, level.hyperparams[name], value):
                leaves[position] = _moved_to(name, kind, leaves[position], number)
            if isinstance(level, SelfTuningState):
                position: Any = level.range_test.running
                leaves[position] = jnp.zeros_like(leaves[position])
    return structure.unflatten(leaves)


def _numbers_at(name: str, positions: Any, value: Any) -> list[tuple[Any, int, Any]]:
    """Returns the space, the position in the state and the new value of each coordinate."""
    if not isinstance(positions, spaces.PerLeaf):
        return [(type(positions), positions[0], value)]
    kind, tree = type(positions.space), containers.leaves_by_path(positions.space[0])
    values = containers.leaves_by_path(value)
    if values.keys() == tree.keys():
        return [(kind, position, values[path]) for path, position in tree.items()]
    if isinstance(value, Mapping):
        raise TypeError(f"{name} must be a number or a tree like the parameters, got {value!r}")
    return [(kind, position, value) for position in tree.values()]


def _moved_to(name: str, kind: Any, present: Any, value: Any) -> Any:
    """Returns the coordinate of a natural value, with the dtype and shape of the present one."""
    number = jnp.asarray(kind.at(name, value)[0], present.dtype)
    if np.broadcast_shapes(number.shape, present.shape) != present.shape:
        raise ValueError(f"{name} must broadcast to shape {present.shape}, got {number.shape}")
    (clamped,) = kind(jnp.broadcast_to(number, present.shape)).clamp()
    return jnp.where(jnp.isnan(clamped), present, clamped)


def inner_state(tx: optax.GradientTransformation, state: Any, /) -> Any:
    """Returns the current state of the plain optimizer inside a tower or a self-tuning optimizer.

    With the general method, or if it tunes a beta, a tower's state holds the inner state before the
    last update, and the next update recomputes the state after it. This function recomputes it now.

    Args:
      tx: the tower that `jd.hypergradient` returned, or a self-tuning optimizer; see
        `freeze_hyperparams`.
      state: its state, or a tree that holds it, as for `get_hyperparams`.

    Returns:
      A state in the containers of the parameters, whose arrays are not in `nnx.Variable`s.

    Raises:
      TypeError: `tx` does not hold a tower.
      ValueError: `state` does not hold exactly one tower's state, holds a population's, or was
        restored without a template.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> _, state = tx.update(jnp.ones(3), tx.init(jnp.zeros(3)))
      >>> int(jd.inner_state(tx, state)[0].count)
      1
    """
    learner, learned = _learner_of(tx), _the_learned_in(state)
    kinds: Any = HypergradientState, SelfTuningState
    if not containers.find_states(state, *kinds):
        raise ValueError(
            "state must have the types of an optimizer's state, got mappings in their place; "
            "restore it with a template, such as tx.init(params), or pass optimizer.opt_state in "
            "place of nnx.state(optimizer)"
        )
    agents = jnp.shape(learned.skipped)
    if agents:
        raise ValueError(
            f"state must be of one agent, got a population of shape {agents}; use jax.vmap"
        )
    if isinstance(learned, SelfTuningState):
        return learned.inner_state
    if isinstance(learner, SelfTuning):
        raise ValueError("state must be of jd.self_tuning, as tx is, got a tower's state")
    inputs = learned.previous
    if inputs.new_state is not None:
        return inputs.new_state
    if inputs.params is None:  # not read, but some optimizers require them
        inputs = inputs._replace(params=inputs.grads)
    _, replayed = run_update(learner.spec.factory, inputs.hyperparams, inputs, {})
    return optax.tree.where(learned.has_previous, replayed, inputs.state)


def freeze_hyperparams(
    tx: optax.GradientTransformation, state: Any, /
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    """Returns the plain optimizer at the learned hyperparameters, and its state.

    Args:
      tx: the tower that `jd.hypergradient` returned, or `jd.self_tuning`, `jd.with_average` or
        `jd.restart_on_divergence` around it.
      state: its state, or a tree that holds it, as for `get_hyperparams`.

    Returns:
      A plain transformation with fixed hyperparameters, which neither averages nor restarts, and
      its state, so that training can continue from where the tower stopped. Gradients and
      parameters may be in `nnx.Param`s or other containers; updates are returned in the same.

    Raises:
      TypeError: `tx` does not hold a tower.
      ValueError: `state` does not hold exactly one tower's state, holds a population's, or was
        restored without a template.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> frozen, state = jd.freeze_hyperparams(tx, tx.init(jnp.zeros(3)))
      >>> frozen.update(jnp.ones(3), state)[0]
      Array([-0.5, -0.5, -0.5], dtype=float32)
    """
    learner = _learner_of(tx)
    factory = learner.factory if isinstance(learner, SelfTuning) else learner.spec.factory
    plain = build(factory, _the_learned_in(state).hyperparams)

    def init(params: Any) -> Any:
        return plain.init(containers.unboxed(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        params = containers.params_like(params, updates)
        arguments = containers.unboxed((updates, state, params))
        new_updates, new_state = plain.update(*arguments, **containers.unboxed(extra))
        boxed = containers.boxed_like(new_updates, updates)
        return boxed, containers.boxed_like(new_state, state)

    return optax.GradientTransformationExtraArgs(init, update), inner_state(tx, state)


def _learner_of(tx: Any) -> Tower | SelfTuning:
    """Returns the tower or the self-tuning optimizer that a transformation is or wraps."""
    found = innermost(tx)
    if not isinstance(found, (Tower, SelfTuning)):
        raise TypeError(
            "tx must be a transformation that jd.hypergradient or jd.self_tuning returned, got "
            f"{type(tx).__name__}; if it is part of a chain, pass the tower itself, with the "
            "chain's state"
        )
    return found


def describe(tx: optax.GradientTransformation, /, params: Any = None) -> str:
    """Describes the levels of a tower, from the bottom up.

    Args:
      tx: the tower that `jd.hypergradient` returned, or `jd.self_tuning`, `jd.with_average` or
        `jd.restart_on_divergence` around it.
      params: the parameters, arrays or shapes; needed only if the factory is written for
        particular parameters.

    Returns:
      A line for each level: the factory, the tuned names with their initial values and spaces, the
      signal, the method and mode of differentiation, and the inputs of the last update that the
      state holds in addition to the inner state. For `jd.self_tuning`, what its update can use.

    Raises:
      TypeError: `tx` does not hold a tower.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5, "b1": 0.9})
      >>> print(jd.describe(tx))
      1: adam, learning_rate=0.5 (positive), b1=0.9 (unit_interval); one_step; fused;
         carries grads
      2: an optimizer with fixed hyperparameters, which trains level 1
    """
    validation.check_arrays("params", params)
    lines = []
    level: Any = _learner_of(tx)
    if isinstance(level, SelfTuning):
        name, start = label(level.factory), float(level.start.natural())
        return (
            f"1: {name}, learning_rate from a range test that begins at {start:.3g};\n"
            "   carries the average; update(..., value=loss) lets it restart if the loss diverges"
        )
    while isinstance(level, Tower):
        spec = level.spec
        record, mode, method = spec.analyze(params)
        forward = goes_forward(mode, record.hyperparams, params)
        kept = [name for name in ("grads", "params") if getattr(record, name) is not None]
        traces = ["traces"] if isinstance(spec.signal, EligibilityTrace) else []
        held = [*kept, *record.extra_args, *traces]
        starts = ", ".join(f"{name}={_show(start)}" for name, start in spec.starts.items())
        lines.append(
            f"{len(lines) + 1}: {label(spec.factory)}, {starts}; "
            f"{_show_signal(spec.signal)}; {_show_method(spec.signal, method, forward)};\n"
            f"   carries {', '.join(held) or 'nothing'}"
        )
        level, params = level.hyper_optimizer, record.hyperparams
    top = f"{len(lines) + 1}: an optimizer with fixed hyperparameters, which trains level"
    return "\n".join([*lines, f"{top} {len(lines)}"])


def _show_method(signal: Any, method: str, forward: bool) -> str:
    """Returns the method, and for the general method its mode; traces use forward mode."""
    if method == "fused":
        return method
    forward = forward or isinstance(signal, EligibilityTrace)
    return f"{method}, {'forward' if forward else 'reverse'} mode"


def _show_signal(signal: Any) -> str:
    name = _snake_case(type(signal).__name__)
    return f"{name}({signal.decay:g})" if isinstance(signal, EligibilityTrace) else name


def _show(start: Any) -> str:
    if isinstance(start, spaces.PerLeaf):
        return f"{_show(start.space)} per leaf"
    value = np.asarray(start.natural())
    shown = f"{value:.6g}" if value.ndim == 0 else f"array{list(value.shape)}"
    return f"{shown} ({_snake_case(type(start).__name__)})"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
