"""Evolution combined with gradients: searches for global minima.

hybrid            finds the global minimum of a function with gradients, with nothing to tune
HybridResult, HybridHistory, StopReason
"""

from jaxdescent.evolution.hybrid import HybridHistory, HybridResult, StopReason, hybrid

__all__ = ["HybridHistory", "HybridResult", "StopReason", "hybrid"]


def __dir__() -> list[str]:
    return __all__
