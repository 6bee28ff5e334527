"""Energy estimates and grid intensities from codecarbon (mlco2.github.io/codecarbon).

codecarbon tracks this process. Without counters, it estimates the processor's power as 4 W per
thread or half of the listed TDP, times the load, and memory power as a constant per module. On
one machine, another tool estimated 7.5 times as much, so the interval spans this factor in both
directions. The tracker runs offline; it writes no files and sends no data.
"""

import importlib.metadata
from collections import defaultdict
from typing import Any

from jaxdescent.extras import require
from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

_JOULES_PER_KWH = 3.6e6
_TOOL_SPREAD = 7.5
_ROWS = {"CPU energy": "cpu_energy", "memory energy": "ram_energy", "GPU energy": "gpu_energy"}
# codecarbon requires a country for its emissions, which are not used here.
_ANY_COUNTRY = "FRA"


def _version() -> str:
    return importlib.metadata.version("codecarbon")


class Codecarbon:
    """Energy source that reads codecarbon's offline tracker.

    Raises:
      ImportError: codecarbon is not installed.
    """

    def __init__(self) -> None:
        self._tracker: Any = require("codecarbon", "energy").OfflineEmissionsTracker(
            country_iso_code=_ANY_COUNTRY,
            tracking_mode="process",
            output_methods=[],
            allow_multiple_runs=True,
            log_level="error",
        )
        self._joules = defaultdict[str, float](float)
        self._windows = 0
        self._failure: str | None = None

    def start(self, _now: float) -> None:
        """Starts counting. The first call takes seconds, while codecarbon detects the hardware."""
        self._joules, self._failure = defaultdict(float), None
        self._open()

    def _open(self) -> None:
        self._windows += 1
        self._tracker.start_task(f"jaxdescent {self._windows}")

    def read(self, _now: float) -> Footprint:
        """Returns the energies since the start; without a GPU row if no GPU used energy."""
        if self._failure is None:
            self._close_and_open()
        if self._failure is not None:
            return Footprint({}, (f"codecarbon failed and its energies are lost: {self._failure}",))
        constants = (
            f"codecarbon {_version()}, process mode: its own constants for this hardware",
            f"estimates of two tools differed by a factor of {_TOOL_SPREAD} on one machine",
        )
        how = "estimated: codecarbon"
        energies = {
            row: Quantity(joules, joules / _TOOL_SPREAD, joules * _TOOL_SPREAD, "J", how, constants)
            for row, joules in self._joules.items()
        }
        return Footprint(energies)

    def _close_and_open(self) -> None:
        try:
            window = self._tracker.stop_task(f"jaxdescent {self._windows}")
            joules = {row: getattr(window, field) * _JOULES_PER_KWH for row, field in _ROWS.items()}
            self._open()
        except Exception as error:  # a failure of the meter must not end the run
            self._failure = f"{type(error).__name__}: {error}"
            return
        for row, energy in joules.items():
            if energy or row == "CPU energy":
                self._joules[row] += energy


def grid_intensity(country: str) -> Quantity:
    """Returns the yearly mean carbon intensity of a country's grid, from codecarbon's table.

    Args:
      country: three-letter ISO 3166 code, such as "FRA".

    Returns:
      A quantity in g CO2e/kWh for `jd.footprint.carbon`. Its interval is half to twice the mean,
      to allow for the variation over hours and seasons.

    Raises:
      ImportError: codecarbon is not installed.
      ValueError: the country is not in codecarbon's table.
    """
    table = require("codecarbon.input", "energy").DataSource().get_global_energy_mix_data()
    entry = table.get(country, {}) if isinstance(country, str) else {}
    if not (mean := entry.get("carbon_intensity")):
        raise ValueError(
            f"country must be a three-letter code in codecarbon's table, such as 'FRA', got "
            f"{country!r}"
        )
    return Quantity(
        mean,
        mean / 2,
        2 * mean,
        "g CO2e/kWh",
        f"estimated: mean of {entry['country_name']} in {entry['year']}",
        (f"grid table of codecarbon {_version()}", "half to twice the mean for hour and season"),
    )
