"""Time and energy of a stretch of a program, from counters or from estimates."""

from jaxdescent.footprint.energy.codecarbon import grid_intensity
from jaxdescent.footprint.energy.metering import EnergySource, Meter, meter

__all__ = ["EnergySource", "Meter", "grid_intensity", "meter"]
