"""Many agents as one transformation, those that fall behind removed on the way.

Parameters carry an agent axis, and `update(grads, state, params, value=losses)` moves the living:

    updates_i = optimizer's, of agent i alone     if alive_i, else 0
    alive    <- rule(values)                      every `rung` updates, before the update

so that any training loop can have it. The pruned cost what they cost before: what saves their
work is a driver, `minimize` or `fit`.

Many agents that descend on their own and are pruned: M. Sakka, M. Bahrami 2025, Applied Sciences
15(4) 2008. Its rule is not public; ours are `jd.pruning`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents import pruning
from jaxdescent.agents.arguments import check_agents, checked_hyperparams, factory
from jaxdescent.agents.population import Population, own_state
from jaxdescent.agents.rules import Rule, act, check_rule
from jaxdescent.chunking import where_rows


class MagdState(NamedTuple):
    """The state of `magd`.

    Attributes:
      opt_state: of each agent's optimizer.
      alive: bool[agents].
      age: i32[agents], updates until an agent was removed.
      best_values: f[agents], the least value each has had; inf before the first.
      not_finite: i32[], agents removed because their value or update was not finite.
      count: i32[], updates so far.
      rule_state: the rule's.
    """

    opt_state: Any
    alive: jax.Array
    age: jax.Array
    best_values: jax.Array
    not_finite: jax.Array
    count: jax.Array
    rule_state: Any


def magd(
    optimizer: Any,
    rule: Rule | None = None,
    *,
    rung: int = 100,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """A transformation of many agents that removes those that fall behind.

    Args:
      optimizer: a transformation that all share, or a factory such as `optax.adam` that is
        called with each agent's own hyperparameters, as keywords.
      rule: acts every `rung` updates; it may only prune. By default `jd.pruning.adaptive()`.
      rung: updates between two actions, at least 1.
      hyperparams: from keyword to an array with a leading axis of agents.
      seed: of what the rule draws.

    Returns:
      A transformation whose `update` takes `value`, f[agents], the losses at `params`; of other
      arguments `grad` is each agent's own, and what else there is all agents'. Removed agents
      get zero updates, and so do at once those whose value or update is not finite.

    Raises:
      ValueError: an argument is out of its range; later, at tracing, leaves that disagree on
        the leading axis, values that are not one per agent, or a rule that moves agents.
      TypeError: the optimizer or the rule is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> loss = lambda x: jnp.sum(x**4 - 3 * x**2 + x)
      >>> tx = jd.magd(optax.adam(0.05), jd.pruning.successive_halving(), rung=25)
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
    optimizer = factory(optimizer)
    rule = pruning.adaptive() if rule is None else rule
    check_rule("rule", rule)
    validation.integer_in("rung", rung, 1)
    validation.integer_in("seed", seed, 0)
    own = checked_hyperparams(hyperparams)

    def init(params: Any) -> MagdState:
        params = jax.tree.map(_array, params)
        leaves = jax.tree.leaves(params)
        # `optax.tree.map_params` asks for the state of a placeholder without leaves.
        agents = _num_agents(leaves) if leaves else 1
        check_agents("params", params, agents)
        check_agents("hyperparams", own, agents)
        dtype = jnp.float64 if any(x.dtype == jnp.float64 for x in leaves) else jnp.float32
        state = MagdState(
            opt_state=own_state(optimizer, params, own, jnp.arange(agents)),
            alive=jnp.ones(agents, bool),
            age=jnp.zeros(agents, jnp.int32),
            best_values=jnp.full(agents, jnp.inf, dtype),
            not_finite=jnp.zeros((), jnp.int32),
            count=jnp.zeros((), jnp.int32),
            rule_state=None,
        )
        population = _population(state, params, own, state.best_values)
        rule_state = rule.init(jax.random.key(seed), population, None)
        return state._replace(rule_state=rule_state)

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, MagdState]:
        agents = state.alive.shape
        check_agents("updates", updates, *agents)
        shape = None if value is None else jnp.shape(value)
        if shape != agents:
            raise ValueError(
                f"value must be the losses of the agents, of shape {agents}, got {shape}"
            )
        value = jnp.asarray(value, state.best_values.dtype)
        finite = jnp.isfinite(value)
        state = state._replace(
            alive=state.alive & finite,
            not_finite=state.not_finite + jnp.sum(state.alive & ~finite, dtype=jnp.int32),
            best_values=jnp.where(
                state.alive & finite, jnp.fmin(state.best_values, value), state.best_values
            ),
        )
        due = (state.count > 0) & (state.count % rung == 0)
        key = jax.random.fold_in(jax.random.key(seed), state.count)
        ruled = lambda state: _ruled(rule, key, state, params, own, value)
        state = jax.lax.cond(due, ruled, lambda state: state, state)

        # The one argument of optax's line searches that is an agent's own.
        each = {"grad": extra.pop("grad")} if "grad" in extra else {}

        def one(grads: Any, opt_state: Any, params: Any, own: Any, mapped: Any) -> Any:
            return optimizer(**own).update(grads, opt_state, params, **mapped, **extra)

        each |= {"value": value}
        moved, opt_state = jax.vmap(one)(updates, state.opt_state, params, own, each)
        sound = jnp.ones(agents, bool)
        for leaf in jax.tree.leaves(moved):
            sound &= jnp.all(jnp.isfinite(leaf.reshape(len(leaf), -1)), axis=1)
        broken = state.alive & ~sound
        alive = state.alive & sound
        zeros = jax.tree.map(jnp.zeros_like, moved)
        return jax.tree.map(lambda new, old: where_rows(alive, new, old), moved, zeros), (
            state._replace(
                opt_state=jax.tree.map(
                    lambda new, old: where_rows(alive, new, old), opt_state, state.opt_state
                ),
                alive=alive,
                age=state.age + alive.astype(jnp.int32),
                not_finite=state.not_finite + jnp.sum(broken, dtype=jnp.int32),
                count=jnp.asarray(optax.safe_increment(state.count)),
            )
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _ruled(
    rule: Rule, key: jax.Array, state: MagdState, params: Any, own: Any, value: jax.Array
) -> MagdState:
    """The state after the rule has looked at the agents."""
    population = _population(state, params, own, value)
    after, rule_state, _ = act(rule, key, population, None, state.rule_state)
    moved = after._replace(alive=population.alive)
    if any(
        new is not old for new, old in zip(*map(jax.tree.leaves, (moved, population)), strict=True)
    ):
        raise ValueError(
            "rule must only prune inside of magd, got one that moves agents; drive it by "
            "jd.minimize or jd.fit"
        )
    return state._replace(alive=state.alive & after.alive, rule_state=rule_state)


def _population(state: MagdState, params: Any, own: Any, value: jax.Array) -> Population:
    ids = jnp.arange(len(state.alive), dtype=jnp.int32)
    return Population(
        params=params,
        hyperparams=own,
        opt_state=state.opt_state,
        model_state=(),
        values=value,
        grads=(),
        evaluated=jnp.ones_like(state.alive),
        alive=state.alive,
        ids=ids,
        ancestors=ids,
        age=state.age,
        best_params=params,
        best_model_state=(),
        best_values=state.best_values,
        evaluations=state.age,
        gradients=state.age,
    )


def _array(leaf: Any) -> jax.Array:
    """Zeros where there is only a shape: `vmap` takes no less than arrays."""
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _num_agents(leaves: list[jax.Array]) -> int:
    shape = jnp.shape(leaves[0])
    if not shape or not shape[0]:
        raise ValueError(f"params must have a leading axis of agents, got shape {shape}")
    return shape[0]
