"""Energy of CPU packages and memory from RAPL, through Linux's powercap files.

Each zone of `/sys/class/powercap/intel-rapl:*` (AMD processors use the same name) has a counter
`energy_uj` in microjoules that wraps around at `max_energy_range_uj`. The energy since the start
is the sum of the differences between reads, where a negative difference means that the counter
wrapped around once. Further wraparounds between two reads cannot be detected; if the time between
the reads allows one, the upper end of the interval includes it. Read at least every few minutes.

Zones named package-N give the CPU energy, and zones named dram the memory energy. Other zones are
ignored: cores are part of a package, psys contains everything, and `intel-rapl-mmio` repeats the
package. On some processors with several dies, each die reports the counter of the whole package
(codecarbon issue 1274); equal counters count once.

Intel's counters are measured since Haswell (Hackenberg et al. 2015, doi:10.1109/IPDPSW.2015.70)
and follow the power at the plug closely (Khan et al. 2018, doi:10.1145/3177754). AMD's counters
are less documented (Schoene et al. 2021, arXiv:2108.00808). Memory counters have an offset
(Desrochers et al. 2016, doi:10.1145/2989081.2989088). These sources give no error bound, so the
interval widths are allowances.
"""

import dataclasses
import math
from pathlib import Path

from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

ROOT = Path("/sys/class/powercap")

_MAX_WATTS = 1000.0  # above every package's limit; bounds the number of missed wraparounds
_SAME_COUNTER_UJ = 1_000_000  # the most that one counter grows between two successive reads
_ALLOWANCE = {"CPU energy": 0.1, "memory energy": 0.2}
_SCOPE = {
    "CPU energy": "RAPL counts whole CPU packages: all processes, and idle power",
    "memory energy": "RAPL counts all memory that the machine's counters cover",
}


@dataclasses.dataclass
class _Zone:
    """A counter and its total since the start."""

    path: Path
    row: str
    range_uj: int
    last_uj: int
    last_read: float
    total_uj: int = 0
    missed_uj: int = 0
    readable: bool = True

    def read(self, now: float) -> None:
        """Adds the counter's growth to the total; keeps the total if the read fails."""
        try:
            reading = _counter(self.path)
        except (OSError, ValueError):
            self.readable = False
            return
        step = reading - self.last_uj
        if step < 0:
            step = max(step + self.range_uj, 0)
        self.missed_uj += self._missed_wraparounds(step, now - self.last_read) * self.range_uj
        self.total_uj += step
        self.last_uj, self.last_read, self.readable = reading, now, True

    def _missed_wraparounds(self, step_uj: int, seconds: float) -> int:
        most_uj = _MAX_WATTS * 1e6 * max(seconds, 0.0)
        return max(0, int((most_uj - step_uj) // self.range_uj)) if self.range_uj else 0


def _counter(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


class Rapl:
    """Energy source that reads CPU packages and memory from RAPL.

    Args:
      root: the folder of the zones.
    """

    def __init__(self, root: str | Path = ROOT):
        self.root = Path(root)
        self._zones: list[_Zone] = []
        self._unreadable: dict[str, str] = {}

    def start(self, now: float) -> None:
        """Starts counting; `now` is the clock's time in seconds."""
        self._zones, self._unreadable = [], {}
        for path in sorted(self.root.glob("intel-rapl:*")):
            try:
                self._add_zone(path, now)
            except (OSError, ValueError) as error:
                self._unreadable[path.name] = getattr(error, "strerror", None) or str(error)

    def _add_zone(self, path: Path, now: float) -> None:
        name = (path / "name").read_text().strip()
        row = "CPU energy" if name.startswith("package") else "memory energy"
        if row == "memory energy" and name != "dram":
            return
        reading = _counter(path)
        others = [zone.last_uj for zone in self._zones if zone.row == row == "CPU energy"]
        if reading and any(abs(reading - other) < _SAME_COUNTER_UJ for other in others):
            return
        range_uj = int((path / "max_energy_range_uj").read_text())
        self._zones.append(_Zone(path, row, range_uj, reading, now))

    def read(self, now: float) -> Footprint:
        """Returns the energies since the start; empty if no counter is readable."""
        for zone in self._zones:
            zone.read(now)
        rows = dict.fromkeys(zone.row for zone in self._zones)
        return Footprint({row: self._energy(row) for row in rows}, tuple(self._notes(now)))

    def _energy(self, row: str) -> Quantity:
        zones = [zone for zone in self._zones if zone.row == row]
        joules = sum(zone.total_uj for zone in zones) / 1e6
        missed = sum(zone.missed_uj for zone in zones) / 1e6
        width = _ALLOWANCE[row]
        high = (joules + missed) * (1 + width)
        if not all(zone.readable for zone in zones) or (self._unreadable and row == "CPU energy"):
            high = math.inf
        constants = (_SCOPE[row], f"+-{width:.0%} allowed for the counters (no published bound)")
        if missed:
            constants += (f"up to {missed:.3g} J more if counters wrapped around between reads",)
        return Quantity(joules, joules * (1 - width), high, "J", "measured: rapl", constants)

    def _notes(self, now: float) -> list[str]:
        notes = [
            f"RAPL zone {name} cannot be read ({reason}); on many systems only root may read it"
            for name, reason in self._unreadable.items()
        ]
        lost = [zone for zone in self._zones if not zone.readable]
        return notes + [
            f"RAPL zone {zone.path.name} could not be read for {now - zone.last_read:.0f} s; "
            "its energy since then is missing"
            for zone in lost
        ]
