"""Sharpness: the largest eigenvalues of a loss's Hessian, and optimizers that observe them.

sharpness, block_sharpness    top eigenvalues, of the whole Hessian or of each layer's block
spectral_density              the distribution of all eigenvalues
stability_probe               a function that compares sharpness with the stability threshold
monitor_stability             an optimizer that runs a probe every few steps
scale_by_sharpness            makes an optimizer with a learning rate that follows the sharpness
get_stability, stability_log  the state of a probe, and its records
"""

from jaxdescent.stability.sharpness.eigenvalues import (
    Sharpness,
    block_sharpness,
    sharpness,
)
from jaxdescent.stability.sharpness.lanczos_quadrature import SpectralDensity, spectral_density
from jaxdescent.stability.sharpness.monitor import MonitorState, monitor_stability
from jaxdescent.stability.sharpness.probe import (
    StabilityOutcome,
    StabilityProbe,
    StabilityRecord,
    StabilityState,
    get_stability,
    stability_log,
    stability_probe,
)
from jaxdescent.stability.sharpness.scaling import ScaleBySharpnessState, scale_by_sharpness

__all__ = [
    "MonitorState",
    "ScaleBySharpnessState",
    "Sharpness",
    "SpectralDensity",
    "StabilityOutcome",
    "StabilityProbe",
    "StabilityRecord",
    "StabilityState",
    "block_sharpness",
    "get_stability",
    "monitor_stability",
    "scale_by_sharpness",
    "sharpness",
    "spectral_density",
    "stability_log",
    "stability_probe",
]


def __dir__() -> list[str]:
    return __all__
