"""Large steps that help: step sizes, sharpness, the edge of stability, and what flows along it."""

from jaxdescent.stability import flows as flows
from jaxdescent.stability import step_sizes as step_sizes
from jaxdescent.stability.central_flow import CentralFlowInfo as CentralFlowInfo
from jaxdescent.stability.central_flow import CentralFlowState as CentralFlowState
from jaxdescent.stability.central_flow import central_flow as central_flow
from jaxdescent.stability.gradient_flow import GradientFlowInfo as GradientFlowInfo
from jaxdescent.stability.gradient_flow import GradientFlowState as GradientFlowState
from jaxdescent.stability.gradient_flow import gradient_flow as gradient_flow
from jaxdescent.stability.sharpness import Sharpness as Sharpness
from jaxdescent.stability.sharpness import block_sharpness as block_sharpness
from jaxdescent.stability.sharpness import sharpness as sharpness
from jaxdescent.stability.spectral_density import SpectralDensity as SpectralDensity
from jaxdescent.stability.spectral_density import spectral_density as spectral_density
