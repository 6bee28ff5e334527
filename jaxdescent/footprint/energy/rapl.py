"""Energy of the CPU packages from RAPL, through Linux's powercap files.

Each zone of `/sys/class/powercap/intel-rapl:*` (AMD's processors use the same name) has a
counter `energy_uj` that grows in microjoules and starts again at `max_energy_range_uj`. Its
energy since the start is the sum of the steps between two reads, a step below zero being one
turn of the counter. A full turn between two reads cannot be seen; where the time between them
would have allowed one, the upper end of the interval says so. Read at least every few minutes.

Zones named package-N are taken and, apart, those named dram; cores are part of a package, psys
of everything, and `intel-rapl-mmio` is the package once more. On some processors of several
dies each die shows the whole package's counter (codecarbon issue 1274): equal ones count once.

Intel's counters measure since Haswell (Hackenberg et al. 2015, doi:10.1109/IPDPSW.2015.70)
and follow the plug's power closely (Khan et al. 2018, doi:10.1145/3177754); AMD's are less
documented (Schoene et al. 2021, arXiv:2108.00808); those of memory have an offset (Desrochers
et al. 2016, doi:10.1145/2989081.2989088). None gives a bound, so the widths are allowances.
"""

import dataclasses
import math
from pathlib import Path

from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

ROOT = Path("/sys/class/powercap")

_MAX_WATTS = 1000.0  # above every package's limit; decides how many turns may go unseen
_ALIKE_UJ = 1_000_000  # read one after the other, one counter may differ by so much
_ALLOWANCE = {"CPU energy": 0.1, "memory energy": 0.2}
_SCOPE = {
    "CPU energy": "RAPL counts whole CPU packages: all that runs on them, idle draw included",
    "memory energy": "RAPL counts all of the machine's memory that it knows",
}


@dataclasses.dataclass
class _Zone:
    """A counter, and what it has added up to."""

    path: Path
    row: str
    range_uj: int
    last_uj: int
    last_read: float
    total_uj: int = 0
    unseen_uj: int = 0
    answers: bool = True

    def read(self, now: float) -> None:
        """Adds what the counter has grown by; leaves all as it is if it cannot be read."""
        try:
            reading = _counter(self.path)
        except (OSError, ValueError):
            self.answers = False
            return
        step = reading - self.last_uj
        if step < 0:
            step = max(step + self.range_uj, 0)
        self.unseen_uj += self._turns_that_fit(step, now - self.last_read) * self.range_uj
        self.total_uj += step
        self.last_uj, self.last_read, self.answers = reading, now, True

    def _turns_that_fit(self, step_uj: int, seconds: float) -> int:
        most_uj = _MAX_WATTS * 1e6 * max(seconds, 0.0)
        return max(0, int((most_uj - step_uj) // self.range_uj)) if self.range_uj else 0


def _counter(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


class Rapl:
    """Reads the energy of CPU packages and memory since `start`.

    Args:
      root: where the zones are.
    """

    def __init__(self, root: str | Path = ROOT):
        self.root = Path(root)
        self._zones: list[_Zone] = []
        self._unreadable: dict[str, str] = {}

    def start(self, now: float) -> None:
        """Begins to count, `now` being the clock's seconds."""
        self._zones, self._unreadable = [], {}
        for path in sorted(self.root.glob("intel-rapl:*")):
            try:
                self._begin(path, now)
            except (OSError, ValueError) as error:
                self._unreadable[path.name] = getattr(error, "strerror", None) or str(error)

    def _begin(self, path: Path, now: float) -> None:
        name = (path / "name").read_text().strip()
        row = "CPU energy" if name.startswith("package") else "memory energy"
        if row == "memory energy" and name != "dram":
            return
        reading = _counter(path)
        others = [zone.last_uj for zone in self._zones if zone.row == row == "CPU energy"]
        if reading and any(abs(reading - other) < _ALIKE_UJ for other in others):
            return
        turns_at = int((path / "max_energy_range_uj").read_text())
        self._zones.append(_Zone(path, row, turns_at, reading, now))

    def read(self, now: float) -> Footprint:
        """The energies since the start; empty where there is no counter that can be read."""
        for zone in self._zones:
            zone.read(now)
        rows = dict.fromkeys(zone.row for zone in self._zones)
        return Footprint({row: self._energy(row) for row in rows}, tuple(self._notes(now)))

    def _energy(self, row: str) -> Quantity:
        zones = [zone for zone in self._zones if zone.row == row]
        joules = sum(zone.total_uj for zone in zones) / 1e6
        unseen = sum(zone.unseen_uj for zone in zones) / 1e6
        width = _ALLOWANCE[row]
        high = (joules + unseen) * (1 + width)
        if not all(zone.answers for zone in zones) or (self._unreadable and row == "CPU energy"):
            high = math.inf
        constants = (_SCOPE[row], f"+-{width:.0%} allowed for the counters (no published bound)")
        if unseen:
            constants += (f"up to {unseen:.3g} J more if counters turned over between reads",)
        return Quantity(joules, joules * (1 - width), high, "J", "measured: rapl", constants)

    def _notes(self, now: float) -> list[str]:
        notes = [
            f"RAPL zone {name} cannot be read ({why}); on many systems only root may"
            for name, why in self._unreadable.items()
        ]
        lost = [zone for zone in self._zones if not zone.answers]
        return notes + [
            f"RAPL zone {zone.path.name} has not answered for {now - zone.last_read:.0f} s; "
            "its energy since then is missing"
            for zone in lost
        ]
