"""The meter: clocks, counters if there are any, and an estimate otherwise."""

import math
import time

import jax.numpy as jnp
import pytest

from jaxdescent.footprint import Footprint, Meter, meter
from jaxdescent.footprint.energy import metering
from tests.footprint.test_nvml import FakeLibrary
from tests.footprint.test_rapl import Tree


class Clocks:
    """Clocks of a process that a test advances."""

    def __init__(self):
        self.wall, self.threads, self.children = 100.0, 50.0, 7.0

    def perf_counter(self):
        return self.wall

    def process_time(self):
        return self.threads

    def times(self):
        return type("Times", (), {"children_user": self.children, "children_system": 1.0})


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(metering, "time", clocks)
    monkeypatch.setattr(metering, "os", clocks)
    return clocks


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "powercap")


@pytest.fixture(autouse=True)
def all_gpus_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def meter_without_counters(tmp_path, **settings):
    """Creates a meter without counters."""
    return meter(powercap_root=tmp_path / "none", nvml=FakeLibrary(), **settings)


def test_without_counters_energy_is_estimated_from_cpu_time(tmp_path, clocks):
    with meter_without_counters(tmp_path) as spent:
        clocks.wall += 10.0
        clocks.threads += 14.0
        clocks.children += 2.0
    footprint = spent.read()
    assert list(footprint.quantities) == ["wall time", "CPU time", "CPU energy"]
    assert footprint["wall time"].value == 10.0
    assert footprint["CPU time"].value == 16.0
    energy = footprint["CPU energy"]
    assert (energy.low, energy.value, energy.high) == (16 * 1.5, 16 * 4.0, 16 * 15.0)
    assert energy.how == "estimated: CPU time x 4 W a busy core (1.5 to 15)"
    assert any("codecarbon 3.3.2" in constant for constant in energy.constants)
    assert footprint.notes == (
        "not metered: memory, accelerators, storage, network, power supply, cooling",
    )


def test_the_interval_of_the_estimate_includes_published_values():
    low, value, high = metering.WATTS_PER_CORE
    assert value == 4.0  # codecarbon's
    assert low <= 1.64  # Cloud Carbon Footprint: a vCPU of the second EPYC generation
    assert high >= 60 / 8  # carbontracker: 60 W for the 8 cores of an EPYC 7232P
    assert high / low >= 7.5


def test_given_watts_are_used_and_recorded(tmp_path, clocks):
    with meter_without_counters(tmp_path, watts_per_core=(2, 8)) as spent:
        clocks.threads += 10.0
    energy = spent.read()["CPU energy"]
    assert (energy.low, energy.value, energy.high) == (20, 50, 80)
    assert "5 W (2 to 8) a busy core (given)" in energy.constants
    assert not any("codecarbon" in constant for constant in energy.constants)


def test_counters_replace_the_estimate(tmp_path, tree, clocks):
    tree.zone("intel-rapl:0", "package-0", 0)
    tree.zone("intel-rapl:0:0", "dram", 0)
    gpu = FakeLibrary(0)
    with meter(powercap_root=tree.root, nvml=gpu) as spent:
        clocks.wall += 10.0
        tree.set("intel-rapl:0", 300_000_000)
        tree.set("intel-rapl:0:0", 20_000_000)
        gpu.millijoules = [5_000_000]
    footprint = spent.read()
    assert [footprint[name].value for name in ("CPU energy", "memory energy", "GPU energy")] == [
        300.0,
        20.0,
        5000.0,
    ]
    assert footprint.energy.value == 5320.0
    assert footprint.energy.how == "measured: rapl + measured: nvml"
    assert footprint.notes == (
        "not metered: other accelerators than GPUs, storage, network, power supply, cooling",
    )


def test_a_gpu_counter_alone_keeps_the_estimate_of_the_processor(tmp_path, clocks):
    with meter(powercap_root=tmp_path, nvml=FakeLibrary(0)) as spent:
        clocks.threads += 1.0
    footprint = spent.read()
    assert footprint["GPU energy"].how == "measured: nvml"
    assert footprint.energy.how.startswith("estimated: CPU time")
    assert footprint.energy.how.endswith(" + measured: nvml")


def test_unreadable_counters_give_the_estimate_and_a_note(tree, clocks):
    tree.zone("intel-rapl:0", "package-0", "broken")
    with meter(powercap_root=tree.root, nvml=FakeLibrary()) as spent:
        clocks.threads += 1.0
    assert spent.read()["CPU energy"].how.startswith("estimated: CPU time")
    assert "intel-rapl:0 cannot be read" in spent.read().notes[0]


def test_counters_that_disappear_do_not_end_the_run(tree, clocks):
    tree.zone("intel-rapl:0", "package-0", 0)
    gpu = FakeLibrary(0)
    with meter(powercap_root=tree.root, nvml=gpu) as spent:
        (tree.root / "intel-rapl:0" / "energy_uj").unlink()
        gpu.failing[0] = 15
        clocks.wall += 5.0
    footprint = spent.read()
    assert footprint["CPU energy"].high == footprint["GPU energy"].high == math.inf
    assert len(footprint.notes) == 3


def test_a_running_meter_can_be_read(tmp_path, clocks):
    running = meter_without_counters(tmp_path).start()
    clocks.wall += 1.0
    assert running.read()["wall time"].value == 1.0
    clocks.wall += 2.0
    assert running.read()["wall time"].value == 3.0
    final = running.stop()
    clocks.wall += 4.0
    assert running.read() == final
    assert final["wall time"].value == 3.0


def test_a_stopped_meter_can_restart(tmp_path, clocks):
    running = meter_without_counters(tmp_path).start()
    clocks.wall += 1.0
    running.stop()
    clocks.wall += 5.0
    running.start()
    clocks.wall += 2.0
    assert running.read()["wall time"].value == 2.0


def test_a_failing_run_is_metered(tmp_path, clocks):
    spent = meter_without_counters(tmp_path)

    def fail():
        with spent:
            clocks.wall += 1.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert spent.read()["wall time"].value == 1.0


def test_misuse_is_refused(tmp_path):
    spent = meter_without_counters(tmp_path)
    with pytest.raises(RuntimeError, match="not running; start it"):
        spent.read()
    with pytest.raises(RuntimeError, match="not running; start it"):
        spent.stop()
    spent.start()
    with pytest.raises(RuntimeError, match="is running; stop it"):
        spent.start()
    with pytest.raises(ValueError, match="'counters', 'zeus' or 'codecarbon', got 'magic'"):
        meter(backend="magic")
    with pytest.raises(ValueError, match="watts_per_core must be a number"):
        meter(watts_per_core=-1)


def test_the_meter_works_on_this_machine():
    with meter() as spent:
        begin = time.perf_counter(), time.process_time()
        while time.process_time() - begin[1] < 0.05:
            jnp.sin(1.0)
        least = time.perf_counter() - begin[0]
    footprint = spent.read()
    assert isinstance(spent, Meter)
    assert isinstance(footprint, Footprint)
    assert footprint["wall time"].value >= least
    assert footprint["CPU time"].value >= 0.05
    assert 0 < footprint.energy.low <= footprint.energy.high
    assert all(quantity.how and quantity.unit for quantity in footprint.quantities.values())
