"""The loop over rungs as a pair of pure functions, its state, its reports and its result.

    state       = loop.init(key, ...)
    state, info = loop.step(state, ...)         one rung: optimizer steps, then the rule

As in blackjax, the state is carried from rung to rung, and the info is only reported.
"""

import enum
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import sharding, validation
from jaxdescent.agents.population import Population


class PopulationLoopState(NamedTuple):
    """State that is carried from rung to rung; it can be saved in a checkpoint unchanged.

    Attributes:
      population: the agents.
      rule_state: the rule's state.
      key: random key; a rung folds in its own number.
      rung: i32[], number of rungs done.
      steps: i32[], number of steps of an agent that was never pruned.
      best_params: the best finite point of any agent so far, pruned agents included.
      best_model_state: the model state of that agent at that point; () without a model state.
      best_value: f[], the value there; before the first finite value inf, or -inf if a higher
        value is better.
      best_id: i32[], the id of that agent; -1 before the first finite value.
    """

    population: Population
    rule_state: Any
    key: jax.Array
    rung: jax.Array
    steps: jax.Array
    best_params: Any
    best_model_state: Any
    best_value: jax.Array
    best_id: jax.Array


class RungInfo(NamedTuple):
    """Report of one rung; a history is a `RungInfo` whose arrays have a leading axis of rungs.

    Attributes:
      steps: i32[], number of steps of an agent that was never pruned, at the end of the rung.
      values: f[agents], values at the end of the rung; NaN for agents that took no steps in it. An
        agent that had no finite loss in the rung keeps its value of the rung before.
      alive: bool[agents], True where the agent is alive after the rule.
      survivors: i32[], number of agents alive after the rule.
      descended: i32[], number of agents that took the rung's steps.
      not_finite: i32[], number of agents removed because their value or their parameters are not
        finite, or all their losses.
      best_value: f[], the best value so far.
      diversity: f[], root mean square distance per coordinate of the agents that took the
        rung's steps from their mean, in units of the problem's box (`Problem.scale`). A falling
        diversity means that they converge.
      rule_info: the rule's report.
      params: the parameters of all agents, in the coordinates of the problem, if they are
        recorded; else None.
      gradients_of_agents: i32[agents], number of gradients that each agent has computed so far.
      evaluations_of_agents: i32[agents], number of values that it has computed, with or without a
        gradient.
      aux: mapping from names to f[agents], means over the rung's steps in which the loss was
        finite; NaN for agents without such a step. {} for `minimize`.
      nonfinite_losses: i32[agents], number of steps of the rung in which the loss was not finite;
        None for `minimize`.
    """

    steps: jax.Array
    values: jax.Array
    alive: jax.Array
    survivors: jax.Array
    descended: jax.Array
    not_finite: jax.Array
    best_value: jax.Array
    diversity: jax.Array
    rule_info: Any
    params: Any
    gradients_of_agents: jax.Array
    evaluations_of_agents: jax.Array
    aux: Any
    nonfinite_losses: jax.Array | None = None

    @property
    def gradients(self) -> np.ndarray:
        """Number of gradients that all agents have computed so far; i64[rungs] in a history.

        Plot values against it. Gradients within a line search are not counted.
        """
        return _total(self.gradients_of_agents)

    @property
    def evaluations(self) -> np.ndarray:
        """Number of values that all agents have computed so far; i64[rungs] in a history.

        With an estimator that uses no gradients, plot values against it.
        """
        return _total(self.evaluations_of_agents)


class PopulationLoop(NamedTuple):
    """A loop over rungs as two pure functions, to be compiled with `jax.jit`.

    Attributes:
      init: Called as `init(key, init_params, ...)`; returns a `PopulationLoopState`.
      step: Called as `step(state, ...)`; runs one rung and returns
        `(PopulationLoopState, RungInfo)`.
    """

    init: Callable[..., PopulationLoopState]
    step: Callable[..., tuple[PopulationLoopState, RungInfo]]


class PopulationOutcome(enum.IntEnum):
    """Outcome of `minimize` and `fit`; `UNDEFINED` is a failure."""

    SURVIVORS = 0
    """Agents are alive at the end."""
    NO_SURVIVORS = 1
    """All agents were removed: by the rule, or because their values were not finite, which
    `history.not_finite` counts. The result is the best finite point before."""
    UNDEFINED = 2
    """No agent ever had a finite value."""


class PopulationResult(NamedTuple):
    """Result of `minimize` and `fit`.

    Attributes:
      params: the best finite point of any agent, pruned agents included: over all steps for
        `minimize`, over the ends of all rungs for `fit`.
      value: f[], the value there, with the user's sign. If every value was not finite it is inf, or
        -inf if a higher value is better, and `params` is then a start.
      id: i32[], the id of the agent that found it; -1 if every value was not finite.
      model_state: the model state of that agent at that point; () without a model state.
      history: a `RungInfo` whose arrays have a leading axis of rungs. In `fit`, `history.aux` has
        the mean training losses as "loss", and the means of the loss function's own reports.
      state: the last state; `step` of `minimize_loop` or `fit_loop` continues from it.
    """

    params: Any
    value: jax.Array
    id: jax.Array
    model_state: Any
    history: RungInfo
    state: PopulationLoopState

    @property
    def outcome(self) -> jax.Array:
        """i32[], a `PopulationOutcome`."""
        survivors = jnp.any(self.population.alive, axis=-1)
        removed = jnp.where(survivors, PopulationOutcome.SURVIVORS, PopulationOutcome.NO_SURVIVORS)
        return jnp.where(self.id < 0, PopulationOutcome.UNDEFINED, removed).astype(jnp.int32)

    @property
    def population(self) -> Population:
        """All agents at the end."""
        return self.state.population

    @property
    def gradients(self) -> int:
        """Number of gradients computed. Those within a line search are not counted."""
        return int(_total(self.population.gradients))

    @property
    def evaluations(self) -> int:
        """Number of values computed, with or without a gradient, validation values included.

        Those within a line search are not counted.
        """
        return int(_total(self.population.evaluations))


def population_result(state: PopulationLoopState, history: RungInfo) -> PopulationResult:
    """Returns the result of a loop that ended in `state`."""
    return PopulationResult(
        params=state.best_params,
        value=state.best_value,
        id=state.best_id,
        model_state=state.best_model_state,
        history=history,
        state=state,
    )


def warn_if_undefined(
    result: PopulationResult, value_fn: Callable[[Any], jax.Array] | None = None
) -> PopulationResult:
    """Returns the result, with a warning if no agent had a finite value; silent under `jit`.

    Args:
      result: the result of a run.
      value_fn: if given, the warning has its value at the first start.
    """
    if not validation.is_concrete(result.id) or result.id >= 0 or not result.evaluations:
        return result
    where = ""
    if value_fn is not None:
        value = float(value_fn(result.params))
        where = f"; at the first start it is {value}"
        if np.isinf(value):
            where += ", which may be an overflow that rescaling or float64 avoids"
    warnings.warn(
        f"the value must be finite for at least one agent{where}. The result is a start, and its "
        "outcome is PopulationOutcome.UNDEFINED; choose starts where the function is defined",
        RuntimeWarning,
        stacklevel=3,
    )
    return result


def _total(counts: jax.Array) -> np.ndarray:
    """Returns the sums of i32 counts over the last axis, of agents, without overflow."""
    return np.asarray(np.sum(np.asarray(sharding.whole(counts)), axis=-1, dtype=np.int64))
