"""Rules that prune agents, and how often pruning removes the agent that would have been best.

    result = jd.minimize(problem, optimizer, rule=jd.pruning.successive_halving(), ...)

    adaptive               the default: keeps fewer agents the better early ranks predict later ones
    successive_halving     keeps the best 1 / eta
    gap_to_best            prunes by the distance to the best value
    stalled                prunes agents too slow to reach the best value
    predicted_to_lose      prunes agents whose extrapolated curve misses the best value
    until                  ends the run when an agent reaches a target value
    no_pruning             keeps all: plain multistart
    chain, delay           apply several rules; let a rule act only after some rungs
    prob_best_pruned       probability that pruning by early ranks removes the final best agent
    rank_correlation, normal_scores, ranks
                           ranks of agents, and how well early ranks predict later ones
    Pruned                 the info that these rules report

Every rule compares values at the end of a rung. An agent whose value is not finite is removed
before the rule acts; an agent just placed by another rule is kept until it has been evaluated.
`jaxdescent/agents/THEORY.md` derives `prob_best_pruned` and `adaptive`.
"""

from jaxdescent.agents.pruning.ranks import normal_scores, rank_correlation, ranks
from jaxdescent.agents.pruning.rules import (
    Pruned,
    adaptive,
    gap_to_best,
    no_pruning,
    predicted_to_lose,
    stalled,
    successive_halving,
    until,
)
from jaxdescent.agents.pruning.selection_risk import prob_best_pruned
from jaxdescent.agents.rule import chain, delay

__all__ = [
    "Pruned",
    "adaptive",
    "chain",
    "delay",
    "gap_to_best",
    "no_pruning",
    "normal_scores",
    "predicted_to_lose",
    "prob_best_pruned",
    "rank_correlation",
    "ranks",
    "stalled",
    "successive_halving",
    "until",
]


def __dir__() -> list[str]:
    return __all__
