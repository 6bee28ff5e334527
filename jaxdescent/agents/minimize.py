"""Minimizes a deterministic function with many agents: `minimize_loop` in a loop, as one program.

Either every rung has the same number of steps, or every rung the same number of gradients, so
that what pruning saves goes to the survivors as further steps (successive halving's own
budget: Z. Karnin et al. 2013).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import check_agents, check_floating, checked_hyperparams
from jaxdescent.agents.driver import DescentState, Rung, driver
from jaxdescent.agents.minimize_loop import as_problem, minimize_loop
from jaxdescent.agents.population import Population
from jaxdescent.agents.rules import Rule
from jaxdescent.problem import Problem


class MinimizeResult(NamedTuple):
    """What a population has come to.

    Attributes:
      params: the best finite point that any agent ever saw.
      value: f[], its value; inf if no agent had a finite one: `params` is then a start.
      id: i32[], the agent that saw it; -1 if there is none.
      history: a `Rung` whose arrays have a leading axis of rungs.
      state: the last state, with `population`; `minimize_loop(...).advance` continues from it.
    """

    params: Any
    value: jax.Array
    id: jax.Array
    history: Rung
    state: DescentState

    @property
    def population(self) -> Population:
        """All agents at the end."""
        return self.state.population

    @property
    def gradients(self) -> int:
        """How many gradients were computed, those within a line search not included."""
        return total(self.population.gradients)

    @property
    def evaluations(self) -> int:
        """How many values were computed, with a gradient or without; line searches as above."""
        return total(self.population.evaluations)


def minimize(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any,
    *,
    key: jax.Array | None = None,
    num_agents: int | None = None,
    init_params: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    steps: int | None = None,
    rung: int | None = None,
    gradients: int | None = None,
    rungs: int | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> MinimizeResult:
    """The least value that many agents find, those that fall behind removed on the way.

    One compiled program, whatever is pruned; another key, other starts or another instance of the
    same problem reuse it, if the optimizer and the rule are the same objects. It has no
    derivative in reverse: how many chunks a rung takes is known only as it runs.

    Args:
      problem: a function of an agent's parameters, or a `Problem`.
      optimizer: a transformation that all share, or a factory such as `optax.adam` that is
        called with each agent's own hyperparameters, as keywords.
      key: draws starts, and is what a rule draws from; by default `jax.random.key(0)`.
      num_agents: how many; by default as many as there are starts.
      init_params: like the parameters with a leading axis of agents; by default drawn from the
        problem's box.
      hyperparams: from keyword to an array with a leading axis of agents.
      steps: of an agent that is never pruned, together with `rung`: steps between two
        actions of the rule. The last rung may be shorter.
      rung: see `steps`.
      gradients: all agents' together, together with `rungs`: each rung gets an equal share of
        those that are left, divided by the living and rounded down; one that gets none changes
        nothing. Those that an optimizer's own line search takes are not counted.
      rungs: see `gradients`.
      rule: by default `jd.pruning.adaptive()`.
      prune: False has those that the rule removes descend all the same, to see what they would
        have found; the others cannot tell. Then the gradients exceed their budget.
      chunk_size: agents that descend side by side, rounded up to a multiple of 8 or, below, to
        a power of two; by default as many as a cache holds.
      record_params: whether the history has all parameters at the end of each rung.
      mesh: of one axis, over whose devices agents are spread. Survivors are dealt out evenly for
        each rung, wherever they are.

    Raises:
      ValueError: an argument is out of its range, shapes disagree, or the loss is no scalar.
      TypeError: the problem, the optimizer or the rule is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def rastrigin(x):
      ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
      >>> box = jnp.full(2, 5.12)
      >>> result = jd.minimize(
      ...     jd.Problem(rastrigin, -box, box), optax.adam(0.05), num_agents=256,
      ...     gradients=20_000, rungs=8, rule=jd.pruning.successive_halving(),
      ...     key=jax.random.key(0))
      >>> bool(result.value < 1e-4), result.gradients <= 20_000
      (True, True)
    """
    given = {"steps": steps, "rung": rung, "gradients": gradients, "rungs": rungs}
    given = {name: value for name, value in given.items() if value is not None}
    if set(given) not in ({"steps", "rung"}, {"gradients", "rungs"}):
        raise ValueError(
            f"either steps and rung or gradients and rungs must be given, got {sorted(given)}"
        )
    num_agents = _num_agents(num_agents, init_params)
    if "gradients" in given:
        budget = validation.integer_in("gradients", gradients, num_agents, 2**31 - 1)
        validation.integer_in("rungs", rungs, 1)
        lengths = None
    else:
        lengths = rung_lengths(
            validation.integer_in("steps", steps, 0, 2**31 - 1),
            validation.integer_in("rung", rung, 1, 2**31 - 1),
        )
        budget, rungs = 0, len(lengths)
    validation.boolean("prune", prune)
    hyperparams = checked_hyperparams(hyperparams)
    options = (num_agents, rungs, rule, chunk_size, record_params, mesh)
    # Its checks come before what jit asks of its arguments.
    driver(optimizer, num_agents, rule, chunk_size, record_params, mesh)
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    if init_params is not None:
        # Without weak types, which would take a program of their own.
        init_params = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), init_params)
        check_agents("init_params", init_params, num_agents)
        check_floating("init_params", init_params)
    problem = as_problem(problem, init_params)
    return _minimized(
        problem, key, init_params, hyperparams, lengths, budget, prune, optimizer, options
    )


@partial(jax.jit, static_argnums=(7, 8))
def _minimized(
    problem: Problem,
    key: jax.Array,
    init_params: Any,
    hyperparams: Any,
    lengths: jax.Array | None,
    budget: ArrayLike,
    prune: ArrayLike,
    optimizer: Any,
    options: tuple[Any, ...],
) -> MinimizeResult:
    num_agents, rungs, rule, chunk_size, record_params, mesh = options
    drive = minimize_loop(
        problem,
        optimizer,
        num_agents=num_agents,
        rule=rule,
        chunk_size=chunk_size,
        record_params=record_params,
        mesh=mesh,
    )
    first = drive.init(key, init_params, hyperparams)

    def with_length(state: DescentState, length: jax.Array) -> tuple[DescentState, Rung]:
        return drive.advance(state, length, prune)

    def with_share(carry: tuple[DescentState, jax.Array], left: jax.Array) -> Any:
        state, budget = carry
        living = jnp.sum(state.population.alive, dtype=jnp.int32)
        length = jnp.where(living > 0, budget // left // jnp.maximum(living, 1), 0)
        state, report = drive.advance(state, length, prune)
        return (state, budget - length * living), report

    if lengths is not None:
        state, history = jax.lax.scan(with_length, first, lengths)
    else:
        after_starts = jnp.asarray(budget, jnp.int32) - num_agents
        rungs_left = jnp.arange(rungs, 0, -1, dtype=jnp.int32)
        (state, _), history = jax.lax.scan(with_share, (first, after_starts), rungs_left)
    return MinimizeResult(state.best_params, state.best_value, state.best_id, history, state)


def rung_lengths(steps: int, rung: int) -> np.ndarray:
    """i32[rungs], full ones and what is left; one of length 0 where there is nothing to do."""
    full, rest = divmod(steps, rung)
    lengths = [rung] * full + ([rest] if rest or not full else [])
    return np.array(lengths, np.int32)


def _num_agents(num_agents: int | None, init_params: Any) -> int:
    if init_params is None and num_agents is None:
        raise ValueError("num_agents or init_params must be given, got neither")
    given = num_agents if init_params is None else num_init_params(init_params)
    return validation.integer_in("num_agents", given if num_agents is None else num_agents, 1)


def num_init_params(init_params: Any) -> int:
    """How many agents there are starts for.

    Raises:
      ValueError: there is none.
    """
    leaves = jax.tree.leaves(init_params)
    if not leaves:
        raise ValueError(f"init_params must hold at least one array, got {init_params!r}")
    shape = np.shape(leaves[0])
    if not shape or not shape[0]:
        raise ValueError(f"init_params must have a leading axis of agents, got shape {shape}")
    return shape[0]


def total(counts: jax.Array) -> int:
    """The sum of counts, each below 2^31."""
    return int(np.sum(np.asarray(counts), dtype=np.int64))
