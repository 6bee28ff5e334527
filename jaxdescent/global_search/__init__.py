"""Global minimization of functions with gradients.

hybrid             finds the global minimum of a function with gradients, with nothing to tune
graduated_descent  minimizes a smoothed function while the smoothing decreases
HybridResult, HybridHistory, StopReason, GraduatedResult
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
