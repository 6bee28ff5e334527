"""A population that minimizes a deterministic function, rung by rung.

Values at the end of a step belong to the parameters there, and their gradient is what the next
step uses, so that n steps take n gradients and one for the start.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import (
    check_agents,
    check_floating,
    check_scalar,
    checked_hyperparams,
    checked_length,
)
from jaxdescent.agents.driver import Chunk, Descent, DescentState, Rung, driver
from jaxdescent.agents.population import started
from jaxdescent.agents.rules import Rule
from jaxdescent.chunking import where_rows
from jaxdescent.problem import Problem


def minimize_loop(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any,
    *,
    num_agents: int,
    rule: Rule | None = None,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Descent:
    """A descent to be driven rung by rung, say with a checkpoint between.

    `minimize` is this in a loop. Compile `advance` once, with the state donated: `length` and
    `prune` are arrays there. The problem's arrays are constants of that program; to have
    another instance without another program, make the descent inside of a function that is
    compiled and takes the problem as an argument.

    Args:
      problem: a function of an agent's parameters, or a `Problem`.
      optimizer: a transformation that all share, or a factory such as `optax.adam` that is
        called with each agent's own hyperparameters, as keywords.
      num_agents: how many there are.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      chunk_size: see `minimize`.
      record_params: whether a `Rung` has all parameters.
      mesh: see `minimize`.

    Returns:
      A `Descent`:

      - `init(key, init_params=None, hyperparams=None)`: starts like the parameters with a leading
        axis of agents, or None to draw them from the problem; hyperparameters as a mapping
        from keyword to an array with that axis.
      - `advance(state, length, prune=True)`: a rung of `length` steps. With `prune` False
        those that the rule has removed descend all the same; the others cannot tell. A rung of
        length 0 evaluates what is new; where nothing is, it changes nothing.

    Raises:
      ValueError: an argument is out of its range; later, at tracing, shapes that disagree or a
        loss that is no scalar.
      TypeError: the problem, the optimizer or the rule is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> box = jnp.full(2, 5.0)
      >>> problem = jd.Problem(lambda x: jnp.sum(x**4 - 3 * x**2 + x), -box, box)
      >>> rule = jd.pruning.successive_halving()
      >>> descent = jd.minimize_loop(problem, optax.adam(0.1), num_agents=16, rule=rule)
      >>> state, advance = descent.init(jax.random.key(0)), jax.jit(descent.advance)
      >>> for _ in range(4):
      ...     state, rung = advance(state, 50)
      >>> int(rung.survivors), round(float(state.best_value), 3)
      (1, -7.028)
    """
    if not callable(problem) and not isinstance(problem, Problem):
        raise TypeError(f"problem must be a function or a jd.Problem, got {problem!r}")
    drive = driver(optimizer, num_agents, rule, chunk_size, record_params, mesh)

    def prepared(init_params: Any) -> Problem:
        return dataclasses.replace(as_problem(problem, init_params), optimizer=drive.optimizer)

    def init(
        key: jax.Array, init_params: Any = None, hyperparams: Mapping[str, ArrayLike] | None = None
    ) -> DescentState:
        key = validation.random_key("key", key)
        if init_params is None:
            keys = jax.random.split(jax.random.fold_in(key, 0), num_agents)
            init_params = jax.vmap(as_problem(problem, None).sample)(keys)
        init_params = jax.tree.map(jnp.array, init_params)
        hyperparams = checked_hyperparams(hyperparams)
        check_agents("init_params", init_params, num_agents)
        check_floating("init_params", init_params)
        check_agents("hyperparams", hyperparams, num_agents)
        whole = prepared(init_params)
        value = jax.eval_shape(lambda x: jax.vmap(whole.value)(x), init_params)
        grads = jax.tree.map(jnp.zeros_like, init_params)
        return drive.begin(key, started(whole, init_params, hyperparams, value.dtype, grads), whole)

    def advance(
        state: DescentState, length: ArrayLike, prune: ArrayLike = True
    ) -> tuple[DescentState, Rung]:
        whole = prepared(state.population.params)
        length = checked_length(length)
        descend = lambda carried, read: _descend(whole, drive.optimizer, carried, read, length)
        stale = ~state.population.evaluated  # is looked at first
        spent = length + stale.astype(jnp.int32)
        acts = (length > 0) | jnp.any(stale & state.population.alive)
        return drive.advance(
            state,
            whole,
            descend,
            length,
            prune,
            gradients=spent,
            evaluations=spent,
            tracks_best=True,
            acts=acts,
        )

    return Descent(init, advance)


def _descend(
    problem: Problem,
    optimizer: Callable[..., optax.GradientTransformationExtraArgs],
    agents: Chunk,
    read: Chunk,
    length: jax.Array,
) -> Chunk:
    """A chunk of agents after `length` steps."""
    refreshed = lambda agents: _refreshed(problem, agents)
    agents = jax.lax.cond(jnp.all(read["evaluated"]), lambda agents: agents, refreshed, agents)

    def step(agent: Chunk, hyperparams: Any) -> Chunk:
        tx = optimizer(**hyperparams)
        value, grads, params = agent["values"], agent["grads"], agent["params"]
        updates, opt_state = tx.update(
            grads, agent["opt_state"], params, value=value, grad=grads, value_fn=problem.value
        )
        params = optax.apply_updates(params, updates)
        value, grads = problem.value_and_grad(params)
        better = (value < agent["best_values"]) & jnp.isfinite(value)
        keep = lambda new, old: jnp.where(better, new, old)
        return agent | {
            "params": params,
            "opt_state": opt_state,
            "values": value,
            "grads": grads,
            "best_params": jax.tree.map(keep, params, agent["best_params"]),
            "best_values": keep(value, agent["best_values"]),
        }

    all_step = lambda _, agents: jax.vmap(step)(agents, read["hyperparams"])
    return jax.lax.fori_loop(0, length, all_step, agents)


def _refreshed(problem: Problem, agents: Chunk) -> Chunk:
    """A chunk with values and gradients where its agents are."""
    values, grads = jax.vmap(problem.value_and_grad)(agents["params"])
    better = (values < agents["best_values"]) & jnp.isfinite(values)
    keep = partial(where_rows, better)
    return agents | {
        "values": values,
        "grads": grads,
        "best_params": jax.tree.map(keep, agents["params"], agents["best_params"]),
        "best_values": keep(values, agents["best_values"]),
    }


def as_problem(problem: Any, init_params: Any) -> Problem:
    """A plain function with a box that nothing is drawn from, once agents fit it.

    Raises:
      TypeError: the problem is none.
      ValueError: there are no starts, they do not have the box's shapes, or the loss is no scalar.
    """
    if not isinstance(problem, Problem):
        if not callable(problem):
            raise TypeError(f"problem must be a function or a jd.Problem, got {problem!r}")
        if init_params is None:
            raise ValueError(
                "init_params must be given where problem is a plain function, got None; or pass a "
                "jd.Problem with a box"
            )
        corner = jax.tree.map(lambda x: np.zeros(x.shape[1:], x.dtype), init_params)
        problem = Problem(problem, corner, jax.tree.map(np.ones_like, corner))
    if init_params is not None:
        agent = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: leaf[0], x), init_params)
        validation.shaped_like(
            "init_params", agent, problem.lower, "the problem's box, agent by agent"
        )
        check_scalar("problem", jax.eval_shape(problem.value, agent))
    return problem
