"""Large steps that help: step sizes, sharpness, the edge of stability, and what flows along it."""

from jaxdescent.stability import flows as flows
from jaxdescent.stability import step_sizes as step_sizes
from jaxdescent.stability import thresholds as thresholds
from jaxdescent.stability.central_flow import CentralFlowInfo as CentralFlowInfo
from jaxdescent.stability.central_flow import CentralFlowState as CentralFlowState
from jaxdescent.stability.central_flow import central_flow as central_flow
from jaxdescent.stability.gradient_flow import GradientFlowInfo as GradientFlowInfo
from jaxdescent.stability.gradient_flow import GradientFlowState as GradientFlowState
from jaxdescent.stability.gradient_flow import gradient_flow as gradient_flow
from jaxdescent.stability.monitor import MonitorState as MonitorState
from jaxdescent.stability.monitor import monitor_stability as monitor_stability
from jaxdescent.stability.probing import StabilityOutcome as StabilityOutcome
from jaxdescent.stability.probing import StabilityProbe as StabilityProbe
from jaxdescent.stability.probing import StabilityRecord as StabilityRecord
from jaxdescent.stability.probing import StabilityState as StabilityState
from jaxdescent.stability.probing import stability_log as stability_log
from jaxdescent.stability.probing import stability_probe as stability_probe
from jaxdescent.stability.riding import ScaleBySharpnessState as ScaleBySharpnessState
from jaxdescent.stability.riding import scale_by_sharpness as scale_by_sharpness
from jaxdescent.stability.sharpness import Sharpness as Sharpness
from jaxdescent.stability.sharpness import block_sharpness as block_sharpness
from jaxdescent.stability.sharpness import sharpness as sharpness
from jaxdescent.stability.spectral_density import SpectralDensity as SpectralDensity
from jaxdescent.stability.spectral_density import spectral_density as spectral_density
