"""Multi-agent gradient descent as one transformation, with pruning.

Parameters have a leading axis of agents. `update(grads, state, params, value=losses)` moves only
the agents that are alive:

    updates_i = the optimizer's update of agent i     if alive_i, else 0
    alive     <- rule(values)                         every `steps_per_rung` updates, before one

A loss that is not finite does not count, because one bad batch must not remove an agent whose
optimizer skips it: the rule sees the last finite one.

Any training loop can use it. Pruned agents still cost as much as other agents; `minimize` and `fit`
save this cost.

Source: M. Sakka, M. Bahrami 2025, Applied Sciences 15(4) 2008 (independent agents that are pruned).
Its rule is not public; ours are in `jd.pruning`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, validation
from jaxdescent.agents import pruning
from jaxdescent.agents.arguments import (
    check_agents,
    checked_hyperparams,
    count_agents,
    for_each_agent,
    optimizer_factory,
)
from jaxdescent.agents.population import NONFINITE_STREAK, Population, initial_opt_states
from jaxdescent.agents.rule import Rule, apply_rule, check_rule
from jaxdescent.chunking import where_rows
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import all_finite, widest_float


class MagdState(NamedTuple):
    """State of `magd`.

    Attributes:
      opt_state: the optimizer state of each agent.
      alive: bool[agents], True where the agent is not pruned.
      age: i32[agents], number of updates until now, or until the agent was pruned.
      values: f[agents], the last finite value of each agent; NaN before the first.
      best_values: f[agents], the least value of each agent so far; inf before the first.
      nonfinite_streak: i32[agents], number of successive values up to now that were not finite.
      nonfinite_losses: i32[agents], number of all such values while the agent was alive.
      not_finite: i32[], number of agents removed because their parameters would not have been
        finite, or too many successive values were not.
      count: i32[], number of updates so far.
      rule_state: the rule's state.
    """

    opt_state: Any
    alive: jax.Array
    age: jax.Array
    values: jax.Array
    best_values: jax.Array
    nonfinite_streak: jax.Array
    nonfinite_losses: jax.Array
    not_finite: jax.Array
    count: jax.Array
    rule_state: Any


def magd(
    optimizer: Any,
    rule: Rule | None = None,
    *,
    steps_per_rung: int = 100,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation of many agents that prunes agents with high values.

    Args:
      optimizer: a transformation that all agents share, or a factory such as `optax.adam` that
        is called with each agent's own hyperparameters, as keywords.
      rule: acts every `steps_per_rung` updates; it may only prune. By default
        `jd.pruning.adaptive()`.
      steps_per_rung: number of updates between two actions of the rule, at least 1.
      hyperparams: mapping from keywords to arrays with a leading axis of agents, or to scalars
        that all agents share.
      seed: seed of the rule's random numbers.

    Returns:
      A transformation whose `update` takes `value`, f[agents], the losses at `params`. Of its other
      keyword arguments, `grad` has an agent axis and all others are shared. Pruned agents get zero
      updates. An agent whose update or parameters are not finite is pruned at once, before it
      moves. An agent is also pruned after `steps_per_rung` successive values that are not finite,
      at least 10.

    Raises:
      ValueError: an argument is out of its range; at tracing, leaves disagree on the leading axis,
        `value` does not have one value for each agent, or the rule moves agents.
      TypeError: the optimizer or the rule has the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x):
      ...     return jnp.sum(x**4 - 3 * x**2 + x)
      >>> tx = jd.magd(optax.adam(0.05), jd.pruning.successive_halving(), steps_per_rung=25)
      >>> agents = jnp.linspace(-2.0, 2.0, 8)[:, None]
      >>> state = tx.init(agents)
      >>> @jax.jit
      ... def step(agents, state):
      ...     values, grads = jax.vmap(jax.value_and_grad(loss))(agents)
      ...     updates, state = tx.update(grads, state, agents, value=values)
      ...     return optax.apply_updates(agents, updates), state
      >>> for _ in range(100):
      ...     agents, state = step(agents, state)
      >>> state.alive.tolist(), round(float(state.best_values.min()), 3)
      ([False, True, False, False, False, False, False, False], -3.514)
    """
    factory = optimizer_factory(optimizer)
    rule = pruning.adaptive() if rule is None else rule
    check_rule("rule", rule)
    validation.integer_in("steps_per_rung", steps_per_rung, 1)
    validation.integer_in("seed", seed, 0)
    given_hyperparams = checked_hyperparams(hyperparams)

    def init(params: Any) -> MagdState:
        params = validation.arrays("params", jax.tree.map(_as_array, params), validation.PARTITION)
        # `optax.tree.map_params` initializes a placeholder without leaves.
        agents = count_agents("params", params) if jax.tree.leaves(params) else 1
        check_agents("params", params, agents)
        agent_hyperparams = for_each_agent(given_hyperparams, agents)
        state = MagdState(
            opt_state=initial_opt_states(factory, params, agent_hyperparams, jnp.arange(agents)),
            alive=jnp.ones(agents, bool),
            age=jnp.zeros(agents, jnp.int32),
            values=jnp.full(agents, jnp.nan, widest_float(params)),
            best_values=jnp.full(agents, jnp.inf, widest_float(params)),
            nonfinite_streak=jnp.zeros(agents, jnp.int32),
            nonfinite_losses=jnp.zeros(agents, jnp.int32),
            not_finite=jnp.zeros((), jnp.int32),
            count=jnp.zeros((), jnp.int32),
            rule_state=None,
        )
        population = _population(state, params, agent_hyperparams)
        rule_state = rule.init(jax.random.key(seed), population, None)
        return state._replace(rule_state=rule_state)

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, MagdState]:
        agents = state.alive.shape
        params = containers.params_like(params, updates)
        check_agents("updates", updates, *agents)
        shape = None if value is None else jnp.shape(value)
        if shape != agents:
            hint = f"; update needs {validation.MISSING_VALUE}" if value is None else ""
            raise ValueError(
                f"value must be the losses of the agents, of shape {agents}, got {shape}{hint}"
            )
        agent_hyperparams = for_each_agent(given_hyperparams, *agents)
        value = jnp.asarray(value, state.values.dtype)
        state = _with_values(state, value, max(steps_per_rung, NONFINITE_STREAK))
        is_due = (state.count > 0) & (state.count % steps_per_rung == 0)
        key = jax.random.fold_in(jax.random.key(seed), state.count)

        def prune(state: MagdState) -> MagdState:
            return _prune(rule, key, state, params, agent_hyperparams)

        state = jax.lax.cond(is_due, prune, lambda state: state, state)

        # `grad`, an argument of optax's line searches, has an agent axis.
        mapped = {"grad": extra.pop("grad")} if "grad" in extra else {}
        mapped |= {"value": value}

        def update_one(
            grads: Any, opt_state: Any, params: Any, hyperparams: Any, mapped: Any
        ) -> Any:
            tx = factory(**hyperparams)
            return tx.update(grads, opt_state, params, **mapped, **extra)

        new_updates, opt_state = jax.vmap(update_one)(
            updates, state.opt_state, params, agent_hyperparams, mapped
        )
        moved = new_updates if params is None else optax.apply_updates(params, new_updates)
        finite = jax.vmap(all_finite)(moved)
        broken = state.alive & ~finite
        alive = state.alive & finite
        select = partial(where_rows, alive)
        zeros = jax.tree.map(jnp.zeros_like, new_updates)
        new_state = state._replace(
            opt_state=jax.tree.map(select, opt_state, state.opt_state),
            alive=alive,
            age=state.age + alive.astype(jnp.int32),
            not_finite=state.not_finite + jnp.sum(broken, dtype=jnp.int32),
            count=jnp.asarray(optax.safe_increment(state.count)),
        )
        return jax.tree.map(select, new_updates, zeros), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _with_values(state: MagdState, value: jax.Array, streak_limit: int) -> MagdState:
    """Returns the state after it has seen the values of a step, f[agents]."""
    finite = jnp.isfinite(value)
    bad = state.alive & ~finite
    streak = jnp.where(finite, 0, state.nonfinite_streak + 1)
    diverged = state.alive & (streak >= streak_limit)
    seen = state.alive & finite
    return state._replace(
        alive=state.alive & ~diverged,
        values=jnp.where(seen, value, state.values),
        best_values=jnp.where(seen, jnp.fmin(state.best_values, value), state.best_values),
        nonfinite_streak=streak,
        nonfinite_losses=state.nonfinite_losses + bad.astype(jnp.int32),
        not_finite=state.not_finite + jnp.sum(diverged, dtype=jnp.int32),
    )


def _prune(
    rule: Rule, key: jax.Array, state: MagdState, params: Any, hyperparams: Any
) -> MagdState:
    """Returns the state after one action of the rule."""
    population = _population(state, params, hyperparams)
    after, rule_state, _ = apply_rule(rule, key, population, None, state.rule_state)
    unpruned = after._replace(alive=population.alive)
    leaves = zip(jax.tree.leaves(unpruned), jax.tree.leaves(population), strict=True)
    if any(new is not old for new, old in leaves):
        raise ValueError(
            "rule must only prune agents in jd.magd, got a rule that moves them; use jd.minimize "
            "or jd.fit"
        )
    return state._replace(alive=state.alive & after.alive, rule_state=rule_state)


def _population(state: MagdState, params: Any, hyperparams: Any) -> Population:
    ids = jnp.arange(len(state.alive), dtype=jnp.int32)
    return Population(
        params=params,
        hyperparams=hyperparams,
        opt_state=state.opt_state,
        model_state=(),
        values=state.values,
        grads=(),
        evaluated=jnp.isfinite(state.values),
        alive=state.alive,
        ids=ids,
        ancestors=ids,
        age=state.age,
        best_params=params,
        best_model_state=(),
        best_values=state.best_values,
        evaluations=state.age,
        gradients=state.age,
        nonfinite_streak=state.nonfinite_streak,
        maximize=jnp.zeros_like(state.alive),
    )


def _as_array(leaf: Any) -> jax.Array:
    """Returns zeros for a `jax.ShapeDtypeStruct`, since `vmap` needs arrays."""
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
