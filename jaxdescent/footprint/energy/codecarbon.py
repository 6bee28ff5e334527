"""Energy as codecarbon estimates it (mlco2.github.io/codecarbon), and its grid factors.

codecarbon follows this process; without counters the processor is 4 W a thread or half of a
listed TDP, times the load, and memory a constant for the whole machine by the number of its
modules. On one machine another tool said 7.5 times as much, so the interval reaches as far
both ways. It is used offline, and writes and sends nothing.
"""

import importlib.metadata
from collections import defaultdict
from typing import Any

from jaxdescent.extras import require
from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

_JOULES_PER_KWH = 3.6e6
_APART = 7.5
_ROWS = {"CPU energy": "cpu_energy", "memory energy": "ram_energy", "GPU energy": "gpu_energy"}
# codecarbon wants a country for emissions, which are not used; any that it knows will do.
_SOME_COUNTRY = "FRA"


def _version() -> str:
    return importlib.metadata.version("codecarbon")


class Codecarbon:
    """Reads the energy since `start` through codecarbon's offline tracker.

    Raises:
      ImportError: codecarbon is not installed.
    """

    def __init__(self) -> None:
        self._tracker: Any = require("codecarbon", "energy").OfflineEmissionsTracker(
            country_iso_code=_SOME_COUNTRY,
            tracking_mode="process",
            output_methods=[],
            allow_multiple_runs=True,
            log_level="error",
        )
        self._joules = defaultdict[str, float](float)
        self._windows = 0
        self._failure: str | None = None

    def start(self, _now: float) -> None:
        """Opens a window; the first takes codecarbon seconds to look at the hardware."""
        self._joules, self._failure = defaultdict(float), None
        self._open()

    def _open(self) -> None:
        self._windows += 1
        self._tracker.start_task(f"jaxdescent {self._windows}")

    def read(self, _now: float) -> Footprint:
        """The energies since the start; of a GPU only if it used any."""
        if self._failure is None:
            self._close_and_open()
        if self._failure is not None:
            return Footprint({}, (f"codecarbon failed and its energies are lost: {self._failure}",))
        constants = (
            f"codecarbon {_version()}, process mode: its own constants for this hardware",
            f"tools were {_APART} times apart on one machine",
        )
        how = "estimated: codecarbon"
        energies = {
            row: Quantity(joules, joules / _APART, joules * _APART, "J", how, constants)
            for row, joules in self._joules.items()
        }
        return Footprint(energies)

    def _close_and_open(self) -> None:
        try:
            window = self._tracker.stop_task(f"jaxdescent {self._windows}")
            joules = {row: getattr(window, field) * _JOULES_PER_KWH for row, field in _ROWS.items()}
            self._open()
        except Exception as error:  # whatever it meets, a run must not end by its meter
            self._failure = f"{type(error).__name__}: {error}"
            return
        for row, energy in joules.items():
            if energy or row == "CPU energy":
                self._joules[row] += energy


def grid_intensity(country: str) -> Quantity:
    """The yearly mean carbon intensity of a country's grid, from codecarbon's table.

    Args:
      country: three letters of ISO 3166, such as "FRA".

    Returns:
      A quantity in g CO2e/kWh for `jd.footprint.carbon`. Its interval is half to twice of
      the mean, an allowance for the hour and the season.

    Raises:
      ImportError: codecarbon is not installed.
      ValueError: its table does not have the country.
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
        (f"grid table of codecarbon {_version()}", "half to twice for the hour"),
    )
