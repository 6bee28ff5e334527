"""The meter: clocks, counters where there are some, an honest estimate where not."""

import math
import time

import jax.numpy as jnp
import pytest

from jaxdescent.footprint import Footprint, Meter, meter
from jaxdescent.footprint.energy import metering
from tests.footprint.test_nvml import FakeLibrary
from tests.footprint.test_rapl import Tree


class Clocks:
    """The clocks of a process that a test turns by hand."""

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


def bare(tmp_path, **settings):
    """A meter of a machine without counters."""
    return meter(powercap_root=tmp_path / "none", nvml=FakeLibrary(), **settings)


def test_without_counters_energy_is_estimated_from_cpu_time(tmp_path, clocks):
    with bare(tmp_path) as spent:
        clocks.wall += 10.0
        clocks.threads += 14.0
        clocks.children += 2.0
    told = spent.read()
    assert list(told.quantities) == ["wall time", "CPU time", "CPU energy"]
    assert told["wall time"].value == 10.0
    assert told["CPU time"].value == 16.0
    energy = told["CPU energy"]
    assert (energy.low, energy.value, energy.high) == (16 * 1.5, 16 * 4.0, 16 * 15.0)
    assert energy.how == "estimated: CPU time x 4 W a busy core (1.5 to 15)"
    assert any("codecarbon 3.3.2" in constant for constant in energy.constants)
    assert told.notes == (
        "not metered: memory, accelerators, storage, network, power supply, cooling",
    )


def test_the_estimate_s_interval_holds_the_tools_that_disagree():
    low, value, high = metering.WATTS_PER_CORE
    assert value == 4.0  # codecarbon's
    assert low <= 1.64  # Cloud Carbon Footprint: a vCPU of the second EPYC generation
    assert high >= 60 / 8  # carbontracker: 60 W for the 8 cores of an EPYC 7232P
    assert high / low >= 7.5


def test_watts_that_are_given_are_used_and_said(tmp_path, clocks):
    with bare(tmp_path, watts_per_core=(2, 8)) as spent:
        clocks.threads += 10.0
    energy = spent.read()["CPU energy"]
    assert (energy.low, energy.value, energy.high) == (20, 50, 80)
    assert "5 W (2 to 8) a busy core (given)" in energy.constants
    assert not any("codecarbon" in constant for constant in energy.constants)


def test_counters_take_the_place_of_the_estimate(tmp_path, tree, clocks):
    tree.zone("intel-rapl:0", "package-0", 0)
    tree.zone("intel-rapl:0:0", "dram", 0)
    gpu = FakeLibrary(0)
    with meter(powercap_root=tree.root, nvml=gpu) as spent:
        clocks.wall += 10.0
        tree.set("intel-rapl:0", 300_000_000)
        tree.set("intel-rapl:0:0", 20_000_000)
        gpu.millijoules = [5_000_000]
    told = spent.read()
    assert [told[name].value for name in ("CPU energy", "memory energy", "GPU energy")] == [
        300.0,
        20.0,
        5000.0,
    ]
    assert told.energy.value == 5320.0
    assert told.energy.how == "measured: rapl + measured: nvml"
    assert told.notes == (
        "not metered: other accelerators than GPUs, storage, network, power supply, cooling",
    )


def test_a_gpu_s_counter_leaves_the_processor_to_the_estimate(tmp_path, clocks):
    with meter(powercap_root=tmp_path, nvml=FakeLibrary(0)) as spent:
        clocks.threads += 1.0
    told = spent.read()
    assert told["GPU energy"].how == "measured: nvml"
    assert told.energy.how.startswith("estimated: CPU time")
    assert told.energy.how.endswith(" + measured: nvml")


def test_counters_that_may_not_be_read_leave_the_estimate_and_a_note(tree, clocks):
    tree.zone("intel-rapl:0", "package-0", "broken")
    with meter(powercap_root=tree.root, nvml=FakeLibrary()) as spent:
        clocks.threads += 1.0
    assert spent.read()["CPU energy"].how.startswith("estimated: CPU time")
    assert "intel-rapl:0 cannot be read" in spent.read().notes[0]


def test_counters_that_vanish_do_not_end_the_run(tree, clocks):
    tree.zone("intel-rapl:0", "package-0", 0)
    gpu = FakeLibrary(0)
    with meter(powercap_root=tree.root, nvml=gpu) as spent:
        (tree.root / "intel-rapl:0" / "energy_uj").unlink()
        gpu.failing[0] = 15
        clocks.wall += 5.0
    told = spent.read()
    assert told["CPU energy"].high == told["GPU energy"].high == math.inf
    assert len(told.notes) == 3


def test_it_can_be_read_while_it_runs(tmp_path, clocks):
    running = bare(tmp_path).start()
    clocks.wall += 1.0
    assert running.read()["wall time"].value == 1.0
    clocks.wall += 2.0
    assert running.read()["wall time"].value == 3.0
    final = running.stop()
    clocks.wall += 4.0
    assert running.read() == final
    assert final["wall time"].value == 3.0


def test_it_may_start_again_after_it_stopped(tmp_path, clocks):
    running = bare(tmp_path).start()
    clocks.wall += 1.0
    running.stop()
    clocks.wall += 5.0
    running.start()
    clocks.wall += 2.0
    assert running.read()["wall time"].value == 2.0


def test_a_run_that_fails_is_metered_all_the_same(tmp_path, clocks):
    spent = bare(tmp_path)

    def fail():
        with spent:
            clocks.wall += 1.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert spent.read()["wall time"].value == 1.0


def test_misuse_is_refused(tmp_path):
    spent = bare(tmp_path)
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


def test_this_machine_is_metered_by_its_own_clocks():
    with meter() as spent:
        begin = time.perf_counter(), time.process_time()
        while time.process_time() - begin[1] < 0.05:
            jnp.sin(1.0)
        least = time.perf_counter() - begin[0]
    told = spent.read()
    assert isinstance(spent, Meter)
    assert isinstance(told, Footprint)
    assert told["wall time"].value >= least
    assert told["CPU time"].value >= 0.05
    assert 0 < told.energy.low <= told.energy.high
    assert all(quantity.how and quantity.unit for quantity in told.quantities.values())
