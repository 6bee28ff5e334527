"""Global minimization of functions with gradients.

hybrid            finds the global minimum of a function with gradients, with nothing to tune
HybridResult, HybridHistory, StopReason
graduated_descent, GraduatedResult
                  minimizes a smoothed function while the smoothing decreases: `jd.evolution`
"""

from jaxdescent.global_search.graduated_descent import GraduatedResult, graduated_descent
from jaxdescent.global_search.hybrid import HybridHistory, HybridResult, StopReason, hybrid

__all__ = [
    "GraduatedResult",
    "HybridHistory",
    "HybridResult",
    "StopReason",
    "graduated_descent",
    "hybrid",
]


def __dir__() -> list[str]:
    return __all__
