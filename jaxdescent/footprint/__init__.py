"""FLOPs, time, energy and carbon of a computation, each with its origin.

    step = jd.footprint.flops(train_step, params, batch)     # from the jaxpr, without running it
    with jd.footprint.meter() as meter:
        train()
    spent = meter.read()
    spent = spent.adding("FLOPs", step.quantity("dense").times(steps, f"{steps} steps"))
    spent = spent.adding("carbon", jd.footprint.carbon(spent.energy, grid_intensity=(40, 70)))
    print(spent)

A `Quantity` is *measured* by a counter, *counted* from a program or *estimated* from constants. It
records its origin and an interval. Footprints can be added and converted to JSON.
"""

from jaxdescent.footprint.conversions import carbon, energy_from_flops
from jaxdescent.footprint.energy import EnergySource, Meter, grid_intensity, meter
from jaxdescent.footprint.flop_counting import Flops, FlopsByKind, flops
from jaxdescent.footprint.quantities import Interval, Quantity
from jaxdescent.footprint.summary import Footprint, FootprintRow

__all__ = [
    "EnergySource",
    "Flops",
    "FlopsByKind",
    "Footprint",
    "FootprintRow",
    "Interval",
    "Meter",
    "Quantity",
    "carbon",
    "energy_from_flops",
    "flops",
    "grid_intensity",
    "meter",
]


def __dir__() -> list[str]:
    return __all__
