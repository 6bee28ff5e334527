"""Energy measured by zeus (You, Chung and Chowdhury 2023, arXiv:2208.06102).

zeus reads the counters that `rapl` and `nvml` read. It also supports GPUs before Volta, and
counters that only its daemon can read. A missing counter gives no row. An open window cannot be
read, so each read waits for the GPUs, closes the window, and opens the next.
"""

import importlib.metadata
from collections import defaultdict

from jaxdescent.extras import require
from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

_WINDOW = "jaxdescent"
_ALLOWANCE = 0.1
_ROWS = {
    "CPU energy": ("cpu_energy", "measured: rapl"),
    "memory energy": ("dram_energy", "measured: rapl"),
    "GPU energy": ("gpu_energy", "measured: nvml"),
}


class Zeus:
    """Energy source that reads a `ZeusMonitor`.

    Raises:
      ImportError: zeus is not installed.
    """

    def __init__(self) -> None:
        self._monitor = require("zeus.monitor", "energy").ZeusMonitor(sync_execution_with="jax")
        self._constants = (
            f"zeus {importlib.metadata.version('zeus')} counts whole devices, idle power included",
            f"+-{_ALLOWANCE:.0%} allowed for the counters (no published bound)",
        )
        self._joules = defaultdict[str, float](float)
        self._failure: str | None = None

    def start(self, _now: float) -> None:
        """Starts counting."""
        self._joules, self._failure = defaultdict(float), None
        self._monitor.begin_window(_WINDOW, restart=True)

    def read(self, _now: float) -> Footprint:
        """Returns the energies since the start, one row for each counter that zeus found."""
        if self._failure is None:
            self._close_and_open()
        if self._failure is not None:
            return Footprint({}, (f"zeus failed and its energies are lost: {self._failure}",))
        width = _ALLOWANCE
        energies = {
            row: Quantity(
                joules,
                joules * (1 - width),
                joules * (1 + width),
                "J",
                _ROWS[row][1],
                self._constants,
            )
            for row, joules in self._joules.items()
        }
        return Footprint(energies)

    def _close_and_open(self) -> None:
        try:
            window = self._monitor.end_window(_WINDOW)
            self._monitor.begin_window(_WINDOW)
        except Exception as error:  # a failure of the meter must not end the run
            self._failure = f"{type(error).__name__}: {error}"
            return
        for row, (field, _) in _ROWS.items():
            if by_device := getattr(window, field):
                self._joules[row] += sum(by_device.values())
