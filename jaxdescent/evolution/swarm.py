"""Swarm-based gradient descent: a rule that moves mass to the best agent, and its optimizer.

    m_i -> m_best:  m_i eta_i^p,    eta_i = (f_i - min f) / (max f - min f)
    x_i <- x_i - h g_i,    h = h0, gamma h0, gamma^2 h0, ... until
                           f(x_i - h g_i) <= f(x_i) - lambda (m_i / max m)^q h |g_i|^2

Light agents accept almost any decrease, and so take long steps and explore; the heavy ones
descend. An agent whose mass is below a tolerance is removed: at each action at least the agent
of highest value, which keeps no mass. Agents that meet merge: the better one gets both masses.

The rule cannot evaluate, so that the step is an optimizer, whose hyperparameter `relative_mass`
the rule sets. Masses first move after the first rung; until then all are equal.

Source: J. Lu, E. Tadmor and A. Zenginoglu 2022, arXiv:2211.17157. Its constants lambda, gamma and
h0 and its tolerances are not known to us; the defaults here are ours.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxdescent import validation
from jaxdescent.agents.population import Population
from jaxdescent.agents.rule import Rule
from jaxdescent.evolution.rows import as_rows
from jaxdescent.numerics import norm
from jaxdescent.problem import Problem

RELATIVE_MASS = "relative_mass"
"""The hyperparameter of the agents that `swarm` sets."""


class BacktrackingState(NamedTuple):
    """State of `backtracking_descent`.

    Attributes:
      evaluations: i32[], number of values that its line searches have computed.
    """

    evaluations: jax.Array


def backtracking_descent(
    relative_mass: Any = 1.0,
    *,
    step_size: float = 1.0,
    decrease: float = 0.2,
    shrink: float = 0.9,
    mass_power: float = 1.0,
    max_backtracking_steps: int = 150,
) -> optax.GradientTransformationExtraArgs:
    """Returns gradient descent whose step shrinks until the value has decreased enough.

    A step must decrease the value by the part `decrease * relative_mass**mass_power` of the
    decrease that the gradient predicts; with a mass of 1 this is Armijo's condition. If no step
    does, the agent stays. `state.evaluations` counts the values of the line search, which the
    results of `jd.minimize` do not include.

    Args:
      relative_mass: in [0, 1], the agent's mass relative to the heaviest agent. `swarm` sets it
        where it is a hyperparameter.
      step_size: h0, the first and largest step; in `jd.minimize`, for coordinates in units of the
        problem's box if it is finite.
      decrease: lambda, in [0, 1).
      shrink: gamma, in (0, 1), the factor from one trial step to the next.
      mass_power: q, at least 0.
      max_backtracking_steps: the largest number of times that a step shrinks.

    Returns:
      A transformation whose `update` needs `params`, `value` and `value_fn`, as `jd.minimize`
      passes them.

    Raises:
      ValueError: an argument is out of its range; at update, parameters, value or function are
        missing.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> result = jd.minimize(
      ...     lambda x: jnp.sum(x**4), jd.evolution.backtracking_descent(),
      ...     init_params=jnp.array([[3.0]]), steps=20)
      >>> bool(result.value < 1e-3), int(result.population.opt_state.evaluations[0]) > 20
      (True, True)
    """
    if not isinstance(relative_mass, jax.core.Tracer):
        validation.number_in("relative_mass", relative_mass, 0.0, 1.0)
    validation.positive_number("step_size", step_size)
    decrease = float(validation.half_open_interval("decrease", decrease, 0.0, 1.0))
    shrink = validation.number_between("shrink", shrink, 0.0, 1.0)
    validation.number_in("mass_power", mass_power, 0.0, np.inf)
    steps = validation.integer_in("max_backtracking_steps", max_backtracking_steps, 0)
    search: Any = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=steps,
        slope_rtol=decrease * jnp.asarray(relative_mass) ** mass_power,
        decrease_factor=shrink,
        increase_factor=np.inf,
        max_learning_rate=step_size,
    )

    def init(params: Any) -> BacktrackingState:
        validation.check_arrays("params", params)
        return BacktrackingState(jnp.zeros((), jnp.int32))

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        value_fn: Any = None,
        **_: Any,
    ) -> tuple[Any, BacktrackingState]:
        validation.check_params_and_loss(params, value)
        if value_fn is None:
            raise ValueError("value_fn must be given to update, as jd.minimize does, got None")
        downhill = optax.tree.scale(-1, updates)
        # Every search is new: the last step size may be 0, from which none can grow.
        steps, found = search.update(
            downhill, search.init(params), params, value=value, grad=updates, value_fn=value_fn
        )
        succeeded = found.info.decrease_error <= 0
        steps = jax.tree.map(lambda step: jnp.where(succeeded, step, 0), steps)
        count = found.info.num_linesearch_steps.astype(jnp.int32)
        return steps, BacktrackingState(state.evaluations + count)

    return optax.GradientTransformationExtraArgs(init, update)


class Masses(NamedTuple):
    """State of `swarm`.

    Attributes:
      masses: f[agents], whose sum is 1.
      params: the parameters at the last action, a tree [agents, ...].
    """

    masses: jax.Array
    params: Any


class Swarm(NamedTuple):
    """Info that `swarm` reports.

    Attributes:
      masses: f[agents], after the transfer to the best agent.
      merged: i32[], number of agents that met a better one.
      removed: i32[], number of agents that became too light.
    """

    masses: jax.Array
    merged: jax.Array
    removed: jax.Array


def swarm(
    *,
    transfer_power: float = 1.0,
    min_mass: float = 1e-3,
    merge_distance: float = 1e-3,
    tolerance: float | None = 1e-4,
) -> Rule:
    """Moves mass to the best agent after each rung, removes light agents and merges close ones.

    Use it with rungs of one step, and with `backtracking_descent` or another optimizer that has a
    hyperparameter `relative_mass`. Agents whose value is not finite are removed, and their mass
    goes to the best agent.

    Args:
      transfer_power: p, above 0: an agent keeps 1 - eta^p of its mass, where eta is its height
        above the best agent, relative to the highest.
      min_mass: agents with less than this part of an equal share of the mass are removed, in
        (0, 1); the best agent stays.
      merge_distance: agents that are closer merge, in widths of the problem's box if it is finite.
      tolerance: the run ends, by removing all agents, when no agent has moved farther in a rung, in
        the same unit. None goes on.

    Raises:
      ValueError: an argument is out of its range; at the start, agents have no `relative_mass`, or
        there is only one agent.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def double_well(x):
      ...     return jnp.sum((x**2 - 1) ** 2 + 0.3 * x)
      >>> result = jd.minimize(
      ...     double_well, jd.evolution.backtracking_descent, hyperparams={"relative_mass": 1.0},
      ...     init_params=jnp.linspace(0.5, 2, 8)[:, None], steps=100, steps_per_rung=1,
      ...     rule=jd.evolution.swarm())
      >>> bool(result.value < -0.3), result.history.survivors[:3].tolist()
      (True, [7, 6, 5])
    """
    power = validation.number_between("transfer_power", transfer_power, 0.0, np.inf)
    min_mass = validation.number_between("min_mass", min_mass, 0.0, 1.0)
    merge_distance = validation.number_in("merge_distance", merge_distance, 0.0, np.inf)
    if tolerance is not None:
        tolerance = validation.number_in("tolerance", tolerance, 0.0, np.inf)

    def init(_key: jax.Array, population: Population, _problem: Problem) -> Masses:
        count = len(population.ids)
        if count < 2:
            raise ValueError("num_agents must be at least 2 for a swarm, got 1")
        if RELATIVE_MASS not in population.hyperparams:
            raise ValueError(
                "hyperparams must have 'relative_mass', which the swarm sets, got "
                f"{sorted(population.hyperparams)}; pass jd.evolution.backtracking_descent as "
                "optimizer and hyperparams={'relative_mass': 1.0}"
            )
        dtype = population.hyperparams[RELATIVE_MASS].dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"hyperparams must have 'relative_mass' as floats, got {dtype}")
        masses = jnp.full(count, 1 / count, dtype)
        return Masses(masses, population.params)

    def update(_key: jax.Array, population: Population, problem: Problem, old: Masses) -> Any:
        scores = population.scores
        rows, _ = as_rows(population.params)
        scale = ravel_pytree(problem.scale)[0].astype(rows.dtype)
        target, merges = _meetings(rows / scale, scores, merge_distance)
        masses = jnp.where(merges, 0, old.masses).at[target].add(jnp.where(merges, old.masses, 0))
        scores = jnp.where(merges, jnp.inf, scores)

        masses = _transferred(masses, scores, power)
        alive = population.alive & ~merges
        best = jnp.argmin(scores)
        light = alive & (masses * len(masses) < min_mass) & (population.ids != population.ids[best])
        masses = masses.at[best].add(jnp.sum(jnp.where(light, masses, 0)))
        masses = jnp.where(light, 0, masses)
        alive &= ~light
        if tolerance is not None:
            moved = norm((rows - as_rows(old.params)[0]) / scale, axis=1)
            alive &= ~jnp.all(~alive | (moved <= tolerance))
        relative = masses / jnp.maximum(jnp.max(masses), jnp.finfo(masses.dtype).tiny)
        hyperparams = population.hyperparams | {RELATIVE_MASS: relative}
        counts = (jnp.sum(each, dtype=jnp.int32) for each in (merges, light))
        return (
            population._replace(alive=alive, hyperparams=hyperparams),
            Masses(masses, population.params),
            Swarm(masses, *counts),
        )

    return Rule(init, update)


def _meetings(rows: jax.Array, scores: jax.Array, distance: float) -> tuple[jax.Array, jax.Array]:
    """Returns i32[agents], the best agent within the distance, and bool[agents], who joins it.

    An agent waits where the agent that it would join joins another one itself.
    """
    numbers = jnp.arange(len(scores))

    def best_near(own: jax.Array) -> tuple[jax.Array, jax.Array]:
        is_near = norm(rows - rows[own], axis=1) < distance
        is_better = (scores < scores[own]) | ((scores == scores[own]) & (numbers < own))
        candidates = is_near & is_better & jnp.isfinite(scores)
        return jnp.argmin(jnp.where(candidates, scores, jnp.inf)), jnp.any(candidates)

    target, joins = jax.lax.map(best_near, numbers)
    return target, joins & ~joins[target] & jnp.isfinite(scores)


def _transferred(masses: jax.Array, scores: jax.Array, power: float) -> jax.Array:
    """Returns masses after each agent has given the part eta^p to the best one."""
    is_finite = jnp.isfinite(scores)
    best = jnp.argmin(scores)
    highest = jnp.max(jnp.where(is_finite, scores, -jnp.inf))
    tiny = jnp.finfo(scores.dtype).tiny
    # Halves, because a difference of large numbers could overflow.
    height = jnp.where(is_finite, scores / 2 - scores[best] / 2, 0)
    eta = height / jnp.maximum(highest / 2 - scores[best] / 2, tiny)
    given = jnp.where(is_finite, eta.astype(masses.dtype) ** power, 1) * masses
    given = jnp.where(jnp.any(is_finite), given, 0).at[best].set(0)
    return (masses - given).at[best].add(jnp.sum(given))
