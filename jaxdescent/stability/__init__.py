"""Large steps that help: step sizes, sharpness, the edge of stability, and what flows along it."""

from jaxdescent.stability.sharpness import Sharpness as Sharpness
from jaxdescent.stability.sharpness import block_sharpness as block_sharpness
from jaxdescent.stability.sharpness import sharpness as sharpness
