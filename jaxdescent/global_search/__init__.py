"""Global minimization of functions with gradients.

hybrid            finds the global minimum of a function with gradients, with nothing to tune
HybridResult, HybridHistory, StopReason
"""

from jaxdescent.global_search.hybrid import HybridHistory, HybridResult, StopReason, hybrid

__all__ = ["HybridHistory", "HybridResult", "StopReason", "hybrid"]


def __dir__() -> list[str]:
    return __all__
