"""Energy of NVIDIA GPUs from NVML's counter in millijoules, available since Volta.

The library is part of the driver and is called through ctypes, without a Python package. The
counter covers the whole board: all processes, and idle power. GPUs that `CUDA_VISIBLE_DEVICES`
hides are excluded. Its numbers are interpreted in NVML's order, which equals CUDA's order with
`CUDA_DEVICE_ORDER=PCI_BUS_ID` and on machines with one kind of GPU.

NVIDIA documents no accuracy for the counter, so the interval width is an allowance. (The power
reading of older GPUs has +-5 %; on A100 and H100 it samples a quarter of the time: Yang et al.
2023, arXiv:2312.02741.) The counter is updated every 20 to 100 ms, so each end of a period may be
off by 0.1 s at the board's power limit, and short periods have wide intervals.
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
_UPDATE_PERIOD = 0.1  # seconds
_POWER_LIMIT = 1200.0  # watts, if the board does not report its limit; above every board's limit


class _NvmlError(Exception):
    """A call into the library failed."""


def load() -> Any | None:
    """Loads the driver's library, or returns None without an NVIDIA driver."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


class Nvml:
    """Energy source that reads the visible GPUs from NVML.

    Args:
      library: a library with NVML's functions; the driver's by default.
    """

    def __init__(self, library: Any | None = None):
        self._library = load() if library is None else library
        self._devices: dict[str, Any] = {}
        self._began: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._watts: dict[str, float] = {}
        self._notes: list[str] = []

    def start(self, _now: float) -> None:
        """Starts counting."""
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
        """Returns the energy since the start; empty if no GPU is readable."""
        lost = []
        for name, device in self._devices.items():
            try:
                self._last[name] = max(self._millijoules(device), self._last[name])
            except _NvmlError as error:
                lost.append(f"{name} can no longer be read; later energy is missing: {error}")
        notes = (*self._notes, *lost)
        if not self._devices:
            return Footprint({}, notes)
        joules = sum(self._last[name] - self._began[name] for name in self._devices) / 1e3
        slack = _UPDATE_PERIOD * sum(self._watts.values())
        energy = Quantity(
            joules,
            max(0.0, joules * (1 - _ALLOWANCE) - slack),
            math.inf if notes else joules * (1 + _ALLOWANCE) + slack,
            "J",
            "measured: nvml",
            (
                f"NVML counts whole boards ({len(self._devices)} of them), idle power included",
                f"+-{_ALLOWANCE:.0%} allowed for the counter (no published bound), and "
                f"{_UPDATE_PERIOD} s at {sum(self._watts.values()):.0f} W for its update period",
            ),
        )
        return Footprint({"GPU energy": energy}, notes)

    def _visible(self) -> list[str]:
        """Returns the indices or UUIDs of the GPUs that are visible to CUDA in this process."""
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        if listed is None:
            count = ctypes.c_uint()
            self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
            return [str(index) for index in range(count.value)]
        names = [name.strip() for name in listed.split(",")]
        # CUDA ignores all entries after the first invalid one.
        valid = itertools.takewhile(lambda name: name and not name.startswith("-"), names)
        return list(valid)

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
