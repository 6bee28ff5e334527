"""Reads and sets the hyperparameters of a tower, reads its inner state, and describes it."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent.numerics import find_states
from jaxdescent.towers import spaces
from jaxdescent.towers.factory import label
from jaxdescent.towers.replay.contraction import goes_forward
from jaxdescent.towers.replay.tracing import run_update
from jaxdescent.towers.signals import EligibilityTrace
from jaxdescent.towers.tower import HypergradientState, Tower


def get_hyperparams(state: Any, /) -> list[dict[str, Any]]:
    """Returns the hyperparameters in use, in natural units, from the bottom of the tower up.

    Args:
      state: a tower's state, or any tree that holds one (the state of a chain or a population,
        the `opt_state` of an `nnx.Optimizer`).

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


def _levels(state: Any) -> list[HypergradientState]:
    """Returns the states of a tower's levels from the bottom up."""
    found = [_the_tower_in(state)]
    while above := find_states(found[-1].hyper_state, HypergradientState):
        found.append(_only(above))
    return found


def _is_state(node: Any) -> bool:
    return isinstance(node, HypergradientState)


def _the_tower_in(state: Any) -> HypergradientState:
    if not (found := find_states(state, HypergradientState)):
        raise ValueError(f"state must hold a tower's state, got {type(state).__name__} without one")
    return _only(found)


def _only(found: list[HypergradientState]) -> HypergradientState:
    if len(found) > 1:
        raise ValueError(
            f"state must hold one tower's state, got {len(found)} side by side; pass the part "
            "that belongs to one of them"
        )
    return found[0]


def set_hyperparams(state: Any, /, *levels: Mapping[str, Any]) -> Any:
    """Returns a state with other hyperparameters, which the next update uses.

    Args:
      state: a tower's state, or any tree that holds one.
      *levels: new values in natural units, a mapping for each level from the bottom up; omitted
        names do not change. Values broadcast to the present shape.

    Returns:
      A state like `state`; nothing is recompiled. The record of the last update keeps the
      hyperparameters that the update used.

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
    height = len(_levels(state))
    if len(levels) > height:
        raise ValueError(f"levels must be at most {height}, the tower's height, got {len(levels)}")
    return _set_levels(state, levels)


def _set_levels(state: Any, levels: tuple[Mapping[str, Any], ...]) -> Any:
    if not levels:
        return state

    def replace(node: Any) -> Any:
        if not _is_state(node):
            return node
        if unknown := set(levels[0]) - set(node.hyperparams):
            raise ValueError(
                f"levels must name tuned hyperparameters, got {sorted(unknown)[0]!r}; "
                f"tuned are {', '.join(node.hyperparams)}"
            )
        changed = {
            name: _moved_to(name, node.hyperparams[name], value)
            for name, value in levels[0].items()
        }
        return node._replace(
            hyperparams={**node.hyperparams, **changed},
            hyper_state=_set_levels(node.hyper_state, levels[1:]),
        )

    return jax.tree.map(replace, state, is_leaf=_is_state)


def _moved_to(name: str, present: Any, value: Any) -> Any:
    if not isinstance(present, spaces.PerLeaf):
        return type(present)(_number_at(name, type(present), present[0], value))
    kind, numbers = type(present.space), present.space[0]
    leaves, structure = jax.tree.flatten(numbers)
    same_tree = jax.tree.structure(value) == structure
    if isinstance(value, Mapping) and not same_tree:
        raise TypeError(f"{name} must be a number or a tree like the parameters, got {value!r}")
    values = jax.tree.leaves(value) if same_tree else [value] * len(leaves)
    pairs = zip(leaves, values, strict=True)
    moved = [_number_at(name, kind, old, new) for old, new in pairs]
    return spaces.PerLeaf(kind(structure.unflatten(moved)))


def _number_at(name: str, kind: Any, present: Any, value: Any) -> Any:
    """Returns the coordinate of a natural value, with the dtype and shape of the present one."""
    (leaf,), structure = jax.tree.flatten(present)  # flax wraps the array in a Variable
    number = jnp.asarray(kind.at(name, value)[0], leaf.dtype)
    if np.broadcast_shapes(number.shape, leaf.shape) != leaf.shape:
        raise ValueError(f"{name} must broadcast to shape {leaf.shape}, got {number.shape}")
    (clamped,) = kind(jnp.broadcast_to(number, leaf.shape)).clamp()
    return structure.unflatten([jnp.where(jnp.isnan(clamped), leaf, clamped)])


def inner_state(tx: Tower, state: Any, /) -> Any:
    """Returns the current state of the plain optimizer at the bottom of a tower.

    With the general method, or if it tunes a beta, a tower's state holds the inner state before the
    last update, and the next update recomputes the state after it. This function recomputes it now.

    Args:
      tx: the tower that `jd.hypergradient` returned.
      state: the tower's state, or a tree that holds it.

    Raises:
      TypeError: `tx` is not a tower.
      ValueError: `state` does not hold exactly one tower's state, or holds a population's.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> _, state = tx.update(jnp.ones(3), tx.init(jnp.zeros(3)))
      >>> int(jd.inner_state(tx, state)[0].count)
      1
    """
    _check_tower(tx)
    tower = _the_tower_in(state)
    if jnp.ndim(tower.has_previous):
        raise ValueError(
            "state must be of one agent, got a population of shape "
            f"{jnp.shape(tower.has_previous)}; use jax.vmap"
        )
    inputs = tower.previous
    if inputs.new_state is not None:
        return inputs.new_state
    if inputs.params is None:  # not read, but some optimizers require them
        inputs = inputs._replace(params=inputs.grads)
    _, replayed = run_update(tx.spec.factory, inputs.hyperparams, inputs, {})
    return optax.tree.where(tower.has_previous, replayed, inputs.state)


def freeze_hyperparams(
    tx: Tower, state: Any, /
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    """Returns the plain optimizer at the learned hyperparameters, and its state.

    Args:
      tx: the tower that `jd.hypergradient` returned.
      state: the tower's state, or a tree that holds it.

    Returns:
      A plain transformation with fixed hyperparameters, and its state, so that training can
      continue from where the tower stopped.

    Raises:
      TypeError: `tx` is not a tower.
      ValueError: `state` does not hold exactly one tower's state, or holds a population's.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.5})
      >>> frozen, state = jd.freeze_hyperparams(tx, tx.init(jnp.zeros(3)))
      >>> frozen.update(jnp.ones(3), state)[0]
      Array([-0.5, -0.5, -0.5], dtype=float32)
    """
    _check_tower(tx)
    learned = _the_tower_in(state).hyperparams
    return tx.spec.build(learned), inner_state(tx, state)


def _check_tower(tx: Any) -> None:
    if not isinstance(tx, Tower):
        raise TypeError(
            "tx must be a transformation that jd.hypergradient returned, got "
            f"{type(tx).__name__}; if it is part of a chain, pass the tower itself"
        )


def describe(tx: Tower, /, params: Any = None) -> str:
    """Describes the levels of a tower, from the bottom up.

    Args:
      tx: the tower that `jd.hypergradient` returned.
      params: the parameters, arrays or shapes; needed only if the factory is written for
        particular parameters.

    Returns:
      A line for each level: the factory, the tuned names with their initial values and spaces, the
      signal, the method and mode of differentiation, and the inputs of the last update that the
      state holds in addition to the inner state.

    Raises:
      TypeError: `tx` is not a tower.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5, "b1": 0.9})
      >>> print(jd.describe(tx))
      1: adam, learning_rate=0.5 (positive), b1=0.9 (unit_interval); one_step; fused;
         carries grads
      2: a transformation that is not a tower
    """
    _check_tower(tx)
    lines = []
    level: Any = tx
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
    return "\n".join([*lines, f"{len(lines) + 1}: a transformation that is not a tower"])


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
