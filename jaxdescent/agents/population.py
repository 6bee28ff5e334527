"""A population: many agents, each a row of every array.

Rules change agents with only two functions: `copy_agents` replaces an agent by a copy of another,
with everything that belongs to it; `place_agents` restarts an agent at new parameters.

Agents draw different random numbers: random keys in an agent's states have its id folded in, at the
start and in each copy.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import chunking, validation
from jaxdescent.agents.random_keys import fold_into_keys
from jaxdescent.problem import Problem

NONFINITE_STREAK = 10
"""Number of successive non-finite values after which an agent is removed at the end of a rung, even
if its optimizer might recover. In `fit`, all losses of that rung must be non-finite, too."""


class Population(NamedTuple):
    """Agents, along the leading axis of every leaf.

    Attributes:
      params: parameters, in the coordinates of the problem.
      hyperparams: each agent's own hyperparameters; {} if agents share one optimizer.
      opt_state: optimizer states, in the units of the problem's box (`Problem.in_units`).
      model_state: model states, such as running averages of a BatchNorm; () without them.
      values: f[agents], the values at `params`, with the user's sign. If a rung of `fit` has no
        value of an agent, because no batch had a finite loss, it keeps the one before.
      grads: the gradients at `params` that the optimizer is given next, a tree like it, in units of
        the problem's box: derivatives by `Problem.in_units(params)`. They are 0 where descent would
        leave the problem's bounds, so that all are 0 at a minimum within them. () in `fit`, which
        computes gradients batch by batch.
      evaluated: bool[agents], True where `values` and `grads` belong to the present `params`.
      alive: bool[agents], True where the agent is not pruned.
      ids: i32[agents], the agent's number, from which its random numbers are drawn.
      ancestors: i32[agents], the id of the agent from whose initial parameters it descends; for a
        copy, the ancestor of its source.
      age: i32[agents], number of steps since those initial parameters.
      best_params: the parameters of each agent's best value.
      best_model_state: the model state there.
      best_values: f[agents], that value; before the first finite one inf, or -inf if a higher
        value is better.
      evaluations: i32[agents], number of values computed, with or without a gradient. Values that
        an optimizer computes within a step, for a line search, are not counted.
      gradients: i32[agents], number of gradients computed, counted likewise.
      nonfinite_streak: i32[agents], number of successive values up to now that were not finite; in
        `fit`, of losses.
      maximize: bool[agents], True if a higher value is better; the same for all agents.
    """

    params: Any
    hyperparams: Any
    opt_state: Any
    model_state: Any
    values: jax.Array
    grads: Any
    evaluated: jax.Array
    alive: jax.Array
    ids: jax.Array
    ancestors: jax.Array
    age: jax.Array
    best_params: Any
    best_model_state: Any
    best_values: jax.Array
    evaluations: jax.Array
    gradients: jax.Array
    nonfinite_streak: jax.Array
    maximize: jax.Array

    @property
    def costs(self) -> jax.Array:
        """f[agents], the present values, negated if a higher value is better."""
        return jnp.where(self.maximize, -self.values, self.values)

    @property
    def best_costs(self) -> jax.Array:
        """f[agents], the best values, negated if a higher value is better."""
        return jnp.where(self.maximize, -self.best_values, self.best_values)

    @property
    def scores(self) -> jax.Array:
        """f[agents], the present costs; inf if pruned, not evaluated or not finite."""
        known = self.alive & self.evaluated & jnp.isfinite(self.values)
        return jnp.where(known, self.costs, jnp.inf)

    @property
    def best_scores(self) -> jax.Array:
        """f[agents], the least cost of each agent so far; inf where `scores` is."""
        return jnp.where(jnp.isfinite(self.scores), self.best_costs, jnp.inf)


def copy_agents(population: Population, source: jax.Array) -> Population:
    """Returns the population with agent i replaced by a copy of agent `source[i]`.

    A copy has its own id and its own counts of gradients and evaluations. Everything else is
    copied, with the states of optimizer and model. The copy's id is folded into the random keys in
    these states and in the hyperparameters, so that it draws other numbers than its source.

    Args:
      population: N agents.
      source: i32[N].

    Raises:
      ValueError: `source` is not N integers.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def square(x):
      ...     return jnp.sum(x**2)
      >>> loop = jd.minimize_loop(square, optax.sgd(0.1), num_agents=2)
      >>> agents = loop.init(jax.random.key(0), jnp.array([[1.0], [2.0]])).population
      >>> jd.copy_agents(agents, jnp.array([1, 1])).params.tolist()
      [[2.0], [2.0]]
    """
    if source.shape != population.ids.shape or not jnp.issubdtype(source.dtype, jnp.integer):
        raise ValueError(
            f"source must be {len(population.ids)} integers, one for each agent, got "
            f"{validation.shown(source)}"
        )
    copied = chunking.take(population, source)
    is_itself = source == jnp.arange(len(source), dtype=source.dtype)

    def with_own_keys(tree: Any) -> Any:
        def select(own: jax.Array, old: jax.Array) -> jax.Array:
            return old if own is old else chunking.where_rows(is_itself, old, own)

        return jax.tree.map(select, fold_into_keys(tree, population.ids), tree)

    return copied._replace(
        hyperparams=with_own_keys(copied.hyperparams),
        opt_state=with_own_keys(copied.opt_state),
        model_state=with_own_keys(copied.model_state),
        ids=population.ids,
        evaluations=population.evaluations,
        gradients=population.gradients,
    )


def place_agents(
    population: Population, mask: jax.Array, params: Any, problem: Problem
) -> Population:
    """Returns the population with some agents restarted at new parameters.

    Restarted agents are alive, not yet evaluated, and have a new optimizer state. Random keys in it
    differ from restart to restart, so that an agent draws other numbers each time. The model state
    continues, with its random keys. The agent's own best point is reset; the loop's state keeps the
    best point of all agents. New parameters outside the problem's bounds are moved into them.

    Args:
      population: N agents.
      mask: bool[N], True for agents to restart.
      params: new parameters, a tree like `population.params`.
      problem: the problem that the rule is given, with its optimizer.

    Raises:
      ValueError: the problem has no optimizer, the mask is not N booleans, or the shapes of
        `params` differ.
    """
    if mask.shape != population.alive.shape or mask.dtype != population.alive.dtype:
        raise ValueError(
            f"mask must be {len(population.alive)} booleans, one for each agent, got "
            f"{validation.shown(mask)}"
        )
    validation.shaped_like("params", params, population.params, "population.params")
    params = jax.tree.map(lambda new, old: new.astype(old.dtype), params, population.params)
    params = problem.into_bounds(params)
    opt_state = _initial_opt_state(problem, params, population.hyperparams, population.ids)
    placed = population._replace(
        params=params,
        opt_state=fold_into_keys(opt_state, population.evaluations),
        evaluated=jnp.zeros_like(population.evaluated),
        alive=jnp.ones_like(population.alive),
        ancestors=population.ids,
        age=jnp.zeros_like(population.age),
        best_params=params,
        best_model_state=population.model_state,
        best_values=worst_values(population.maximize, population.best_values.dtype),
        nonfinite_streak=jnp.zeros_like(population.nonfinite_streak),
    )
    return jax.tree.map(lambda new, old: chunking.where_rows(mask, new, old), placed, population)


def initial_population(
    problem: Problem,
    init_params: Any,
    hyperparams: Mapping[str, Any],
    value_dtype: Any,
    grads: Any = (),
    model_state: Any = (),
    *,
    maximize: bool = False,
) -> Population:
    """Returns agents at their starts, not yet evaluated."""
    count = len(jax.tree.leaves(init_params)[0])
    ids = jnp.arange(count, dtype=jnp.int32)
    zeros = jnp.zeros(count, jnp.int32)
    model_state = fold_into_keys(model_state, ids)
    maximizes = jnp.full(count, maximize)
    return Population(
        params=init_params,
        hyperparams=dict(hyperparams),
        opt_state=_initial_opt_state(problem, init_params, dict(hyperparams), ids),
        model_state=model_state,
        values=jnp.full(count, jnp.nan, value_dtype),
        grads=grads,
        evaluated=jnp.zeros(count, bool),
        # The barrier keeps XLA from computing the order of alive agents as a constant (slow).
        alive=jax.lax.optimization_barrier(jnp.ones(count, bool)),
        ids=ids,
        ancestors=ids,
        age=zeros,
        best_params=init_params,
        best_model_state=model_state,
        best_values=worst_values(maximizes, value_dtype),
        evaluations=zeros,
        gradients=zeros,
        nonfinite_streak=zeros,
        maximize=maximizes,
    )


def worst_values(maximize: jax.Array, dtype: Any) -> jax.Array:
    """Returns the values to which every other is better: -inf where a higher value is better."""
    inf = jnp.asarray(jnp.inf, dtype)
    return jnp.where(maximize, -inf, inf)


def initial_opt_states(
    optimizer: Callable[..., optax.GradientTransformation],
    params: Any,
    hyperparams: Any,
    ids: jax.Array,
) -> Any:
    """Returns each agent's initial optimizer state, its id folded into random keys."""

    def init(x: Any, hyperparams: Any) -> Any:
        return optimizer(**hyperparams).init(x)

    return fold_into_keys(jax.vmap(init, axis_size=len(ids))(params, hyperparams), ids)


def has_model_state(model_state: Any) -> bool:
    """True unless `model_state` is (), which stands for agents without one."""
    return not (isinstance(model_state, tuple) and not model_state)


def _initial_opt_state(problem: Problem, params: Any, hyperparams: Any, ids: jax.Array) -> Any:
    if problem.optimizer is None:
        raise ValueError(
            "problem must have an optimizer, got None; use the problem given to the rule"
        )
    return initial_opt_states(problem.optimizer, problem.in_units(params), hyperparams, ids)
