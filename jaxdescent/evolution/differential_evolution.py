"""Differential evolution between stretches of descent, as a rule.

    v_i = x_a + F (x_b - x_c),    a, b, c distinct and different from i
    u_i = v_i on a coordinate drawn at random and, with probability CR, on each other; else x_i

Agent i descends from the trial u_i with a new optimizer state for one rung. At its end the best
point of the descent replaces the parent x_i if its value is not higher (Lamarckian inheritance).
The rule cannot evaluate a trial: it keeps the parents and compares after the next rung.

Trials are affine combinations of parents, so that they do not depend on the units of the
parameters. The agents a, b, c are drawn without rejection: a number among the agents that are not
drawn yet is moved past those that are.

Source: R. Storn and K. Price 1997, J. Global Optimization 11 (DE/rand/1/bin).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import chunking, validation
from jaxdescent.agents.population import Population, place_agents
from jaxdescent.agents.rule import Rule
from jaxdescent.evolution.rows import as_rows, not_pruned

LEAST_AGENTS = 4
"""An agent, and three others to combine."""


class Parents(NamedTuple):
    """State of `differential_evolution`.

    Attributes:
      params: the parents, the best points so far of each agent, a tree [agents, ...].
      costs: f[agents], their values, negated if a higher value is better; inf before the first.
      members: bool[agents], True for agents that no other rule has pruned.
    """

    params: Any
    costs: jax.Array
    members: jax.Array


class Selected(NamedTuple):
    """Info that `differential_evolution` reports.

    Attributes:
      improved: i32[], number of parents that were replaced.
      trials: i32[], number of agents placed at trials.
    """

    improved: jax.Array
    trials: jax.Array


def differential_evolution(
    *, differential_weight: float = 0.5, crossover_rate: float = 0.9
) -> Rule:
    """Recombines agents between rungs, and keeps the better of each parent and its trial.

    The optimizer descends from every trial in the next rung: evolution finds basins and descent
    finds their minima. An optimizer whose learning rate decays within a rung converges in each of
    them, since its state is new after every rung. Trials outside of the problem's bounds are moved
    into them. A trial without a finite value loses: its parent stays, and the agent lives on.

    In a chain, put rules that prune, and `jd.pruning.until`, before this rule: after it, no agent
    is evaluated. Agents that they prune are not combined any more. With fewer than four left, the
    agents descend without trials.

    Args:
      differential_weight: F, in [0, 2], the factor of the difference of two agents.
      crossover_rate: CR, in [0, 1], the probability with which a coordinate is from the
        combination of three agents rather than from the parent.

    Raises:
      ValueError: an argument is out of its range; at the start, there are fewer than four agents.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> problem = jd.problems.rastrigin(5, key=jax.random.key(0))
      >>> rate = optax.cosine_decay_schedule(0.02, 40)  # of the box's width, to 0 in each rung
      >>> result = jd.minimize(
      ...     problem, optax.adam(rate), num_agents=16, steps=3_000, steps_per_rung=40,
      ...     rule=jd.evolution.differential_evolution())
      >>> bool(result.value < 1e-3)
      True
    """
    weight = validation.number_in("differential_weight", differential_weight, 0.0, 2.0)
    rate = validation.number_in("crossover_rate", crossover_rate, 0.0, 1.0)

    def init(_key: jax.Array, population: Population, _problem: Any) -> Parents:
        count = len(population.ids)
        if count < LEAST_AGENTS:
            raise ValueError(
                f"num_agents must be at least {LEAST_AGENTS} for differential evolution, which "
                f"combines each agent with three others, got {count}"
            )
        costs = jnp.full_like(population.values, jnp.inf)
        return Parents(population.params, costs, population.alive)

    def update(key: jax.Array, population: Population, problem: Any, old: Parents) -> Any:
        is_finite = jnp.isfinite(population.best_values)
        improved = old.members & is_finite & (population.best_costs <= old.costs)

        def select(new: jax.Array, parent: jax.Array) -> jax.Array:
            return chunking.where_rows(improved, new, parent)

        parents = Parents(
            params=jax.tree.map(select, population.best_params, old.params),
            costs=select(population.best_costs, old.costs),
            members=not_pruned(population, old.members),
        )
        acts = jnp.sum(parents.members) >= LEAST_AGENTS
        rows, to_params = as_rows(parents.params)
        trials = to_params(_trials(key, rows, parents.members, weight, rate))
        placed = parents.members & acts
        population = place_agents(population, placed, trials, problem)
        counts = (jnp.sum(each, dtype=jnp.int32) for each in (improved, placed))
        return population, parents, Selected(*counts)

    return Rule(init, update)


def _trials(
    key: jax.Array, rows: jax.Array, members: jax.Array, weight: float, rate: float
) -> jax.Array:
    """Returns the trials of rows, f[agents, n]; rows of agents that are not members are unused."""
    count, n = rows.shape
    draw_key, coordinate_key, cross_key = jax.random.split(key, 3)
    order, num_members = chunking.chosen_first(members)
    own_places = jnp.cumsum(members, dtype=jnp.int32) - 1
    a, b, c = (rows[order[places]] for places in _draw_others(draw_key, own_places, num_members))
    forced = jax.random.randint(coordinate_key, (count, 1), 0, n)
    crosses = jax.random.uniform(cross_key, rows.shape) < rate
    crosses |= jnp.arange(n) == forced
    return jnp.where(crosses, a + jnp.asarray(weight, rows.dtype) * (b - c), rows)


def _draw_others(key: jax.Array, own: jax.Array, count: jax.Array) -> jax.Array:
    """Draws i32[3, agents], three of the numbers below `count`, distinct and different from own."""
    taken = own[None]
    for drawn_before, draw_key in enumerate(jax.random.split(key, 3)):
        free = jnp.maximum(count - 1 - drawn_before, 1)
        drawn = jax.random.randint(draw_key, own.shape, 0, free)
        for other in jnp.sort(taken, axis=0):
            drawn += drawn >= other
        taken = jnp.concatenate([taken, drawn[None]])
    return taken[1:]
