"""Consensus-based optimization, as a rule.

    m   = sum of w_i x_i / sum of w_i,    w_i = exp(-alpha (f_i - min f) / (median f - min f))
    x_i <- x_i - drift (x_i - m) + noise |x_i - m| xi_i,    xi_i standard normal

All agents move toward the consensus point m, the more randomly the farther from it they are. In the
anisotropic variant the noise of each coordinate is proportional to the agent's distance from m in
this coordinate; it does not grow with the dimension. Values are measured in units of their spread,
so that `alpha` does not depend on the units of the function.

The method has two more forms of the same equation: with a time step dt, drift = lambda dt and
noise = sigma sqrt(dt). The variant with gradients adds -lambda_g dt times the gradient; here that
term is the descent in the rung, with any optimizer.

Agents agree in the end where they contract: in the anisotropic variant, where the mean of
log |1 - drift + noise xi| is negative.

Sources: R. Pinnau et al. 2017, arXiv:1604.05648; J. Carrillo et al. 2021, arXiv:1909.09249
(anisotropic noise).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdescent import validation
from jaxdescent.agents.population import Population, place_agents
from jaxdescent.agents.rule import Rule
from jaxdescent.evolution.rows import as_rows, not_pruned
from jaxdescent.numerics import norm
from jaxdescent.problem import Problem


class Consensus(NamedTuple):
    """Info that `consensus` reports.

    Attributes:
      distance: f[], the root mean square distance per coordinate of the agents from the consensus
        point before they move, in widths of the problem's box; NaN if no agent moves.
      effective_size: f[], the number of agents that determine the consensus point:
        (sum of w)^2 / sum of w^2.
    """

    distance: jax.Array
    effective_size: jax.Array


def consensus(
    *, alpha: float = 10.0, drift: float = 0.01, noise: float = 0.5, anisotropic: bool = True
) -> Rule:
    """Moves agents toward a mean that weights low values, with noise that shrinks as they agree.

    The optimizer descends in each rung, with a new state: plain gradient steps in rungs of one step
    are consensus-based optimization with gradients, and `optax.sgd(0.0)` leaves the descent out.
    An agent whose value is not finite has no weight, and moves like the others. Agents that leave
    the problem's bounds are moved into them.

    In a chain, put rules that prune, and `jd.pruning.until`, before this rule.

    Args:
      alpha: weight of low values, at least 0. The agent of median value counts exp(-alpha) times
        as much as the best one.
      drift: the part of the way to the consensus point, in [0, 1].
      noise: standard deviation of the random part, relative to the distance from the consensus
        point; at least 0.
      anisotropic: whether the noise of each coordinate is relative to the distance in this
        coordinate. If False, it is relative to the length of the difference, in widths of the box.

    Raises:
      ValueError: an argument is out of its range; at the start, there is only one agent.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> problem = jd.problems.rastrigin(2, key=jax.random.key(0))
      >>> result = jd.minimize(
      ...     problem, optax.sgd(0.0), num_agents=64, steps=300, steps_per_rung=1,
      ...     rule=jd.evolution.consensus())
      >>> bool(result.value - problem.minimum < 1e-2)
      True
    """
    alpha = validation.number_in("alpha", alpha, 0.0, np.inf)
    drift = validation.number_in("drift", drift, 0.0, 1.0)
    noise = validation.number_in("noise", noise, 0.0, np.inf)
    if not isinstance(anisotropic, bool):
        raise ValueError(f"anisotropic must be True or False, got {anisotropic!r}")

    def init(_key: jax.Array, population: Population, _problem: Problem) -> jax.Array:
        if len(population.ids) < 2:
            raise ValueError("num_agents must be at least 2 for a consensus, got 1")
        return population.alive

    def update(
        key: jax.Array, population: Population, problem: Problem, members: jax.Array
    ) -> tuple[Population, jax.Array, Consensus]:
        members = not_pruned(population, members)
        rows, to_params = as_rows(population.params)
        scale = ravel_pytree(problem.scale)[0].astype(rows.dtype)
        weights = _weights(population.scores, alpha).astype(rows.dtype)
        center = weights @ jnp.where(weights[:, None] > 0, rows, 0)
        # An agent whose parameters are not finite moves to the consensus point.
        away = jnp.where(jnp.isfinite(rows), rows - center, 0)
        size = jnp.abs(away) if anisotropic else norm(away / scale, axis=1)[:, None] * scale
        xi = jax.random.normal(key, rows.shape, rows.dtype)
        moved = center + (1 - drift) * away + noise * size * xi
        moves = members & jnp.any(weights > 0)  # otherwise no value is finite
        population = place_agents(population, moves, to_params(moved), problem)
        squares = jnp.where(moves[:, None], away / scale, 0) ** 2
        count = jnp.sum(moves).astype(rows.dtype) * rows.shape[1]
        info = Consensus(
            distance=jnp.sqrt(jnp.sum(squares) / count),
            effective_size=1 / jnp.sum(weights**2),
        )
        return population, members, info

    return Rule(init, update)


def _weights(scores: jax.Array, alpha: float) -> jax.Array:
    """Returns f[agents], the weights, whose sum is 1; all 0 if no score is finite."""
    is_finite = jnp.isfinite(scores)
    best = jnp.min(scores)
    median = jnp.nanmedian(jnp.where(is_finite, scores, jnp.nan))
    tiny = jnp.finfo(scores.dtype).tiny
    # Halves, because a difference of large numbers could overflow.
    above = jnp.where(is_finite, scores / 2 - best / 2, jnp.inf)
    relative = above / jnp.maximum(median / 2 - best / 2, tiny)
    weights = jnp.where(is_finite, jnp.exp(-alpha * relative), 0)
    return weights / jnp.maximum(jnp.sum(weights), 1)
