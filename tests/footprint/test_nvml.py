"""The NVML source, with a fake library, and with a compiled C library."""

import ctypes
import math
import shutil
import subprocess

import pytest

from jaxdescent.footprint.energy import nvml
from jaxdescent.footprint.energy.nvml import Nvml

LOST = 15  # NVML_ERROR_GPU_IS_LOST


@pytest.fixture(autouse=True)
def all_gpus_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class FakeLibrary:
    """GPUs with counters in millijoules; calls listed in `failing` return an error code."""

    def __init__(self, *millijoules, watts=300.0):
        self.millijoules = list(millijoules)
        self.watts = watts
        self.failing = {}

    def nvmlInit_v2(self):  # noqa: N802
        return self.failing.get("init", 0)

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = len(self.millijoules)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        if index.value >= len(self.millijoules):
            return 2
        handle._obj.value = index.value + 1000
        return 0

    def nvmlDeviceGetHandleByUUID(self, name, handle):  # noqa: N802
        handle._obj.value = 1000 + int(name.value.decode().split("-")[1])
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy):  # noqa: N802
        index = handle.value - 1000
        energy._obj.value = self.millijoules[index]
        return self.failing.get(index, 0)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle, milliwatts):  # noqa: N802
        milliwatts._obj.value = round(1000 * self.watts)
        return self.failing.get("limit", 0)


def start(library):
    meter = Nvml(library)
    meter.start(0.0)
    return meter


def test_gpu_energy_is_the_growth_of_the_counters():
    library = FakeLibrary(1_000, 5_000_000)
    meter = start(library)
    library.millijoules = [601_000, 5_400_000]
    reading = meter.read(1.0)
    energy = reading["GPU energy"]
    assert (energy.value, energy.unit, energy.how) == (1000.0, "J", "measured: nvml")
    slack = 0.1 * 2 * 300.0  # the counters are updated at least every 0.1 s
    assert (energy.low, energy.high) == pytest.approx((900 - slack, 1100 + slack))
    assert "2 of them" in energy.constants[0]
    assert "0.1 s at 600 W" in energy.constants[1]
    assert reading.notes == ()


def test_a_period_shorter_than_the_update_period_has_a_positive_upper_end():
    energy = start(FakeLibrary(1_000)).read(0.01)["GPU energy"]
    assert (energy.low, energy.value, energy.high) == (0, 0, 30)


def test_a_board_without_a_power_limit_gets_a_wide_interval():
    library = FakeLibrary(0)
    library.failing["limit"] = 3
    assert start(library).read(0.0)["GPU energy"].high == pytest.approx(120)


@pytest.mark.parametrize(
    ("visible", "joules"),
    [("0", 1), ("2,0", 5), ("1", 2), ("", None), ("-1", None), ("1,-1,0", 2), ("GPU-2", 4)],
)
def test_only_visible_gpus_are_read(monkeypatch, visible, joules):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = FakeLibrary(0, 0, 0)
    meter = start(library)
    library.millijoules = [1_000, 2_000, 4_000]
    reading = meter.read(1.0)
    joules_read = reading["GPU energy"].value if "GPU energy" in reading else None
    assert joules_read == joules


def test_a_lost_gpu_keeps_its_last_energy():
    library = FakeLibrary(0, 0)
    meter = start(library)
    library.millijoules = [5_000, 6_000]
    meter.read(1.0)
    library.millijoules, library.failing[1] = [9_000, 0], LOST
    reading = meter.read(2.0)
    assert (reading["GPU energy"].value, reading["GPU energy"].high) == (15.0, math.inf)
    assert reading.notes == (
        "GPU 1 can no longer be read; later energy is missing: "
        "nvmlDeviceGetTotalEnergyConsumption returned 15",
    )


def test_a_decreasing_counter_does_not_reduce_the_energy():
    library = FakeLibrary(4_000)
    meter = start(library)
    library.millijoules = [9_000]
    meter.read(1.0)
    library.millijoules = [10]
    assert meter.read(2.0)["GPU energy"].value == 5.0


def test_an_unreadable_gpu_is_named():
    library = FakeLibrary(0, 0)
    library.failing[0] = 3  # not supported before Volta
    meter = start(library)
    library.millijoules = [5_000, 6_000]
    reading = meter.read(1.0)
    assert (reading["GPU energy"].value, reading["GPU energy"].high) == (6.0, math.inf)
    assert reading.notes[0].startswith("GPU 0 is not metered: nvmlDeviceGetTotalEnergy")


def test_a_failing_library_gives_a_note_and_no_energy():
    library = FakeLibrary(0)
    library.failing["init"] = 9
    reading = start(library).read(1.0)
    assert dict(reading.quantities) == {}
    assert reading.notes == ("GPUs are not metered: nvmlInit_v2 returned 9",)
    assert "this driver has no nvmlInit_v2" in start(object()).read(1.0).notes[0]


def test_a_machine_without_the_driver_gives_no_energy(monkeypatch):
    monkeypatch.setattr(nvml, "LIBRARIES", ("libno-such-driver.so.1",))
    reading = start(None).read(1.0)
    assert (dict(reading.quantities), reading.notes) == ({}, ())


def test_a_restart_begins_at_zero():
    library = FakeLibrary(0)
    meter = start(library)
    library.millijoules = [5_000]
    meter.read(1.0)
    meter.start(2.0)
    library.millijoules = [6_000]
    assert meter.read(3.0)["GPU energy"].value == 1.0


SOURCE = """
static unsigned long long energy = 7000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
  *device = &energy;
  return index != 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
  unsigned long long *counter = device;
  *counter += 5000000000000ull;
  *millijoules = *counter;
  return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
  *milliwatts = 700000;
  return device != &energy;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_compiled_library_is_called_with_the_right_types(tmp_path):
    source, library = tmp_path / "nvml.c", tmp_path / "libnvml.so"
    source.write_text(SOURCE)
    build = ["cc", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(build, check=True)  # noqa: S603
    meter = start(ctypes.CDLL(str(library)))
    energy = meter.read(1.0)["GPU energy"]
    assert energy.value == 5e9  # more than 32 bits of millijoules
    assert energy.high == pytest.approx(1.1 * 5e9 + 70)
