"""Energy of NVIDIA GPUs from the counter that NVML keeps in millijoules since Volta.

The library comes with the driver and is called through ctypes, so nothing needs installing.
The counter is the whole board's: all that runs on it, idle draw included. GPUs that
`CUDA_VISIBLE_DEVICES` hides are left out; its numbers are taken as NVML's order, which is
CUDA's with `CUDA_DEVICE_ORDER=PCI_BUS_ID` and on machines of one kind of GPU.

NVIDIA documents no accuracy for it (+-5 % for the power reading of older GPUs; on A100 and
H100 that reading samples a quarter of the time: Yang et al. 2023, arXiv:2312.02741), so the
width is an allowance. It is renewed every 20 to 100 ms, so each end of a span may be off by
0.1 s at the board's power limit: a short span has a wide interval.
"""

import ctypes
import itertools
import math
import os
from typing import Any

from jaxdescent.footprint.quantities import Quantity
from jaxdescent.footprint.summary import Footprint

LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")

_ALLOWANCE = 0.1
_RENEWED_EVERY = 0.1  # seconds
_POWER_LIMIT = 1200.0  # watts, if the board does not say: above that of any board


class _NvmlError(Exception):
    """A call into the library that failed."""


def load() -> Any | None:
    """The driver's library, or None where there is no such driver."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


class Nvml:
    """Reads the energy of the visible GPUs since `start`.

    Args:
      library: with NVML's functions; that of the driver if it is left out.
    """

    def __init__(self, library: Any | None = None):
        self._library = load() if library is None else library
        self._devices: dict[str, Any] = {}
        self._began: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._watts: dict[str, float] = {}
        self._notes: list[str] = []

    def start(self, _now: float) -> None:
        """Begins to count."""
        self._devices, self._began, self._watts, self._notes = {}, {}, {}, []
        if self._library is None:
            return
        try:
            self._call("nvmlInit_v2")
            names = self._visible()
        except _NvmlError as error:
            self._notes = [f"GPUs are not metered: {error}"]
            return
        for number in names:
            name = f"GPU {number}"
            try:
                device = self._handle(number)
                self._began[name] = self._millijoules(device)
                self._devices[name] = device
                self._watts[name] = self._limit(device)
            except _NvmlError as error:
                self._notes.append(f"{name} is not metered: {error}")
        self._last = dict(self._began)

    def read(self, _now: float) -> Footprint:
        """The energy since the start; empty where there is no GPU that can be read."""
        lost = []
        for name, device in self._devices.items():
            try:
                self._last[name] = max(self._millijoules(device), self._last[name])
            except _NvmlError as error:
                lost.append(f"{name} stopped answering, its energy since is missing: {error}")
        notes = (*self._notes, *lost)
        if not self._devices:
            return Footprint({}, notes)
        joules = sum(self._last[name] - self._began[name] for name in self._devices) / 1e3
        slack = _RENEWED_EVERY * sum(self._watts.values())
        energy = Quantity(
            joules,
            max(0.0, joules * (1 - _ALLOWANCE) - slack),
            math.inf if notes else joules * (1 + _ALLOWANCE) + slack,
            "J",
            "measured: nvml",
            (
                f"NVML counts whole boards ({len(self._devices)} of them), idle draw included",
                f"+-{_ALLOWANCE:.0%} allowed for the counter (no published bound), and "
                f"{_RENEWED_EVERY} s at {sum(self._watts.values()):.0f} W for when it is renewed",
            ),
        )
        return Footprint({"GPU energy": energy}, notes)

    def _visible(self) -> list[str]:
        """The indices or UUIDs of the GPUs that CUDA shows to this process."""
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        if listed is None:
            count = ctypes.c_uint()
            self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
            return [str(index) for index in range(count.value)]
        names = [name.strip() for name in listed.split(",")]
        exist = itertools.takewhile(lambda name: name and not name.startswith("-"), names)
        return list(exist)  # CUDA stops at the first that is none

    def _handle(self, name: str) -> Any:
        handle = ctypes.c_void_p()
        if name.isdecimal():
            call, wanted = "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(name))
        else:
            call, wanted = "nvmlDeviceGetHandleByUUID", ctypes.c_char_p(name.encode())
        self._call(call, wanted, ctypes.byref(handle))
        return handle

    def _millijoules(self, device: Any) -> int:
        energy = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", device, ctypes.byref(energy))
        return energy.value

    def _limit(self, device: Any) -> float:
        milliwatts = ctypes.c_uint()
        try:
            self._call("nvmlDeviceGetEnforcedPowerLimit", device, ctypes.byref(milliwatts))
        except _NvmlError:
            return _POWER_LIMIT
        return milliwatts.value / 1e3

    def _call(self, name: str, *args: Any) -> None:
        try:
            code = getattr(self._library, name)(*args)
        except AttributeError as error:
            raise _NvmlError(f"this driver has no {name}") from error
        if code:
            raise _NvmlError(f"{name} returned {code}")
