"""Rungs of a run: their lengths are given by a number of steps or by a budget of gradients.

    steps:             lengths that differ by at most one
    gradient_budget:   length = budget left / rungs left / alive agents, rounded down

With a budget, the gradients that pruning saves become additional steps of the survivors (as in the
budget of successive halving: Z. Karnin et al. 2013). Where an estimator takes the place of the
gradient, the budget is divided by the number of evaluations that an estimate costs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.agents.arguments import checked_num_rungs, rung_lengths
from jaxdescent.agents.loops.population_loop import PopulationLoopState, RungInfo


class RungPlan(NamedTuple):
    """Lengths of rungs, or a budget to compute them from.

    Attributes:
      lengths: i32[rungs], or None with a budget.
      budget: i32[], gradients, or estimates of them, that all agents may compute together.
      rungs_left: i32[rungs], number of rungs from each rung to the end.
      evaluates_first: bool[], whether an agent that is not evaluated computes a gradient first.
    """

    lengths: Any
    budget: Any
    rungs_left: Any
    evaluates_first: Any


def rung_plan(
    steps: int | None,
    *,
    steps_per_rung: int | None,
    gradient_budget: int | None,
    num_rungs: int | None,
    num_agents: int,
    evaluates_first: bool,
    cost: int,
) -> RungPlan:
    """Returns the plan that the arguments of `minimize` and `fit` describe.

    Args:
      steps: see `minimize`.
      steps_per_rung: see `minimize`.
      gradient_budget: see `minimize`.
      num_rungs: see `minimize`.
      num_agents: number of agents.
      evaluates_first: whether an agent computes a gradient before its first step, at its start and
        where a rule has moved it.
      cost: the part of `gradient_budget` that one gradient takes: 1, or the number of evaluations
        of an estimator.

    Raises:
      ValueError: an argument is out of its range, or the arguments exclude each other.
    """
    if (steps is None) == (gradient_budget is None):
        found = "neither" if steps is None else "both"
        raise ValueError(f"either steps or gradient_budget must be given, got {found}")
    if steps is not None:
        lengths = rung_lengths(steps, steps_per_rung=steps_per_rung, num_rungs=num_rungs)
        budget, count = 0, len(lengths)
    elif steps_per_rung is not None:
        raise ValueError(
            "steps_per_rung must be None with gradient_budget, whose rungs are as long as it "
            f"lasts, got {steps_per_rung!r}; give num_rungs"
        )
    else:
        lengths, count = None, checked_num_rungs(num_rungs)
        # Enough for a step of each agent, or for its start.
        least = num_agents * cost
        budget = validation.integer_in("gradient_budget", gradient_budget, least, 2**31 - 1) // cost
    # NumPy arrays, since JAX would compile a program for each.
    return RungPlan(
        lengths,
        np.int32(budget),
        np.arange(count, 0, -1, dtype=np.int32),
        np.bool_(evaluates_first),
    )


def scan_rungs(
    step: Callable[[PopulationLoopState, jax.Array], tuple[PopulationLoopState, RungInfo]],
    state: PopulationLoopState,
    plan: RungPlan,
) -> tuple[PopulationLoopState, RungInfo]:
    """Runs all rungs of a plan; returns the last state and the history."""

    def step_of_share(
        carry: tuple[PopulationLoopState, jax.Array], rungs_left: jax.Array
    ) -> tuple[tuple[PopulationLoopState, jax.Array], RungInfo]:
        state, budget = carry
        agents = state.population
        alive = jnp.sum(agents.alive, dtype=jnp.int32)
        unevaluated = agents.alive & ~agents.evaluated & plan.evaluates_first
        budget = jnp.maximum(budget - jnp.sum(unevaluated, dtype=jnp.int32), 0)
        length = jnp.where(alive > 0, budget // rungs_left // jnp.maximum(alive, 1), 0)
        state, info = step(state, length)
        return (state, budget - length * alive), info

    if plan.lengths is not None:
        return jax.lax.scan(step, state, plan.lengths)
    (state, _), history = jax.lax.scan(step_of_share, (state, plan.budget), plan.rungs_left)
    return state, history
