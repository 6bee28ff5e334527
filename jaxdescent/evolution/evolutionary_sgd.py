"""Evolutionary stochastic gradient descent: descent with back-off, and offspring of good agents.

    back-off:   agent <- the agent before the rung, if its value is worse now
    offspring:  x_i <- (x_p1 + ... + x_pr) / r + sigma N(0, 1),    parents drawn by rank
    elite:      the best m agents are not replaced

Rules compare values, and an offspring has a value only after the next rung. It therefore descends
for a rung like every agent, and is then compared with the agent that it replaced, which comes back
if the offspring is worse. So an agent's value after the rule never rises, and with it the best
value, provided that all values are computed on the same examples.

The published method alternates descent and evolution, evaluates offspring before they descend, and
selects among all of them and their parents. It also draws a new optimizer for each generation; here
agents keep their hyperparameters.

Source: X. Cui et al. 2018, arXiv:1810.06773.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import chunking, validation
from jaxdescent.agents import Population, Rule, place_agents
from jaxdescent.agents.pruning import ranks
from jaxdescent.evolution.population_based_training import diverged
from jaxdescent.problem import Problem


class Generation(NamedTuple):
    """Info that evolutionary SGD reports.

    Attributes:
      restored: bool[agents], True where the agent went back to its state before the rung.
      offspring: bool[agents], True where the agent was then replaced by an offspring.
      values: f[agents], values of the agents after the back-off, before offspring replace some.
    """

    restored: jax.Array
    offspring: jax.Array
    values: jax.Array


class _State(NamedTuple):
    """State of the rule.

    Attributes:
      generation: i32[], number of rungs so far.
      before: the agents to go back to: those that took part in the rung, and those that the
        offspring in it replaced.
    """

    generation: jax.Array
    before: Population


def evolutionary_sgd(
    sigma: float,
    *,
    sigma_decay: float = 0.9,
    num_parents: int = 2,
    elite: float = 0.5,
    offspring: float = 0.25,
) -> Rule:
    """Undoes rungs in which an agent's value rose, and replaces some agents by offspring of others.

    After each rung, an agent whose value is worse than before, or not finite, is restored with its
    optimizer state. Offspring then replace some of the agents that are not in the elite, restored
    ones first. An offspring is the mean of `num_parents` agents, drawn with probabilities that fall
    linearly with rank, plus Gaussian noise, with a new optimizer state. It keeps its place if its
    value after the next rung is at least as good as the value of the agent that it replaced.

    No agent's value after the rule rises from rung to rung, exactly, if each value is computed from
    the same examples: in `jd.minimize`, and in `jd.fit` with validation data. In `jd.fit` without
    validation data, values are means over the batches of a rung, so that noise is compared as well.

    The mean of networks that were trained from different initializations is usually far worse than
    each of them. Start all agents at the same parameters, with different hyperparameters or data
    orders. The rule keeps a second copy of the population in its state.

    Args:
      sigma: standard deviation of the noise in the first generation, at least 0; in `jd.minimize`
        in widths of the problem's box.
      sigma_decay: factor of `sigma` from one generation to the next, in (0, 1].
      num_parents: number of agents whose mean is an offspring, at least 1; one may be drawn twice.
      elite: fraction of the agents, the best, that offspring do not replace; in (0, 1). At least
        one agent.
      offspring: fraction of the agents that offspring replace, in (0, 1). At least one agent.

    Returns:
      A rule whose info is a `Generation`.

    Raises:
      ValueError: an argument is out of its range; in the loop, if there are fewer agents than the
        elite and the offspring together.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> problem = jd.problems.rastrigin(5, key=jax.random.key(0))
      >>> result = jd.minimize(
      ...     problem, optax.adam(0.005), num_agents=64, steps=1_000, num_rungs=40,
      ...     rule=jd.evolution.evolutionary_sgd(0.1))
      >>> best = result.history.rule_info.values.min(axis=1)
      >>> bool((jnp.diff(best) <= 0).all())
      True
    """
    sigma = validation.number_in("sigma", sigma, 0.0, np.inf)
    decay = float(validation.positive_up_to("sigma_decay", sigma_decay, 1.0))
    validation.integer_in("num_parents", num_parents, 1)
    elite = validation.number_between("elite", elite, 0.0, 1.0)
    offspring = validation.number_between("offspring", offspring, 0.0, 1.0)

    def counts(size: int) -> tuple[int, int]:
        """Returns the numbers of agents in the elite and of offspring."""
        return max(1, round(elite * size)), max(1, round(offspring * size))

    def init(_key: jax.Array, population: Population, _problem: Problem) -> _State:
        size = len(population.ids)
        num_elite, num_offspring = counts(size)
        if num_elite + num_offspring > size:
            raise ValueError(
                f"num_agents must be at least {num_elite + num_offspring}, for an elite of "
                f"{num_elite} and {num_offspring} offspring, got {size}; lower elite or offspring"
            )
        return _State(jnp.zeros((), jnp.int32), population)

    def update(
        key: jax.Array, population: Population, problem: Problem, state: _State
    ) -> tuple[Population, _State, Generation]:
        num_elite, num_offspring = counts(len(population.ids))
        slot_key, parent_key, noise_key = jax.random.split(key, 3)
        population, restored = _backed_off(population, state.before)
        info = Generation(restored, restored, population.values)
        scores, lost = population.scores, diverged(population)
        has_parents = jnp.any(jnp.isfinite(scores))
        replaceable = (population.alive & population.evaluated) | lost
        replaceable &= ~((ranks(scores) < num_elite) & jnp.isfinite(scores)) & has_parents
        # Restored agents may repeat the rung that made them worse.
        order = jnp.where(restored | lost, 0.0, 1.0) + jax.random.uniform(slot_key, scores.shape)
        replaced = replaceable & (ranks(jnp.where(replaceable, order, jnp.inf)) < num_offspring)
        deviation = sigma * jnp.float32(decay) ** state.generation
        parents = draw_parents(parent_key, scores, num_parents)
        params = recombined(noise_key, population.params, parents, deviation, problem.scale)
        after = place_agents(population, replaced, params, problem)
        return after, _State(state.generation + 1, population), info._replace(offspring=replaced)

    return Rule(init, update)


def _backed_off(population: Population, before: Population) -> tuple[Population, jax.Array]:
    """Returns the agents, with those that got worse restored, and the mask of these."""
    takes_part = (population.alive & population.evaluated) | diverged(population)
    good = jnp.isfinite(population.values) & (population.costs <= before.costs)
    restored = takes_part & before.evaluated & jnp.isfinite(before.values) & ~good
    old = before._replace(
        ids=population.ids, evaluations=population.evaluations, gradients=population.gradients
    )

    def select(old: jax.Array, new: jax.Array) -> jax.Array:
        return new if old is new else chunking.where_rows(restored, old, new)

    return jax.tree.map(select, old, population), restored


def draw_parents(key: jax.Array, scores: jax.Array, num_parents: int) -> jax.Array:
    """Returns i32[agents, parents], agents drawn with a probability linear in their rank.

    Of n finite scores, the best has the weight n, the worst the weight 1.
    """
    size = len(scores)
    num_finite = jnp.sum(jnp.isfinite(scores), dtype=jnp.int32)
    weights = jnp.maximum(num_finite - jnp.arange(size), 0).astype(jnp.float32)
    cumulative = jnp.cumsum(weights)
    drawn = jax.random.uniform(key, (size, num_parents)) * cumulative[-1]
    rank = jnp.searchsorted(cumulative, drawn, side="right")
    return jnp.argsort(scores)[jnp.clip(rank, 0, jnp.maximum(num_finite - 1, 0))]


def recombined(
    key: jax.Array, params: Any, parents: jax.Array, deviation: ArrayLike, scale: Any
) -> Any:
    """Returns the means of parents, with Gaussian noise in units of `scale`."""
    leaves, structure = jax.tree.flatten(params)
    num_parents = parents.shape[1]
    keys = jax.random.split(key, len(leaves))

    def recombine(key: jax.Array, x: jax.Array, unit: jax.Array) -> jax.Array:
        total = sum((x[parents[:, number]] for number in range(num_parents)), jnp.zeros_like(x))
        noise = jax.random.normal(key, x.shape, x.dtype)
        return (total / num_parents + deviation * unit * noise).astype(x.dtype)

    units = structure.flatten_up_to(scale)
    return structure.unflatten(map(recombine, keys, leaves, units))
