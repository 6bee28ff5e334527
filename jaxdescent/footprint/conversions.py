"""Conversions from FLOPs to joules and from joules to grams of CO2e.

    energy = FLOPs x J/FLOP        carbon = energy x g CO2e/kWh

Neither factor has a default, because a default would present a guess as a fact. Joules per FLOP
vary by orders of magnitude with hardware, precision and utilization; grids range from 30 to 1000
g CO2e/kWh (yearly means in codecarbon 3.3.2). The result records the factor and its interval.

The results exclude power supplies, cooling (multiply the energy by the building's PUE) and the
manufacturing of the machine.
"""

from typing import Any

from jaxdescent.footprint.flop_counting.counting import Flops
from jaxdescent.footprint.quantities import Interval, Quantity, interval

_JOULES_PER_KWH = 3.6e6


def carbon(energy: Quantity, *, grid_intensity: Any) -> Quantity:
    """Computes the carbon dioxide equivalent of an energy on a given grid.

    Args:
      energy: in joules, such as `Footprint.energy`.
      grid_intensity: in g CO2e/kWh: a number, `(low, high)`, `(low, value, high)`, or the
        quantity that `jd.footprint.grid_intensity` returns.

    Returns:
      A quantity in g CO2e that records the intensity and the origin of the energy.

    Raises:
      TypeError: `energy` is not a quantity in joules, or `grid_intensity` is not a number.
      ValueError: `grid_intensity` is negative, not finite, or not ascending.

    Example:
      >>> from jaxdescent.footprint.quantities import Quantity
      >>> hour = Quantity(3.6e5, 1.8e5, 7.2e5, "J", "estimated: CPU time x 4 W a core")
      >>> print(carbon(hour, grid_intensity=(50, 60)))
      5.5 g CO2e (2.5 to 12; estimated: 55 (50 to 60) g CO2e/kWh x energy (estimated: CPU time
      x 4 W a core))
    """
    if not isinstance(energy, Quantity) or energy.unit != "J":
        raise TypeError(f"energy must be a Quantity in J, got {energy!r}")
    factor, constants = _factor("grid_intensity", grid_intensity, "g CO2e/kWh")
    return energy.times(
        [number / _JOULES_PER_KWH for number in factor],
        *constants,
        unit="g CO2e",
        how=f"estimated: {_format(factor)} g CO2e/kWh x energy ({_nested_origin(energy)})",
    )


def energy_from_flops(flops: Any, *, joules_per_flop: Any) -> Quantity:
    """Computes an energy from a count of FLOPs and a given energy per FLOP.

    Args:
      flops: a result of `jd.footprint.flops` (its total is used), a quantity in FLOP, or a number.
      joules_per_flop: in J/FLOP: a number, `(low, high)` or `(low, value, high)`, for the
        hardware, precision and utilization in question.

    Returns:
      A quantity in joules that records the energy per FLOP and the origin of the FLOPs.

    Raises:
      TypeError: `flops` has another type, or `joules_per_flop` is not a number.
      ValueError: `joules_per_flop` or `flops` is negative, not finite, or not ascending.

    Example:
      >>> print(energy_from_flops(2e12, joules_per_flop=(1e-12, 1e-11)))
      11 J (2 to 20; estimated: 5.5e-12 (1e-12 to 1e-11) J/FLOP x FLOPs (estimated: given))
    """
    if isinstance(flops, Flops):
        flops = flops.quantity()
    if not isinstance(flops, Quantity):
        low, value, high = interval("flops", flops)
        flops = Quantity(value, low, high, "FLOP", "estimated: given")
    if flops.unit != "FLOP":
        raise TypeError(f"flops must be Flops, a Quantity in FLOP or a number, got {flops!r}")
    factor, constants = _factor("joules_per_flop", joules_per_flop, "J/FLOP")
    return flops.times(
        factor,
        *constants,
        unit="J",
        how=f"estimated: {_format(factor)} J/FLOP x FLOPs ({_nested_origin(flops)})",
    )


def _factor(name: str, given: Any, unit: str) -> tuple[Interval, tuple[str, ...]]:
    """Returns the interval of a factor, and the constants to record for it."""
    if not isinstance(given, Quantity):
        factor = interval(name, given)
        return factor, (f"{name} = {_format(factor)} {unit} (given)",)
    if given.unit != unit:
        raise TypeError(f"{name} must be in {unit}, got {given!r}")
    factor = interval(name, (given.low, given.value, given.high))
    return factor, (f"{name} = {_format(factor)} {unit} ({given.how})", *given.constants)


def _nested_origin(quantity: Quantity) -> str:
    """Returns a quantity's origin without pluses, which separate the origins of a sum."""
    return quantity.how.replace(" + ", ", ")


def _format(factor: Interval) -> str:
    if factor.low == factor.high:
        return f"{factor.value:g}"
    return f"{factor.value:g} ({factor.low:g} to {factor.high:g})"
