"""A meter of the time and energy of a part of a program.

Energy is measured if the machine has readable counters (RAPL for processors, NVML for GPUs).
Without a processor counter, as on most cloud machines, it is estimated as

    energy = CPU time x watts of a busy core,    4 W (1.5 to 15)

with 4 W as in codecarbon 3.3.2. The interval spans published values: Cloud Carbon Footprint's
coefficients for servers at full load range from 1.6 W (EPYC of 2019) to 6 W per vCPU (Haswell),
and one busy core of a desktop adds about 15 W (Ryzen 2700X at the plug,
mathr.co.uk/web/energy.html). The estimate covers the cores only.
"""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from jaxdescent.footprint.energy import rapl
from jaxdescent.footprint.energy.codecarbon import Codecarbon
from jaxdescent.footprint.energy.nvml import Nvml
from jaxdescent.footprint.energy.zeus import Zeus
from jaxdescent.footprint.quantities import Interval, Quantity, interval
from jaxdescent.footprint.summary import Footprint

WATTS_PER_CORE = Interval(1.5, 4.0, 15.0)

_WATTS_SOURCE = (
    "4 W a busy core as in codecarbon 3.3.2; 1.5 to 15 W spans servers (Cloud Carbon Footprint: "
    "1.6 to 6 W per vCPU at full load) and desktops"
)
_CPU_TIME = "user and system time of all threads, and of child processes that have ended"


class EnergySource(Protocol):
    """Protocol of energy readers. After `start`, they report failures in notes and do not raise."""

    def start(self, now: float, /) -> None:
        """Starts counting; `now` is the clock's time in seconds."""

    def read(self, now: float, /) -> Footprint:
        """Returns the energies since the start."""
        ...


def meter(
    *,
    backend: Literal["counters", "zeus", "codecarbon"] = "counters",
    watts_per_core: Any = WATTS_PER_CORE,
    powercap_root: str | Path = rapl.ROOT,
    nvml: Any | None = None,
) -> "Meter":
    """Creates a meter of wall time, CPU time and energy, which is a context manager.

    Args:
      backend: the source of the energy: "counters" reads RAPL and NVML directly; "zeus" and
        "codecarbon" use these packages (`pip install 'jaxdescent[energy]'`).
      watts_per_core: the power of a busy core, for the estimate without a processor counter: a
        number, `(low, high)` or `(low, value, high)`.
      powercap_root: the folder of RAPL's zones.
      nvml: a library with NVML's functions; the driver's by default.

    Returns:
      A meter, not yet started. Its rows are "wall time" and "CPU time" in seconds, "CPU energy"
      and, if there are counters, "memory energy" and "GPU energy" in joules. Counters measure
      whole devices, including other processes. JAX dispatches asynchronously, so block on the
      results before reading.

    Raises:
      ImportError: the backend's package is not installed.
      TypeError: `watts_per_core` is not a number.
      ValueError: `backend` is unknown, or `watts_per_core` is negative or not ascending.

    Example:
      >>> import jax.numpy as jnp
      >>> with meter() as spent:
      ...     total = jnp.arange(1000.0).sum().block_until_ready()
      >>> spent.read()["wall time"].how
      'measured: clock'
      >>> spent.read().energy.unit
      'J'
    """
    watts = interval("watts_per_core", watts_per_core)
    if backend == "zeus":
        return Meter([Zeus()], watts)
    if backend == "codecarbon":
        return Meter([Codecarbon()], watts)
    if backend != "counters":
        raise ValueError(f"backend must be 'counters', 'zeus' or 'codecarbon', got {backend!r}")
    return Meter([rapl.Rapl(powercap_root), Nvml(nvml)], watts)


class Meter:
    """Measures time and energy between `start` and `stop`. Created by `jd.footprint.meter`."""

    def __init__(self, sources: list[EnergySource], watts: Interval):
        self._sources, self._watts = sources, watts
        self._began: tuple[float, float] | None = None
        self._final: Footprint | None = None

    def start(self) -> Self:
        """Starts the meter, or restarts it after `stop`.

        Raises:
          RuntimeError: the meter is running.
        """
        if self._began is not None and self._final is None:
            raise RuntimeError("the meter is running; stop it before starting it again")
        self._final = None
        now = time.perf_counter()
        for source in self._sources:
            source.start(now)
        self._began = time.perf_counter(), _cpu_seconds()
        return self

    def read(self) -> Footprint:
        """Returns the footprint since `start`, or between `start` and `stop`. This is cheap.

        Raises:
          RuntimeError: the meter was not started.
        """
        if self._final is not None:
            return self._final
        if self._began is None:
            raise RuntimeError("the meter is not running; start it, or use it in a with statement")
        now, cpu = time.perf_counter(), _cpu_seconds()
        wall_time = Quantity.exact(now - self._began[0], "s", "measured: clock")
        cpu_time = Quantity.exact(cpu - self._began[1], "s", "measured: clock", [_CPU_TIME])
        readings = [source.read(now) for source in self._sources]
        energies = {name: q for reading in readings for name, q in reading.quantities.items()}
        if "CPU energy" not in energies:
            energies = {"CPU energy": self._estimate(cpu_time), **energies}
        notes = [note for reading in readings for note in reading.notes]
        return Footprint(
            {"wall time": wall_time, "CPU time": cpu_time, **energies},
            (*notes, _unmetered(energies)),
        )

    def stop(self) -> Footprint:
        """Stops the meter and returns the final footprint.

        Raises:
          RuntimeError: the meter was not started.
        """
        self._final = self.read()
        return self._final

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _estimate(self, cpu_time: Quantity) -> Quantity:
        low, value, high = self._watts
        default = self._watts == WATTS_PER_CORE
        return cpu_time.times(
            self._watts,
            _WATTS_SOURCE if default else f"{value:g} W ({low:g} to {high:g}) a busy core (given)",
            "covers the cores only",
            unit="J",
            how=f"estimated: CPU time x {value:g} W a busy core ({low:g} to {high:g})",
        )


def _cpu_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _unmetered(energies: dict[str, Quantity]) -> str:
    """Returns a note on what the rows do not cover."""
    missing = [] if "memory energy" in energies else ["memory"]
    missing += ["other accelerators than GPUs"] if "GPU energy" in energies else ["accelerators"]
    return f"not metered: {', '.join(missing)}, storage, network, power supply, cooling"
