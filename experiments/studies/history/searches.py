"""Paths of the two searches that are not a transformation: MAGD and `jd.hybrid`.

MAGD (multi-agent gradient descent) is the population of the study `functions` with its one setting:
agents of Adam that jump away from their best points from time to time, each with its own scale and
period, as many for each gradient of the budget. The first agent begins at the start of the
landscape, the others at random points of its box. There are six rungs with equal numbers of
gradients, and each is recorded in ten parts. After each rung successive halving keeps a quarter of
the agents. Each gradient of each agent counts as one evaluation.

`jd.hybrid` begins at a random point of the box; it takes neither a start nor a learning rate. Its
path consists of the first points below targets that decrease: the results of runs that stop there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.studies.functions.methods import HALVING, RUNGS, agent, agent_hyperparams
from experiments.studies.history.descent import Path, first_below
from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.settings import SOLVED

PARTS = 10
"""Number of parts of a rung that are recorded."""
SHOWN_AGENTS = 64
"""Number of agents that a path has, those that are pruned last."""

TARGETS = np.geomspace(1e4, SOLVED, 49)
"""Values above the minimum at which runs of the hybrid stop."""


def _prune_if_due(key: jax.Array, population: Any, problem: Any, is_due: jax.Array) -> Any:
    """Prunes the population at the end of a rung, which the rule's state marks."""
    after, _, info = HALVING.update(key, population, problem, None)
    alive = jnp.where(is_due, after.alive, population.alive)
    return population._replace(alive=alive), is_due, info


RULE = jd.Rule(lambda _key, _population, _problem: jnp.zeros((), bool), _prune_if_due)


@jax.jit
def _begin(problem: jd.Problem, key: jax.Array, starts: jax.Array, hyperparams: Any) -> Any:
    loop = jd.minimize_loop(problem, agent, num_agents=len(starts), rule=RULE)
    return loop.init(key, starts, hyperparams)


@jax.jit
def _advance(problem: jd.Problem, state: Any, steps: jax.Array, is_due: jax.Array) -> Any:
    agents = len(state.population.ids)
    loop = jd.minimize_loop(problem, agent, num_agents=agents, rule=RULE, record_params=True)
    return loop.step(state._replace(rule_state=is_due), steps)


def population_path(landscape: Landscape, key: jax.Array, agents: int, budget: int) -> Path:
    """Returns the path of MAGD: its best points at the ends of parts, and all its agents.

    Args:
      landscape: the function and the start of the first agent.
      key: random key of the other starts and of the jumps.
      agents: the number of agents.
      budget: the number of evaluations.
    """
    problem = landscape.problem
    drawn = jax.vmap(problem.sample)(jax.random.split(jax.random.fold_in(key, 1), agents))
    starts = drawn.at[0].set(landscape.start)
    state = _begin(problem, key, starts, agent_hyperparams(agents, key))
    parts = RUNGS * PARTS
    points, excess, evaluations, positions = [], [], [], []
    spent, alive = 0, agents
    for part in range(parts):
        # An agent evaluates its start before its first step.
        steps = max((budget - spent) // (parts - part) // alive - (part == 0), 0)
        is_due = (part + 1) % PARTS == 0
        state, info = _advance(problem, state, jnp.int32(steps), jnp.asarray(is_due))
        spent, alive = int(info.evaluations), int(info.survivors)
        points.append(landscape.to_plane(state.best_params))
        excess.append(float(state.best_value) - float(problem.minimum))
        evaluations.append(spent)
        placed = landscape.to_plane(info.params)
        positions.append(np.where(np.asarray(info.alive)[:, None], placed, np.nan))
    lifetimes = np.isfinite(np.array(positions)[:, :, 0]).sum(0)
    shown = np.argsort(-lifetimes, kind="stable")[:SHOWN_AGENTS]
    return _path(points, excess, evaluations, np.array(positions)[:, shown])


def hybrid_path(landscape: Landscape, key: jax.Array, budget: int) -> Path:
    """Returns the path of `jd.hybrid`: its first points below the targets.

    Args:
      landscape: the function; its start is not used.
      key: random key.
      budget: the number of evaluations.
    """
    problem = landscape.problem
    minimum = float(problem.minimum)
    points, excess, evaluations = [], [], []
    for target in TARGETS:
        result = jd.hybrid(problem, key=key, max_evaluations=budget, target=minimum + target)
        if evaluations and result.evaluations_to_best <= evaluations[-1]:
            continue  # the last point is below this target, too
        points.append(landscape.to_plane(result.params))
        excess.append(float(result.value) - minimum)
        evaluations.append(int(result.evaluations_to_best))
        if result.stop_reason != jd.StopReason.TARGET:
            break
    return _path(points, excess, evaluations, [np.zeros((0, 2))] * len(points))


def _path(points: list[Any], excess: list[float], evaluations: list[int], positions: Any) -> Path:
    values = np.where(np.isfinite(excess), excess, np.inf)
    first = first_below(values)
    reached = np.array(evaluations[first] if first >= 0 else -1)
    return Path(
        points=np.array(points, np.float32),
        excess=values,
        evaluations=np.array(evaluations, np.int64),
        learning_rate=np.array(np.nan),
        reached=reached,
        tuned=reached,
        agents=np.array(positions, np.float32),
    )
