"""A population that minimizes a deterministic function, rung by rung.

    x       <- x + scale * update(g),    moved into the bounds
    v, g    = value at the new x, and scale * gradient, 0 where descent would leave the bounds

The optimizer sees coordinates in units of the problem's box (`box.py`), and the gradient in them.
The next step uses the gradient at the end of this step, so that n steps take n gradients and one
for the start.

With bounds, where the value is finite, a component of the gradient that is not finite must not
reach the optimizer's state. NaN becomes 0. An infinite slope, such as the slope of -sqrt(x) at 0,
becomes the smallest normal number of its sign, and x moves downhill by `NUDGE` widths of the box,
to where the slope is finite.

At the end of a rung, an agent whose value is not finite is removed, unless its optimizer may
recover: its parameters are finite, it has had a finite value, and fewer than `NONFINITE_STREAK`
successive values were not finite.
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

from jaxdescent import estimators, validation
from jaxdescent.agents.arguments import (
    STACKING,
    check_agents,
    checked_hyperparams,
    checked_length,
    for_each_agent,
    noting_one_agent,
    params_of_agents,
)
from jaxdescent.agents.loops.driver import (
    BEST,
    FINITENESS,
    Chunk,
    Driver,
    estimator_keys,
    make_driver,
)
from jaxdescent.agents.loops.population_loop import PopulationLoop, PopulationLoopState, RungInfo
from jaxdescent.agents.population import NONFINITE_STREAK, initial_population
from jaxdescent.agents.rule import Rule
from jaxdescent.box import Box
from jaxdescent.chunking import where_rows
from jaxdescent.estimators.estimator import Estimator
from jaxdescent.numerics import all_finite
from jaxdescent.problem import Problem

NUDGE = 2.0**-10
"""Distance, in widths of the box, by which x leaves a point of infinite slope."""


def minimize_loop(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any,
    *,
    num_agents: int,
    estimator: Estimator | None = None,
    rule: Rule | None = None,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationLoop:
    """Returns the loop of `minimize` as functions, to run it rung by rung.

    Use it to save checkpoints between rungs, for example. Compile `step` once, with the state
    donated: its arguments `length` and `prune` may be arrays. The arrays of the problem are
    constants of that program. To use one program for several instances, call `minimize_loop`
    inside a compiled function that takes the problem as an argument.

    Args:
      problem: a function of an agent's parameters, or a `Problem`.
      optimizer: a transformation that all agents share, or a factory such as `optax.adam` that
        is called with each agent's own hyperparameters, as keywords.
      num_agents: number of agents.
      estimator: see `minimize`.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      chunk_size: see `minimize`.
      record_params: whether a `RungInfo` has the parameters of all agents.
      mesh: see `minimize`.

    Returns:
      A `PopulationLoop`:

      - `init(key, init_params=None, hyperparams=None)`: `init_params` is a tree like the
        parameters with a leading axis of agents, or None to draw starts from the problem;
        `hyperparams` maps keywords to arrays with that axis, or to scalars for all.
      - `step(state, length, prune=True)`: runs a rung of `length` steps. With `prune=False`
        agents that the rule removes keep descending; this does not affect other agents. A rung
        of length 0 evaluates agents that a rule has moved, and changes nothing else.

    Raises:
      ValueError: an argument is out of its range; at tracing, shapes disagree or the loss is not
        a scalar.
      TypeError: the problem, the optimizer, the estimator, the rule or the mesh has the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> box = jnp.full(2, 5.0)
      >>> problem = jd.Problem(lambda x: jnp.sum(x**4 - 3 * x**2 + x), -box, box)
      >>> rule = jd.pruning.successive_halving()
      >>> loop = jd.minimize_loop(problem, optax.adam(0.01), num_agents=16, rule=rule)
      >>> state, step = loop.init(jax.random.key(0)), jax.jit(loop.step)
      >>> for _ in range(4):
      ...     state, info = step(state, 50)
      >>> int(info.survivors), round(float(state.best_value), 3)
      (1, -7.028)
    """
    if not callable(problem) and not isinstance(problem, Problem):
        raise TypeError(
            f"problem must be a function or a jd.Problem, got {validation.shown(problem)}"
        )
    driver = make_driver(optimizer, num_agents, estimator, rule, chunk_size, record_params, mesh)
    return loop_of(problem, driver)


def loop_of(problem: Problem | Callable[[Any], jax.Array], driver: Driver) -> PopulationLoop:
    """Returns the loop of `minimize_loop`, for settings that are checked."""

    def problem_for_rules(init_params: Any) -> Problem:
        return dataclasses.replace(as_problem(problem, init_params), optimizer=driver.optimizer)

    def init(
        key: jax.Array, init_params: Any = None, hyperparams: Mapping[str, ArrayLike] | None = None
    ) -> PopulationLoopState:
        key = validation.random_key("key", key)
        if init_params is None:
            keys = jax.random.split(jax.random.fold_in(key, 0), driver.num_agents)
            drawn_from = as_problem(problem, None)
            drawn_from.check_starts()
            init_params = jax.vmap(drawn_from.sample)(keys)
        init_params = jax.tree.map(jnp.copy, params_of_agents(init_params))
        hyperparams = checked_hyperparams(hyperparams)
        check_agents("init_params", init_params, driver.num_agents)
        validation.check_floating("init_params", init_params, validation.PARTITION)
        hyperparams = for_each_agent(hyperparams, driver.num_agents)
        full_problem = problem_for_rules(init_params)
        init_params = full_problem.into_bounds(init_params)
        value = jax.eval_shape(jax.vmap(full_problem.value), init_params)
        grads = jax.tree.map(jnp.zeros_like, init_params)
        population = initial_population(full_problem, init_params, hyperparams, value.dtype, grads)
        return driver.begin(key, population, full_problem)

    def step(
        state: PopulationLoopState, length: ArrayLike, prune: ArrayLike = True
    ) -> tuple[PopulationLoopState, RungInfo]:
        full_problem = problem_for_rules(state.population.params)
        length = checked_length(length)
        stale = ~state.population.evaluated  # evaluated first, which takes one gradient more
        return driver.advance(
            state,
            full_problem,
            partial(_descend, full_problem, driver, state.key, length),
            length,
            prune,
            estimates=length + stale.astype(jnp.int32),
            carries=BEST + FINITENESS,
            acts=(length > 0) | jnp.any(stale & state.population.alive),
        )

    return PopulationLoop(init, step)


def _descend(
    problem: Problem,
    driver: Driver,
    key: jax.Array,
    length: jax.Array,
    agents: Chunk,
    read: Chunk,
) -> Chunk:
    """Returns a chunk of agents after `length` steps."""
    box = None
    if problem.bounds is not None or problem.unit_box:
        box = problem.box_like(agents["params"])
    keys = estimator_keys(key, read["ids"])
    hyperparams_of_agents = read["hyperparams"]

    def value_and_grad(params: Any, hyperparams: Any, key: jax.Array, made: jax.Array) -> Any:
        key = jax.random.fold_in(key, made)
        return _value_and_grad(problem, box, driver, params, hyperparams, key)

    def evaluate(agents: Chunk) -> Chunk:
        values, grads = jax.vmap(value_and_grad)(
            agents["params"], hyperparams_of_agents, keys, read["evaluations"]
        )
        return _with_values(agents, values, grads, ~read["evaluated"])

    agents = jax.lax.cond(jnp.all(read["evaluated"]), lambda agents: agents, evaluate, agents)
    # The number of evaluations that an agent has made is different at each estimate.
    cost = driver.estimator.evaluations
    made = read["evaluations"] + jnp.where(read["evaluated"], 0, cost)

    def step(agent: Chunk, hyperparams: Any, key: jax.Array, made: jax.Array) -> Chunk:
        tx = driver.optimizer(**hyperparams)
        value, grads, params = agent["values"], agent["grads"], agent["params"]

        def value_in_units(x: Any) -> jax.Array:
            x = x if box is None else box.from_units(x)
            return problem.value(_into_bounds(problem, box, x))

        updates, opt_state = tx.update(
            grads,
            agent["opt_state"],
            params if box is None else box.in_units(params),
            value=value,
            grad=grads,
            value_fn=value_in_units,
        )
        if problem.bounds is not None:
            updates = jax.tree.map(_nudged, updates, grads)
        params = optax.apply_updates(params, _times_scale(box, updates))
        params = _into_bounds(problem, box, params)
        value, grads = value_and_grad(params, hyperparams, key, made)
        better = (value < agent["best_values"]) & jnp.isfinite(value)
        return agent | {
            "params": params,
            "opt_state": opt_state,
            "values": value,
            "grads": grads,
            "best_params": optax.tree.where(better, params, agent["best_params"]),
            "best_values": jnp.where(better, value, agent["best_values"]),
            "nonfinite_streak": jnp.where(jnp.isfinite(value), 0, agent["nonfinite_streak"] + 1),
        }

    def step_all(t: jax.Array, agents: Chunk) -> Chunk:
        return jax.vmap(step)(agents, hyperparams_of_agents, keys, made + t * cost)

    return _judged(problem, jax.lax.fori_loop(0, length, step_all, agents))


def _into_bounds(problem: Problem, box: Box | None, x: Any) -> Any:
    if box is None or problem.bounds is None:
        return x
    return box.move(x, reflect=problem.bounds == "reflect")


def _times_scale(box: Box | None, tree: Any) -> Any:
    return tree if box is None else box.times_scale(tree)


def _value_and_grad(
    problem: Problem, box: Box | None, driver: Driver, params: Any, hyperparams: Any, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Returns the value and the gradient that the optimizer is given, in units of the box."""

    def value_within_bounds(x: Any, *data: Any) -> jax.Array:
        return problem.value_fn(_into_bounds(problem, box, x), *data)

    if driver.estimator is estimators.exact():  # the parameters are within the bounds
        value, grads = problem.value_and_grad(params)
    else:
        scale = None if box is None else box.scale
        # Some estimators are made for one function, and accept no other.
        function = problem.value_fn if problem.bounds is None else value_within_bounds
        estimate = driver.value_and_grad(function, hyperparams, key=key, scale=scale)
        value, grads = estimate(params, *problem.data)
    # The function may be finite at parameters of NaN, which `jnp.where` and `jnp.nansum` ignore.
    value = jnp.where(_has_nan(params), jnp.full_like(value, jnp.nan), value)
    grads = _times_scale(box, grads)
    if box is None or problem.bounds is None:
        return value, grads
    usable = jax.tree.map(partial(_usable, jnp.isfinite(value)), grads)
    return value, box.project_grads(params, usable)


def _usable(is_defined: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns gradients with +-tiny for +-inf and 0 for NaN, where the value is finite."""
    tiny = jnp.finfo(grad.dtype).tiny
    zero = jnp.zeros_like(grad)
    stand_in = jnp.where(grad > 0, zero + tiny, jnp.where(grad < 0, zero - tiny, zero))
    return jnp.where(is_defined & ~jnp.isfinite(grad), stand_in, grad)


def _nudged(update: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns updates that are `NUDGE` downhill where the slope is infinite."""
    tiny = jnp.finfo(grad.dtype).tiny
    return jnp.where(grad == tiny, -NUDGE, jnp.where(grad == -tiny, NUDGE, update))


def _judged(problem: Problem, agents: Chunk) -> Chunk:
    """Returns a chunk at the end of a rung, where agents without a finite value may be removed.

    An agent whose optimizer may find back to finite values is not removed yet: it counts as not
    evaluated. An update of NaN cannot be recovered from. In a problem with bounds, such an agent
    returns to its best point, so that it is within them.
    """
    params = agents["params"]
    may_recover = jnp.isfinite(agents["best_values"]) & jax.vmap(all_finite)(params)
    may_recover &= agents["nonfinite_streak"] < NONFINITE_STREAK
    agents = agents | {"evaluated": jnp.isfinite(agents["values"]) | ~may_recover}
    if problem.bounds is None:
        return agents
    select = partial(where_rows, jax.vmap(_has_nan)(params))
    return agents | {"params": jax.tree.map(select, agents["best_params"], params)}


def _has_nan(params: Any) -> jax.Array:
    """Returns bool[], True if an agent has a parameter that is NaN."""
    return jnp.any(jnp.stack([jnp.any(jnp.isnan(x)) for x in jax.tree.leaves(params)]))


def _with_values(agents: Chunk, values: jax.Array, grads: Any, stale: jax.Array) -> Chunk:
    """Returns a chunk with new values and gradients at the parameters of stale agents."""
    better = stale & (values < agents["best_values"]) & jnp.isfinite(values)
    select = partial(where_rows, better)
    return agents | {
        "values": jnp.where(stale, values, agents["values"]),
        "grads": jax.tree.map(partial(where_rows, stale), grads, agents["grads"]),
        "best_params": jax.tree.map(select, agents["params"], agents["best_params"]),
        "best_values": select(values, agents["best_values"]),
    }


def as_problem(problem: Any, init_params: Any) -> Problem:
    """Returns a problem that fits the agents; a plain function gets an infinite box.

    Raises:
      TypeError: `problem` is neither a function nor a `Problem`.
      ValueError: a plain function has no starts, the starts do not have the box's shapes, or the
        loss is not a scalar.
    """
    if not isinstance(problem, Problem):
        if not callable(problem):
            raise TypeError(
                f"problem must be a function or a jd.Problem, got {validation.shown(problem)}"
            )
        if init_params is None:
            raise ValueError(
                "init_params must be given where problem is a plain function, got None; or pass a "
                "jd.Problem with a box"
            )
        upper = jax.tree.map(lambda x: np.full(x.shape[1:], np.inf, x.dtype), init_params)
        lower = jax.tree.map(np.negative, upper)
        problem = Problem(problem, lower, upper, bounds=None, unit_box=False)
    if init_params is not None:
        agent = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: leaf[0], x), init_params)
        validation.shaped_like(
            "init_params", agent, problem.lower, "the problem's box, agent by agent", STACKING
        )
        with noting_one_agent("problem", agent):
            value = jax.eval_shape(problem.value, agent)
        validation.check_scalar("problem", value)
    return problem
