"""Minimizes a deterministic function with many agents: `minimize_loop` as one compiled program.

Either every rung has the same number of steps, or every rung has the same number of gradients
(`rungs.py`).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import (
    check_agents,
    checked_hyperparams,
    count_agents,
    params_of_agents,
)
from jaxdescent.agents.loops.driver import Driver, make_driver
from jaxdescent.agents.loops.minimize_loop import as_problem, loop_of
from jaxdescent.agents.loops.population_loop import (
    PopulationLoopState,
    PopulationResult,
    RungInfo,
    population_result,
    warn_if_undefined,
)
from jaxdescent.agents.loops.rungs import RungPlan, rung_plan, scan_rungs
from jaxdescent.agents.rule import Rule
from jaxdescent.estimators.estimator import Estimator
from jaxdescent.global_search.hybrid import HybridResult, hybrid
from jaxdescent.problem import Problem, in_bounds
from jaxdescent.programs import compiled


@overload
def minimize(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: None = None,
    *,
    bounds: tuple[Any, Any] | None = None,
    key: jax.Array | None = None,
    max_evaluations: int | None = None,
    target: float | None = None,
) -> HybridResult: ...


@overload
def minimize(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any,
    *,
    bounds: tuple[Any, Any] | None = None,
    key: jax.Array | None = None,
    num_agents: int | None = None,
    init_params: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    steps: int | None = None,
    steps_per_rung: int | None = None,
    gradient_budget: int | None = None,
    num_rungs: int | None = None,
    estimator: Estimator | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationResult: ...


def minimize(
    problem: Problem | Callable[[Any], jax.Array],
    optimizer: Any = None,
    *,
    bounds: tuple[Any, Any] | None = None,
    key: jax.Array | None = None,
    max_evaluations: int | None = None,
    target: float | None = None,
    num_agents: int | None = None,
    init_params: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    steps: int | None = None,
    steps_per_rung: int | None = None,
    gradient_budget: int | None = None,
    num_rungs: int | None = None,
    estimator: Estimator | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationResult | HybridResult:
    """Minimizes a function: globally in a box, or with many agents that descend by an optimizer.

    Without an optimizer, `minimize(function, bounds=(lower, upper), key=key)` is `jd.hybrid`: there
    is nothing to choose. Only `bounds`, `key`, `max_evaluations` and `target` may then be given,
    and the result is a `HybridResult`.

    With an optimizer, many agents descend, and agents with high values are pruned on the way. Give
    either `steps` or `gradient_budget`; there are ten rungs by default. The compiled program
    is reused for other keys, other initial parameters and other instances of the same problem, if
    the optimizer and the rule are made in the same way, such as by `optax.adam(0.05)`. Functions
    of your own must be the same objects: define them once, outside of a loop. A function's program
    and the arrays that it closes over are freed with the function. The result has no reverse-mode
    derivative, because the number of chunks in a rung is known only at run time.

    Agents stay within a problem's bounds. With a finite box, optimizers see differences from its
    center in units of its width. Learning rates and the jumps of `basin_hopping` are then fractions
    of the width, and weight decay pulls toward the center. Parameters are reported in the problem's
    own coordinates. A function that is not a `Problem` has neither bounds nor units.

    An agent whose value is not finite at the end of a rung is removed, unless its optimizer may
    recover, as `basin_hopping` does: its parameters are finite, and it had a finite value in its
    last 10 steps. If no agent ever had a finite value, there is a warning, and `result.outcome` is
    `PopulationOutcome.UNDEFINED`. If all gradients were 0 and no agent has moved, as on a function
    made of steps, there is a warning, too.

    Args:
      problem: a function of an agent's parameters, or a `Problem`.
      optimizer: None; or a transformation that all agents share, or a factory such as `optax.adam`
        that is called with each agent's own hyperparameters, as keywords.
      bounds: `(lower, upper)`, trees of arrays or lists of numbers like the parameters, for a
        function. With an optimizer, they are the box from which starts are drawn, as in a
        `Problem`.
      key: random key for starts and for the rule; by default `jax.random.key(0)`.
      max_evaluations: without an optimizer, upper bound on evaluations; by default 10,000 for each
        coordinate.
      target: without an optimizer, stops at the first value of at most this number.
      num_agents: number of agents; by default the number of starts.
      init_params: starts, a tree like the parameters with a leading axis of agents, moved into
        the problem's bounds; by default drawn from its box.
      hyperparams: mapping from keywords to arrays with a leading axis of agents, or to scalars
        that all agents share. Those that the estimator takes, such as "sigma", are not passed to
        the optimizer.
      steps: number of steps of an agent that is never pruned.
      steps_per_rung: with `steps`, number of steps between two actions of the rule; the last
        rung may be shorter. By default `num_rungs` decides.
      gradient_budget: upper bound on the gradients that all agents compute together. Each rung
        gets an equal share of the remaining budget, divided by the number of alive agents and
        rounded down; a rung of no steps changes nothing. Gradients within an optimizer's line
        search are not counted. With an estimator it bounds the evaluations instead: each step of
        an agent takes `estimator.evaluations` of them.
      num_rungs: number of rungs, 10 by default. With `steps`, rungs differ in length by at most
        one step, the longer first, and there are at most `steps` of them.
      estimator: obtains gradients in another way, such as `jd.estimators.smoothed(0.1)`; by default
        they are computed by differentiation. Its lengths are in units of the problem's box, as
        learning rates are; points beyond the bounds are moved into them. Agents draw different
        random numbers in each step.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      prune: if False, agents that the rule removes continue descending, which shows the result that
        they would have had. This does not affect other agents; gradients may exceed their budget.
      chunk_size: number of agents that descend side by side, rounded up to a multiple of 8 or,
        below 8, to a power of two; by default as many as a cache holds.
      record_params: whether the history has all parameters at the end of each rung.
      mesh: mesh over whose axis "agents", or only axis, agents are sharded. Survivors are
        distributed evenly over it in each rung. The compiler may divide the work of an agent among
        the devices of other axes, for example where the loss constrains the sharding of a batch.

    Raises:
      ValueError: an argument is out of its range, shapes disagree, or the loss is not a scalar.
      TypeError: the problem, the optimizer, the estimator, the rule, the mesh or the key has the
        wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def rastrigin(x):
      ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
      >>> box = jnp.full(2, 5.12)
      >>> result = jd.minimize(rastrigin, bounds=(-box, box), target=1e-4)
      >>> bool(result.value <= 1e-4), jd.StopReason(int(result.stop_reason)).name
      (True, 'TARGET')

      With agents:

      >>> result = jd.minimize(
      ...     rastrigin, optax.adam(0.005), bounds=(-box, box), num_agents=256,
      ...     gradient_budget=20_000, num_rungs=8, rule=jd.pruning.successive_halving(),
      ...     key=jax.random.key(0))
      >>> bool(result.value < 1e-4), result.gradients <= 20_000
      (True, True)
    """
    if optimizer is None:
        _check_left_out(
            "without an optimizer, by which agents descend, such as optax.adam(0.01)",
            num_agents=num_agents,
            init_params=init_params,
            hyperparams=hyperparams,
            steps=steps,
            steps_per_rung=steps_per_rung,
            gradient_budget=gradient_budget,
            num_rungs=num_rungs,
            estimator=estimator,
            rule=rule,
            chunk_size=chunk_size,
            record_params=record_params or None,
            mesh=mesh,
        )
        return hybrid(
            problem, bounds=bounds, key=key, max_evaluations=max_evaluations, target=target
        )
    _check_left_out("with an optimizer; give gradient_budget", max_evaluations=max_evaluations)
    _check_left_out("with an optimizer; give rule=jd.pruning.until(target)", target=target)
    if bounds is not None:
        problem = in_bounds(problem, bounds)
    if init_params is None and num_agents is None:
        raise ValueError("num_agents or init_params must be given, got neither")
    if init_params is not None:
        init_params = params_of_agents(init_params)
        starts = count_agents("init_params", init_params)
        num_agents = starts if num_agents is None else num_agents
    num_agents = validation.integer_in("num_agents", num_agents, 1)
    driver = make_driver(optimizer, num_agents, estimator, rule, chunk_size, record_params, mesh)
    plan = rung_plan(
        steps,
        steps_per_rung=steps_per_rung,
        gradient_budget=gradient_budget,
        num_rungs=num_rungs,
        num_agents=num_agents,
        evaluates_first=True,
        cost=driver.estimator.evaluations,
    )
    validation.boolean("prune", prune)
    hyperparams = checked_hyperparams(hyperparams)
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    if init_params is not None:
        check_agents("init_params", init_params, num_agents)
        validation.check_floating("init_params", init_params, validation.PARTITION)
    problem = as_problem(problem, init_params)
    if init_params is None:
        problem.check_starts()
    result, is_flat = _minimize(problem, key, init_params, hyperparams, plan, prune, driver=driver)
    if validation.is_concrete(is_flat) and is_flat:
        warnings.warn(
            "the gradient must differ from 0 for at least one agent, got 0 for all "
            f"{num_agents}, and no agent has moved. Unless the starts are minima, pass "
            "estimator=jd.estimators.smoothed(0.1), or use jd.hybrid, which also compares values",
            RuntimeWarning,
            stacklevel=2,
        )
    return warn_if_undefined(result, problem.value)


def _check_left_out(reason: str, **arguments: Any) -> None:
    """Raises ValueError if an argument is given that only the other form of `minimize` has."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{name} must be left out {reason}, got {name}={validation.shown(value)}"
            )


@compiled("driver")
def _minimize(
    problem: Problem,
    key: jax.Array,
    init_params: Any,
    hyperparams: Any,
    plan: RungPlan,
    prune: ArrayLike,
    *,
    driver: Driver,
) -> tuple[PopulationResult, jax.Array]:
    """Returns the result, and whether no agent has moved because all gradients were 0."""
    loop = loop_of(problem, driver)
    first = loop.init(key, init_params, hyperparams)

    def step(state: PopulationLoopState, length: jax.Array) -> tuple[PopulationLoopState, RungInfo]:
        return loop.step(state, length, prune)

    state, history = scan_rungs(step, first, plan)
    start, end = first.population.params, state.population
    is_flat = (state.steps > 0) & _all_equal(end.params, start)
    is_flat &= _all_equal(end.grads, jax.tree.map(jnp.zeros_like, end.grads))
    return population_result(state, history), is_flat


def _all_equal(tree: Any, other: Any) -> jax.Array:
    equal = jax.tree.map(lambda x, y: jnp.all(x == y), tree, other)
    return jax.tree.reduce(jnp.logical_and, equal, jnp.ones((), bool))
