"""Rules that copy, perturb and recombine the agents of a population between rungs.

    rule = jd.evolution.differential_evolution()
    result = jd.minimize(problem, optimizer, rule=rule, ...)

    differential_evolution recombines agents; descent begins at the trials
    consensus              moves agents toward a mean that weights low values, with noise
    swarm                  moves mass to the best agent, and merges agents that meet
    backtracking_descent   the optimizer of a swarm: light agents take longer steps
    Selected, Consensus, Swarm
                           the infos that these rules report
    BacktrackingState      the state of `backtracking_descent`
    graduated_descent      a search, not a rule: minimizes a smoothed function while the smoothing
                           decreases
    GraduatedResult        its result

Agents are compared by their values at the end of a rung.
"""

from jaxdescent.evolution.consensus import Consensus, consensus
from jaxdescent.evolution.differential_evolution import Selected, differential_evolution
from jaxdescent.evolution.swarm import BacktrackingState, Swarm, backtracking_descent, swarm
from jaxdescent.global_search import GraduatedResult, graduated_descent

__all__ = [
    "BacktrackingState",
    "Consensus",
    "GraduatedResult",
    "Selected",
    "Swarm",
    "backtracking_descent",
    "consensus",
    "differential_evolution",
    "graduated_descent",
    "swarm",
]


def __dir__() -> list[str]:
    return __all__
