"""A population: many agents, each a row of every array.

Rules move agents with two helpers and never field by field: `copy_agents` takes everything along
that belongs to an agent, `place_agents` puts it somewhere else and has it start afresh.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import chunking, validation
from jaxdescent.problem import Problem


class Population(NamedTuple):
    """Agents, along the leading axis of every leaf.

    Attributes:
      params: where they are.
      hyperparams: each one's own hyperparameters; {} if they share one optimizer.
      opt_state: of each one's optimizer.
      model_state: such as running averages of a BatchNorm; () if there is none.
      values: f[agents], the loss there.
      grads: the gradients there, like `params`; () if a driver takes them batch by batch.
      evaluated: bool[agents], whether values and gradients belong to the present `params`.
      alive: bool[agents], whether they still descend.
      ids: i32[agents], an agent's own number, from which its random numbers are drawn.
      ancestors: i32[agents], the id of the agent whose start it descends from.
      age: i32[agents], steps since that start.
      best_params: where each had its least value.
      best_model_state: its model state there.
      best_values: f[agents], that value; inf before the first finite one.
      evaluations: i32[agents], values computed, those that came with a gradient included; not
        those that an optimizer asks for within a step, such as a line search.
      gradients: i32[agents], gradients computed; likewise.
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

    @property
    def scores(self) -> jax.Array:
        """f[agents], the present values; inf for the dead, for what is stale or not finite."""
        known = self.alive & self.evaluated & jnp.isfinite(self.values)
        return jnp.where(known, self.values, jnp.inf)

    @property
    def best_scores(self) -> jax.Array:
        """f[agents], the least value that each has had, with inf where `scores` has it."""
        return jnp.where(jnp.isfinite(self.scores), self.best_values, jnp.inf)


def copy_agents(population: Population, source: jax.Array) -> Population:
    """The population with agent i replaced by a copy of agent `source[i]`.

    A copy keeps its own id and the counters of the work that was done in its place; everything
    else comes along, optimizer state included. Random keys in that, of the typed kind, become
    its own by its id, so that it goes another way than its source.

    Args:
      population: of N agents.
      source: i32[N].

    Raises:
      ValueError: the source is not that.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> square = lambda x: jnp.sum(x**2)
      >>> descent = jd.minimize_loop(square, optax.sgd(0.1), num_agents=2)
      >>> agents = descent.init(jax.random.key(0), jnp.array([[1.0], [2.0]])).population
      >>> jd.copy_agents(agents, jnp.array([1, 1])).params.tolist()
      [[2.0], [2.0]]
    """
    if source.shape != population.ids.shape or not jnp.issubdtype(source.dtype, jnp.integer):
        raise ValueError(
            f"source must be {len(population.ids)} integers, one for each agent, got {source!r}"
        )
    copied = chunking.take(population, source)
    here = source == jnp.arange(len(source), dtype=source.dtype)
    own_keys = _renewed(copied.opt_state, population.ids)
    pick = lambda own, old: chunking.where_rows(here, old, own) if is_key(old) else old
    return copied._replace(
        opt_state=jax.tree.map(pick, own_keys, copied.opt_state),
        ids=population.ids,
        evaluations=population.evaluations,
        gradients=population.gradients,
    )


def place_agents(
    population: Population, mask: jax.Array, params: Any, problem: Problem
) -> Population:
    """The population with some agents at new places, alive, their optimizer state afresh.

    Random keys in it, of the typed kind, are others than those of the start: an agent that is
    placed again and again draws other numbers each time.

    What they had found belongs to the agents that they replace and goes; a driver keeps the best
    point ever apart.

    Args:
      population: of N agents.
      mask: bool[N], which ones.
      params: where to, like `population.params`.
      problem: as a driver gives it to a rule, with its optimizer.

    Raises:
      ValueError: the problem has no optimizer, the mask is not that, or the shapes of `params`
        differ.
    """
    if mask.shape != population.alive.shape or mask.dtype != population.alive.dtype:
        raise ValueError(
            f"mask must be {len(population.alive)} booleans, one for each agent, got {mask!r}"
        )
    validation.shaped_like("params", params, population.params, "population.params")
    params = jax.tree.map(lambda new, old: new.astype(old.dtype), params, population.params)
    afresh = _fresh_state(problem, params, population.hyperparams, population.ids)
    placed = population._replace(
        params=params,
        opt_state=_renewed(afresh, population.gradients),
        evaluated=jnp.zeros_like(population.evaluated),
        alive=jnp.ones_like(population.alive),
        ancestors=population.ids,
        age=jnp.zeros_like(population.age),
        best_params=params,
        best_model_state=population.model_state,
        best_values=jnp.full_like(population.best_values, jnp.inf),
    )
    return jax.tree.map(lambda new, old: chunking.where_rows(mask, new, old), placed, population)


def started(
    problem: Problem,
    init_params: Any,
    hyperparams: Mapping[str, Any],
    value_dtype: Any,
    grads: Any = (),
    model_state: Any = (),
) -> Population:
    """Agents at their starts, with nothing evaluated yet."""
    count = len(jax.tree.leaves(init_params)[0])
    ids = jnp.arange(count, dtype=jnp.int32)
    zeros = jnp.zeros(count, jnp.int32)
    return Population(
        params=init_params,
        hyperparams=dict(hyperparams),
        opt_state=_fresh_state(problem, init_params, dict(hyperparams), ids),
        model_state=model_state,
        values=jnp.full(count, jnp.nan, value_dtype),
        grads=grads,
        evaluated=jnp.zeros(count, bool),
        # Of a constant the compiler would work out the order of the living, for seconds.
        alive=jax.lax.optimization_barrier(jnp.ones(count, bool)),
        ids=ids,
        ancestors=ids,
        age=zeros,
        best_params=init_params,
        best_model_state=model_state,
        best_values=jnp.full(count, jnp.inf, value_dtype),
        evaluations=zeros,
        gradients=zeros,
    )


def own_state(
    optimizer: Callable[..., optax.GradientTransformation],
    params: Any,
    hyperparams: Any,
    ids: jax.Array,
) -> Any:
    """Each agent's state; a random key in it (of the typed kind) becomes the agent's own."""

    def state(x: Any, hyperparams: Any, number: jax.Array) -> Any:
        return jax.tree.map(partial(_own, number=number), optimizer(**hyperparams).init(x))

    return jax.vmap(state)(params, hyperparams, ids)


def _renewed(state: Any, numbers: jax.Array) -> Any:
    """Agents' optimizer states, with random keys that depend on the numbers i32[agents] too."""
    renewed = lambda state, number: jax.tree.map(partial(_own, number=number), state)
    return jax.vmap(renewed)(state, numbers)


def _own(leaf: jax.Array, number: jax.Array) -> jax.Array:
    """The leaf; one of random keys made the agent's of this number."""
    if not is_key(leaf):
        return leaf
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return fold(leaf.reshape(-1), number).reshape(leaf.shape)


def is_key(value: Any) -> bool:
    """Whether this is an array of random keys, of the typed kind."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _fresh_state(problem: Problem, params: Any, hyperparams: Any, ids: jax.Array) -> Any:
    if problem.optimizer is None:
        raise ValueError("problem must have an optimizer, got None; take the one a rule is given")
    return own_state(problem.optimizer, params, hyperparams, ids)
