"""Large steps that help: step sizes, sharpness, the edge of stability, and what flows along it."""

from jaxdescent.stability import step_sizes as step_sizes
