"""The rules that prune the agents of a training run. A line of `RULES` adds one."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import jaxdescent as jd

RULES: dict[str, Callable[..., jd.Rule]] = {
    "successive_halving": jd.pruning.successive_halving,
    "adaptive": jd.pruning.adaptive,
    "gap_to_best": jd.pruning.gap_to_best,
    "stalled": jd.pruning.stalled,
    "predicted_to_lose": jd.pruning.predicted_to_lose,
    "no_pruning": jd.pruning.no_pruning,
}
DEFAULT = "successive_halving"


def make_rule(name: str | None, evaluations: int) -> jd.Rule:
    """Returns a rule that acts after each evaluation.

    Raises:
      ValueError: the rule needs more evaluations.
    """
    rule = RULES[name or DEFAULT]
    if "total_rungs" not in inspect.signature(rule).parameters:
        return rule()
    if evaluations < 3:
        raise ValueError(
            f"--rule {name} needs at least 3 evaluations, got {evaluations}; lower --evaluate-every"
        )
    return rule(total_rungs=evaluations)


if TYPE_CHECKING:
    RuleName = str
else:
    RuleName = Literal[*RULES]
