"""Minimizes a deterministic function with many agents: `minimize_loop` as one compiled program.

Either every rung has the same number of steps, or every rung has the same number of gradients. In
the second case, the gradients that pruning saves become additional steps of the survivors (as in
the budget of successive halving: Z. Karnin et al. 2013).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import (
    check_agents,
    checked_hyperparams,
    checked_num_rungs,
    count_agents,
    rung_lengths,
)
from jaxdescent.agents.loops.driver import Driver, make_driver
from jaxdescent.agents.loops.minimize_loop import as_problem, loop_of
from jaxdescent.agents.loops.population_loop import (
    PopulationLoopState,
    PopulationResult,
    RungInfo,
    population_result,
)
from jaxdescent.agents.rule import Rule
from jaxdescent.problem import Problem
from jaxdescent.programs import compiled


def minimize(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any,
    *,
    key: jax.Array | None = None,
    num_agents: int | None = None,
    init_params: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    steps: int | None = None,
    steps_per_rung: int | None = None,
    gradient_budget: int | None = None,
    num_rungs: int | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationResult:
    """Minimizes a function with many agents and prunes agents with high values on the way.

    Give either `steps` or `gradient_budget`; there are ten rungs by default. The compiled program
    is reused for other keys, other initial parameters and other instances of the same problem, if
    the optimizer and the rule are made in the same way, such as by `optax.adam(0.05)`. Functions
    of your own must be the same objects: define them once, outside of a loop. A function's program
    and the arrays that it closes over are freed with the function. The result has no reverse-mode
    derivative, because the number of chunks in a rung is known only at run time.

    Args:
      problem: a function of an agent's parameters, or a `Problem`.
      optimizer: a transformation that all agents share, or a factory such as `optax.adam` that
        is called with each agent's own hyperparameters, as keywords.
      key: random key for starts and for the rule; by default `jax.random.key(0)`.
      num_agents: number of agents; by default the number of starts.
      init_params: starts, a tree like the parameters with a leading axis of agents; by default
        drawn from the problem's box.
      hyperparams: mapping from keywords to arrays with a leading axis of agents.
      steps: number of steps of an agent that is never pruned.
      steps_per_rung: with `steps`, number of steps between two actions of the rule; the last
        rung may be shorter. By default `num_rungs` decides.
      gradient_budget: upper bound on the gradients that all agents compute together. Each rung
        gets an equal share of the remaining budget, divided by the number of alive agents and
        rounded down; a rung of no steps changes nothing. Gradients within an optimizer's line
        search are not counted.
      num_rungs: number of rungs, 10 by default. With `steps`, rungs differ in length by at most
        one step, the longer first, and there are at most `steps` of them.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      prune: if False, agents that the rule removes continue descending, which shows the result that
        they would have had. This does not affect other agents; gradients may exceed their budget.
      chunk_size: number of agents that descend side by side, rounded up to a multiple of 8 or,
        below 8, to a power of two; by default as many as a cache holds.
      record_params: whether the history has all parameters at the end of each rung.
      mesh: mesh of one axis over whose devices agents are sharded. Survivors are distributed
        evenly over the devices in each rung.

    Raises:
      ValueError: an argument is out of its range, shapes disagree, or the loss is not a scalar.
      TypeError: the problem, the optimizer, the rule, the mesh or the key has the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def rastrigin(x):
      ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
      >>> box = jnp.full(2, 5.12)
      >>> result = jd.minimize(
      ...     jd.Problem(rastrigin, -box, box), optax.adam(0.05), num_agents=256,
      ...     gradient_budget=20_000, num_rungs=8, rule=jd.pruning.successive_halving(),
      ...     key=jax.random.key(0))
      >>> bool(result.value < 1e-4), result.gradients <= 20_000
      (True, True)
    """
    if (steps is None) == (gradient_budget is None):
        found = "neither" if steps is None else "both"
        raise ValueError(f"either steps or gradient_budget must be given, got {found}")
    if init_params is None and num_agents is None:
        raise ValueError("num_agents or init_params must be given, got neither")
    if init_params is not None:
        starts = count_agents("init_params", init_params)
        num_agents = starts if num_agents is None else num_agents
    num_agents = validation.integer_in("num_agents", num_agents, 1)
    if steps is not None:
        lengths = rung_lengths(steps, steps_per_rung=steps_per_rung, num_rungs=num_rungs)
        budget, num_rungs = 0, len(lengths)
    elif steps_per_rung is not None:
        raise ValueError(
            "steps_per_rung must be None with gradient_budget, whose rungs are as long as it "
            f"lasts, got {steps_per_rung!r}; give num_rungs"
        )
    else:
        lengths = None
        budget = validation.integer_in("gradient_budget", gradient_budget, num_agents, 2**31 - 1)
        num_rungs = checked_num_rungs(num_rungs)
    validation.boolean("prune", prune)
    hyperparams = checked_hyperparams(hyperparams)
    driver = make_driver(optimizer, num_agents, rule, chunk_size, record_params, mesh)
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    if init_params is not None:
        # A weak type would compile a second program.
        init_params = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), init_params)
        check_agents("init_params", init_params, num_agents)
        validation.check_floating("init_params", init_params)
    problem = as_problem(problem, init_params)
    return _minimize(
        problem,
        key,
        init_params,
        hyperparams,
        lengths,
        budget,
        prune,
        driver=driver,
        num_rungs=num_rungs,
    )


@compiled("driver", "num_rungs")
def _minimize(
    problem: Problem,
    key: jax.Array,
    init_params: Any,
    hyperparams: Any,
    lengths: jax.Array | None,
    budget: ArrayLike,
    prune: ArrayLike,
    *,
    driver: Driver,
    num_rungs: int,
) -> PopulationResult:
    loop = loop_of(problem, driver)
    first = loop.init(key, init_params, hyperparams)

    def step_of_length(
        state: PopulationLoopState, length: jax.Array
    ) -> tuple[PopulationLoopState, RungInfo]:
        return loop.step(state, length, prune)

    def step_of_share(
        carry: tuple[PopulationLoopState, jax.Array], rungs_left: jax.Array
    ) -> tuple[tuple[PopulationLoopState, jax.Array], RungInfo]:
        state, budget = carry
        alive = jnp.sum(state.population.alive, dtype=jnp.int32)
        length = jnp.where(alive > 0, budget // rungs_left // jnp.maximum(alive, 1), 0)
        state, info = loop.step(state, length, prune)
        return (state, budget - length * alive), info

    if lengths is not None:
        state, history = jax.lax.scan(step_of_length, first, lengths)
    else:
        budget = jnp.asarray(budget, jnp.int32) - driver.num_agents  # a gradient for each start
        rungs_left = jnp.arange(num_rungs, 0, -1, dtype=jnp.int32)
        (state, _), history = jax.lax.scan(step_of_share, (first, budget), rungs_left)
    return population_result(state, history)
