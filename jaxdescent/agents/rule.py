"""The protocol of rules, which act on a population between rungs, and combinators of rules.

    init:   (key, population, problem) -> rule_state
    update: (key, population, problem, rule_state) -> (population, rule_state, info)

Both functions are pure and compiled into the loop. A rule that only prunes changes only `alive`; a
rule that moves agents uses `copy_agents` and `place_agents`. Parameters are in the problem's own
coordinates; gradients and optimizer states are in units of `problem.scale`. The loop moves
parameters that a rule has changed into the problem's bounds. State is carried from rung to rung;
info is only reported, once for each rung.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.agents.population import Population


class Rule(NamedTuple):
    """A function that acts on a population between rungs, with its state.

    Attributes:
      init: Called as `init(key, population, problem)` before the first evaluation, with agents at
        their starts; returns the rule's state.
      update: Called as `update(key, population, problem, rule_state)` after each rung; returns
        `(population, rule_state, info)`.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Population, Any, Any]]


def chain(*rules: Rule) -> Rule:
    """Applies rules one after another at every rung; each receives the previous one's result.

    Raises:
      ValueError: there are no rules.
      TypeError: an argument is not a `Rule`.

    Example:
      >>> import jaxdescent as jd
      >>> rule = jd.pruning.chain(jd.pruning.stalled(), jd.pruning.successive_halving())
    """
    if not rules:
        raise ValueError("rules must be at least one Rule, got ()")
    for rule in rules:
        check_rule("rules", rule)

    def init(key: jax.Array, population: Population, problem: Any) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(rules))
        return tuple(rule.init(k, population, problem) for rule, k in zip(rules, keys, strict=True))

    def update(key: jax.Array, population: Population, problem: Any, states: Any) -> Any:
        keys = jax.random.split(key, len(rules))
        new_states, infos = [], []
        for rule, k, state in zip(rules, keys, states, strict=True):
            population, state, info = rule.update(k, population, problem, state)
            new_states.append(state)
            infos.append(info)
        return population, tuple(new_states), tuple(infos)

    return Rule(init, update)


def delay(rungs: int, rule: Rule) -> Rule:
    """Lets a rule observe every rung, but change the population only after the first rungs.

    During these first rungs, its info reports what the rule would have done.

    Args:
      rungs: number of rungs without changes, at least 0.
      rule: the rule to delay.

    Raises:
      ValueError: `rungs` is out of its range.
      TypeError: `rule` is not a `Rule`.
    """
    validation.integer_in("rungs", rungs, 0)
    check_rule("rule", rule)

    def init(key: jax.Array, population: Population, problem: Any) -> tuple[jax.Array, Any]:
        return jnp.zeros((), jnp.int32), rule.init(key, population, problem)

    def update(key: jax.Array, population: Population, problem: Any, state: Any) -> Any:
        seen, state = state
        changed, state, info = rule.update(key, population, problem, state)

        def select(new: Any, old: Any) -> Any:
            return new if new is old else jnp.where(seen < rungs, old, new)

        return jax.tree.map(select, changed, population), (seen + 1, state), info

    return Rule(init, update)


def apply_rule(
    rule: Rule, key: jax.Array, population: Population, problem: Any, state: Any
) -> tuple[Population, Any, Any]:
    """Returns the population, the rule's state and its info after one action of the rule.

    Raises:
      ValueError: the rule changes structure, shapes or dtypes, so that the loop cannot continue.
    """
    result = rule.update(key, population, problem, state)
    if not (isinstance(result, tuple) and len(result) == 3):
        raise ValueError(
            f"rule must return (population, rule_state, info), got {validation.shown(result)}"
        )
    new_population, new_state, _ = result
    for name, new, old in (
        ("population", new_population, population),
        ("rule_state", new_state, state),
    ):
        if jax.tree.structure(new) != jax.tree.structure(old):
            raise ValueError(
                f"rule must return a {name} of the structure it was given, "
                f"{jax.tree.structure(old)}, got {jax.tree.structure(new)}"
            )
        leaves = jax.tree.leaves(new), jax.tree_util.tree_leaves_with_path(old)
        for leaf, (path, given) in zip(*leaves, strict=True):
            if _shape_and_dtype(leaf) != _shape_and_dtype(given):
                raise ValueError(
                    f"rule must return a {name} of the shapes and dtypes it was given, got "
                    f"{_shape_and_dtype(leaf)} for {_shape_and_dtype(given)} at "
                    f"{name}{jax.tree_util.keystr(path)}"
                )
    return result


def _shape_and_dtype(leaf: Any) -> str:
    return f"{getattr(leaf, 'dtype', None) or jnp.result_type(leaf)}{jnp.shape(leaf)}"


def check_rule(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a `Rule`, such as a rule function that was not called."""
    if isinstance(value, Rule):
        return
    hint = "; call it first, as in jd.pruning.successive_halving()" if callable(value) else ""
    raise TypeError(f"{name} must be a Rule, such as those in jd.pruning, got {value!r}{hint}")
