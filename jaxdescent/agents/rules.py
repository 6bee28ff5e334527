"""A rule acts between stretches of descent ("rungs"): it looks at the agents and their losses.

    init:   (key, population, problem) -> rule_state
    update: (key, population, problem, rule_state) -> (population, rule_state, info)

Both are pure and compiled into the run. A rule that only prunes changes nothing but `alive`; one
that moves agents does it by `copy_agents` and `place_agents`. State is carried from rung to rung,
info is reported, one per rung.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxdescent import validation
from jaxdescent.agents.population import Population


class Rule(NamedTuple):
    """What happens to a population between rungs.

    Attributes:
      init: from (key, population, problem) to the rule's state. The population stands at its
        starts; nothing has been evaluated.
      update: from (key, population, problem, rule_state) to (population, rule_state, info).
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Population, Any, Any]]


def chain(*rules: Rule) -> Rule:
    """Rules one after the other, at every rung; each sees what the last one left.

    Raises:
      ValueError: there is none.
      TypeError: one is no rule.

    Example:
      >>> import jaxdescent as jd
      >>> rule = jd.pruning.chain(jd.pruning.stalled(), jd.pruning.successive_halving())
    """
    if not rules:
        raise ValueError("rules must be at least one rule, got none")
    for rule in rules:
        check_rule("rules", rule)

    def init(key: jax.Array, population: Population, problem: Any) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(rules))
        return tuple(rule.init(k, population, problem) for rule, k in zip(rules, keys, strict=True))

    def update(key: jax.Array, population: Population, problem: Any, states: Any) -> Any:
        keys = jax.random.split(key, len(rules))
        after, infos = [], []
        for rule, k, state in zip(rules, keys, states, strict=True):
            population, state, info = rule.update(k, population, problem, state)
            after.append(state)
            infos.append(info)
        return population, tuple(after), tuple(infos)

    return Rule(init, update)


def delay(rungs: int, rule: Rule) -> Rule:
    """A rule that waits: it sees every rung, but its changes are dropped at the first ones.

    What it reports of these is what it would have done.

    Args:
      rungs: how many, at least 0.
      rule: that acts from the next rung on.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: it is no rule.
    """
    validation.integer_in("rungs", rungs, 0)
    check_rule("rule", rule)

    def init(key: jax.Array, population: Population, problem: Any) -> tuple[jax.Array, Any]:
        return jax.numpy.zeros((), jax.numpy.int32), rule.init(key, population, problem)

    def update(key: jax.Array, population: Population, problem: Any, state: Any) -> Any:
        seen, state = state
        changed, state, info = rule.update(key, population, problem, state)
        pick = lambda new, old: new if new is old else jax.numpy.where(seen < rungs, old, new)
        population = jax.tree.map(pick, changed, population)
        return population, (seen + 1, state), info

    return Rule(init, update)


def act(
    rule: Rule, key: jax.Array, population: Population, problem: Any, state: Any
) -> tuple[Population, Any, Any]:
    """What a rule makes of a population and of its state, and its report.

    Raises:
      ValueError: a run cannot go on with it, since structure, shapes or types have changed.
    """
    answer = rule.update(key, population, problem, state)
    if not (isinstance(answer, tuple) and len(answer) == 3):
        raise ValueError(f"rule must return (population, rule_state, info), got {answer!r}")
    after, new_state, _ = answer
    for name, new, old in (("population", after, population), ("rule_state", new_state, state)):
        if jax.tree.structure(new) != jax.tree.structure(old):
            raise ValueError(
                f"rule must return a {name} of the structure it was given, "
                f"{jax.tree.structure(old)}, got {jax.tree.structure(new)}"
            )
        leaves = jax.tree.leaves(new), jax.tree_util.tree_leaves_with_path(old)
        for leaf, (path, given) in zip(*leaves, strict=True):
            if _kind(leaf) != _kind(given):
                raise ValueError(
                    f"rule must return a {name} of the shapes and types it was given, got "
                    f"{_kind(leaf)} for {_kind(given)} at {name}{jax.tree_util.keystr(path)}"
                )
    return answer


def _kind(leaf: Any) -> str:
    return f"{getattr(leaf, 'dtype', None) or jax.numpy.result_type(leaf)}{jax.numpy.shape(leaf)}"


def check_rule(name: str, value: Any) -> None:
    """Raises TypeError if this is no rule, with the usual mistake in mind."""
    if isinstance(value, Rule):
        return
    hint = "; call it first, as in jd.pruning.successive_halving()" if callable(value) else ""
    raise TypeError(f"{name} must be a Rule, such as one of jd.pruning, got {value!r}{hint}")
