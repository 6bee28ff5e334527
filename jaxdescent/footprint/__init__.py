"""What a computation costs: FLOPs, time, energy and carbon, each with how it came about.

    step = jd.footprint.flops(train_step, params, batch)     # from the jaxpr, without running it
    with jd.footprint.meter() as meter:
        train()
    spent = meter.read()
    spent = spent.adding("FLOPs", step.quantity("dense").times(steps, f"{steps} steps"))
    spent = spent.adding("carbon", jd.footprint.carbon(spent.energy, grid_intensity=(40, 70)))
    print(spent)

A number is *measured* by a counter, *counted* from a program or *estimated* from constants; it
says which, and has an interval. Footprints add up and go through JSON.
"""

from jaxdescent.footprint.codecarbon import grid_intensity as grid_intensity
from jaxdescent.footprint.conversions import carbon as carbon
from jaxdescent.footprint.conversions import energy_from_flops as energy_from_flops
from jaxdescent.footprint.counting import Flops as Flops
from jaxdescent.footprint.counting import flops as flops
from jaxdescent.footprint.metering import Meter as Meter
from jaxdescent.footprint.metering import meter as meter
from jaxdescent.footprint.quantities import Quantity as Quantity
from jaxdescent.footprint.summary import Footprint as Footprint
