"""Reactions of an optimizer to drift.

    tx = jd.streaming.react_to_drift(optax.adam(1e-3), jd.streaming.reset_statistics())
    updates, state = tx.update(grads, state, params, drift=detection.drift)

After an alarm, what the optimizer knows is of the past: the moments of the gradients, a learning
rate that has decayed, an average of old parameters, and the parameters themselves. A reaction
replaces one of these. Several reactions act in their order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import is_inexact, wide_copy
from jaxdescent.streaming.detectors.detector import increment
from jaxdescent.towers import AverageState, RestartState


class Reaction(NamedTuple):
    """A change of an optimizer at an alarm.

    Attributes:
      init: Called as `init(params)`; returns the reaction's state, which is empty by default.
      replace: Called as `replace(optimizer_state, first_state)` with the optimizer's state, and
        its state before a first step at the present parameters; returns its state after an alarm.
        It is computed at each update, and used only at an alarm. None if the state stays.
      change: Called as `change(updates, state, params, drift)`; returns the updates and the
        reaction's state after each update. None if updates stay.

    Example:
      A reaction of your own, without an update at an alarm:

      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def change(updates, state, params, drift):
      ...     return jax.tree.map(lambda u: jnp.where(drift, 0, u), updates), state
      >>> tx = jd.streaming.react_to_drift(optax.sgd(1.0), jd.streaming.Reaction(change=change))
      >>> x = jnp.ones(2)
      >>> tx.update(x, tx.init(x), x, drift=True)[0].tolist()
      [0.0, 0.0]
    """

    init: Callable[[Any], Any] = optax.init_empty_state
    replace: Callable[[Any, Any], Any] | None = None
    change: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any]] | None = None


class ReactionState(NamedTuple):
    """State of `react_to_drift`.

    Attributes:
      inner_state: the optimizer's state.
      reactions: the states of the reactions.
      drifts: i32[], number of alarms.
    """

    inner_state: Any
    reactions: tuple[Any, ...]
    drifts: jax.Array


def react_to_drift(
    tx: optax.GradientTransformation, /, *reactions: Reaction
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer that reacts to drift.

    Args:
      tx: a transformation.
      *reactions: one or more of them, such as `jd.streaming.reset_statistics()`.

    Returns:
      A transformation. Its `update(grads, state, params, *, drift=None, **extra)` needs the
      parameters; `drift` is one bool, and None counts as False. At a step with drift the gradient
      is already of new data.

    Raises:
      TypeError: `tx` is not a transformation, or a reaction is not a `Reaction`.
      ValueError: there are no reactions.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.react_to_drift(optax.adam(0.1), jd.streaming.reset_statistics())
      >>> x = jnp.ones(2)
      >>> state = tx.init(x)
      >>> for drift in (False, False, True):
      ...     updates, state = tx.update(x, state, x, drift=drift)
      >>> int(state.inner_state[0].count), int(state.drifts)
      (1, 1)
    """
    inner = validation.transformation("tx", tx)
    if not reactions:
        raise ValueError("reactions must hold at least one Reaction, got none")
    for reaction in reactions:
        if not isinstance(reaction, Reaction):
            hint = "; call it first, as in jd.streaming.forget(0.5)" if callable(reaction) else ""
            raise TypeError(
                f"reactions must be jd.streaming.Reactions, got {validation.shown(reaction)}{hint}"
            )

    def init(params: Any) -> ReactionState:
        validation.check_arrays("params", params)
        states = tuple(reaction.init(params) for reaction in reactions)
        return ReactionState(inner.init(params), states, jnp.zeros((), jnp.int32))

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, drift: Any = None, **extra: Any
    ) -> tuple[Any, ReactionState]:
        if params is None:
            raise ValueError("update(grads, state, params, drift=drift) needs params")
        drift = validation.scalar_boolean("drift", drift)
        params = containers.params_like(params, updates)
        inner_state = state.inner_state
        for reaction in reactions:
            if reaction.replace is not None:
                replaced = reaction.replace(inner_state, inner.init(params))
                inner_state = _chosen(drift, replaced, inner_state)
        updates, inner_state = inner.update(updates, inner_state, params, **extra)
        states = []
        for reaction, each in zip(reactions, state.reactions, strict=True):
            if reaction.change is not None:
                updates, each = reaction.change(updates, each, params, drift)
            states.append(each)
        return updates, ReactionState(inner_state, tuple(states), increment(state.drifts, drift))

    return optax.GradientTransformationExtraArgs(init, update)


def reset_statistics() -> Reaction:
    """Returns the reaction that initializes the optimizer again.

    Moments, schedules and learned hyperparameters begin again; random keys do, too.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.streaming.react_to_drift(optax.adam(1e-3), jd.streaming.reset_statistics())
    """

    def replace(state: Any, first_state: Any) -> Any:
        del state
        return first_state

    return Reaction(replace=replace)


def raise_learning_rate(factor: float, *, half_life: float) -> Reaction:
    """Returns the reaction that raises the learning rate for a while.

    At an alarm the updates are multiplied by `factor`. The excess over 1 is halved every
    `half_life` updates. Another alarm begins again at `factor`.

    Args:
      factor: in [1, inf).
      half_life: number of updates, in (0, inf).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> reaction = jd.streaming.raise_learning_rate(9.0, half_life=1)
      >>> tx, x = jd.streaming.react_to_drift(optax.sgd(1.0), reaction), jnp.array(-1.0)
      >>> state = tx.init(x)
      >>> for drift in (False, True, False, False):
      ...     updates, state = tx.update(x, state, x, drift=drift)
      ...     print(updates)
      1.0
      9.0
      5.0
      3.0
    """
    if not isinstance(factor, jax.core.Tracer):
        array = validation.finite_array("factor", factor)
        if array.ndim or array < 1:
            raise ValueError(f"factor must be a number in [1, inf), got {validation.shown(factor)}")
    half_life = validation.positive_number("half_life", half_life)

    def change(
        updates: Any, excess: jax.Array, params: Any, drift: jax.Array
    ) -> tuple[Any, jax.Array]:
        del params
        excess = jnp.where(drift, factor - 1, excess * 0.5 ** (1 / half_life)).astype(excess.dtype)
        raised = jax.tree.map(lambda u: (u * (1 + excess)).astype(u.dtype), updates)
        return raised, excess

    def init(params: Any) -> jax.Array:
        del params
        return jnp.zeros(())

    return Reaction(init=init, change=change)


def restart_average() -> Reaction:
    """Returns the reaction that begins the average of the parameters again.

    The average of `jd.with_average` and of `jd.restart_on_divergence` is replaced by the present
    parameters. `jd.self_tuning` notices jumps itself, and `reset_statistics` begins it again.

    Raises:
      ValueError: at `update`, if the optimizer has no such average.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.with_average(optax.sgd(1.0), power=0.0)
      >>> tx, x = jd.streaming.react_to_drift(tx, jd.streaming.restart_average()), jnp.array(0.0)
      >>> state = tx.init(x)
      >>> for drift in (False, False, True):
      ...     updates, state = tx.update(jnp.array(-1.0), state, x, drift=drift)
      ...     print(jd.averaged_params(state, x), "at", x)
      ...     x = optax.apply_updates(x, updates)
      0.0 at 0.0
      0.5 at 1.0
      2.0 at 2.0
    """

    def is_average(node: Any) -> bool:
        return isinstance(node, (AverageState, RestartState))

    def replace(state: Any, first_state: Any) -> Any:
        found = []

        def restarted(node: Any, first: Any) -> Any:
            if not is_average(node):
                return node
            found.append(node)
            node = node._replace(average=first.average, count=jnp.zeros_like(node.count))
            if isinstance(node, RestartState):
                # The losses of the past belong to another task.
                node = node._replace(losses=first.losses, promised=first.promised)
            return node

        state = jax.tree.map(restarted, state, first_state, is_leaf=is_average)
        if not found:
            raise ValueError(
                "the optimizer must have an average; wrap it in jd.with_average(tx) or "
                "jd.restart_on_divergence(tx), inside of react_to_drift. For jd.self_tuning(tx), "
                "reset_statistics() begins the average again"
            )
        return state

    return Reaction(replace=replace)


def forget(fraction: float) -> Reaction:
    """Returns the reaction that moves the parameters back to the first ones.

    At an alarm, -fraction * (params - first_params) is added to the updates. The state holds the
    first parameters.

    Args:
      fraction: of the way, in (0, 1].

    Raises:
      ValueError: `fraction` is out of range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.react_to_drift(optax.sgd(1.0), jd.streaming.forget(0.5))
      >>> state = tx.init(jnp.array(0.0))
      >>> updates, state = tx.update(jnp.array(0.0), state, jnp.array(8.0), drift=True)
      >>> float(updates)
      -4.0
    """
    if not isinstance(fraction, jax.core.Tracer):
        validation.positive_up_to("fraction", fraction, 1.0)

    def change(updates: Any, first: Any, params: Any, drift: jax.Array) -> tuple[Any, Any]:
        weight = jnp.where(drift, fraction, 0)

        def moved(u: jax.Array, x: jax.Array, start: jax.Array) -> jax.Array:
            back = weight * (jnp.asarray(x, start.dtype) - start)
            return (u - back).astype(u.dtype)

        return jax.tree.map(moved, updates, params, first), first

    return Reaction(init=lambda params: jax.tree.map(wide_copy, params), change=change)


def _chosen(drift: jax.Array, new: Any, old: Any) -> Any:
    """Returns one of two states, in the dtypes of the old one."""

    def cast(x: Any, like: Any) -> Any:
        # Random keys have a dtype of their own.
        return jnp.asarray(x, like.dtype) if is_inexact(like) else x

    return optax.tree.where(drift, jax.tree.map(cast, new, old), old)
