"""Evolution combined with gradients: searches for global minima, and rules that move agents.

result = jd.minimize(problem, optimizer, rule=jd.evolution.differential_evolution(), ...)

differential_evolution
                  recombines agents between rungs; descent begins at the trials
hybrid            finds the global minimum of a function with gradients, with nothing to tune
HybridResult, HybridHistory, StopReason
                  its result
Selected          the info that the rules report
"""

from jaxdescent.evolution.consensus import Consensus, consensus
from jaxdescent.evolution.differential_evolution import Selected, differential_evolution
from jaxdescent.evolution.graduated_descent import GraduatedResult, graduated_descent
from jaxdescent.evolution.hybrid import HybridHistory, HybridResult, StopReason, hybrid
from jaxdescent.evolution.swarm import BacktrackingState, Swarm, backtracking_descent, swarm

__all__ = [
    "BacktrackingState",
    "Consensus",
    "GraduatedResult",
    "HybridHistory",
    "HybridResult",
    "Selected",
    "StopReason",
    "Swarm",
    "backtracking_descent",
    "consensus",
    "differential_evolution",
    "graduated_descent",
    "hybrid",
    "swarm",
]


def __dir__() -> list[str]:
    return __all__
