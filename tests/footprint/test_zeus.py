"""The zeus backend, with a fake of its interface, and with the package if installed."""

import importlib.util
import sys
import types

import pytest

from jaxdescent.footprint import meter
from jaxdescent.footprint.energy import zeus


class FakeMonitor:
    """Returns the next entry of `energies` for each window; checks the order of the calls."""

    def __init__(self, sync_execution_with):
        assert sync_execution_with == "jax"
        self.open = False
        self.energies = []

    def begin_window(self, key, restart=False):
        assert restart or not self.open
        self.open = True

    def end_window(self, key):
        assert self.open
        self.open = False
        return types.SimpleNamespace(**self.energies.pop(0))


def window(gpu=None, cpu=None, dram=None):
    return {"gpu_energy": gpu or {}, "cpu_energy": cpu, "dram_energy": dram}


@pytest.fixture
def monitor(monkeypatch):
    made = []

    def make(**settings):
        made.append(FakeMonitor(**settings))
        return made[-1]

    monkeypatch.setitem(sys.modules, "zeus", types.ModuleType("zeus"))
    module = types.ModuleType("zeus.monitor")
    module.ZeusMonitor = make
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)
    monkeypatch.setattr(zeus.importlib.metadata, "version", lambda name: "0.16.0")
    return made


def test_windows_are_added(monitor):
    spent = meter(backend="zeus").start()
    monitor[0].energies = [
        window({0: 10.0, 1: 20.0}, {0: 5.0}, {0: 1.0}),
        window({0: 1.0, 1: 2.0}, {0: 0.5}, {0: 0.25}),
    ]
    first = spent.read()
    assert [q.value for n, q in first.quantities.items() if "energy" in n] == [5.0, 1.0, 30.0]
    last = spent.stop()
    assert [q.value for n, q in last.quantities.items() if "energy" in n] == [5.5, 1.25, 33.0]
    assert last["GPU energy"].how == "measured: nvml"
    assert last["CPU energy"].how == "measured: rapl"
    assert last["GPU energy"].low == pytest.approx(29.7)
    assert "zeus 0.16.0" in last["GPU energy"].constants[0]


def test_missing_counters_of_zeus_are_estimated_or_omitted(monitor):
    with meter(backend="zeus") as spent:
        monitor[0].energies = [window({0: 10.0})]
    footprint = spent.read()
    assert footprint["GPU energy"].value == 10.0
    assert footprint["CPU energy"].how.startswith("estimated: CPU time")
    assert "memory energy" not in footprint


def test_a_failure_gives_a_note(monitor):
    spent = meter(backend="zeus").start()
    monitor[0].energies = [window({0: 10.0})]
    spent.read()
    footprint = spent.read()  # the fake has no window left
    assert "GPU energy" not in footprint
    note = "zeus failed and its energies are lost: IndexError: pop from empty list"
    assert footprint.notes[0] == note
    assert spent.read().notes[0] == footprint.notes[0]


def test_a_restart_begins_at_zero(monitor):
    spent = meter(backend="zeus").start()
    monitor[0].energies = [window({0: 10.0}), window({0: 1.0})]
    spent.stop()
    spent.start()
    assert spent.stop()["GPU energy"].value == 1.0


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    with pytest.raises(ImportError, match=r"zeus is not .* pip install 'jaxdescent\[energy\]'"):
        meter(backend="zeus")


@pytest.mark.skipif(importlib.util.find_spec("zeus") is None, reason="needs zeus")
@pytest.mark.filterwarnings("ignore")
def test_the_installed_package_measures_or_omits_rows():
    with meter(backend="zeus") as spent:
        sum(range(1000))
    footprint = spent.read()
    assert not any("zeus failed" in note for note in footprint.notes)
    assert footprint["CPU energy"].how.startswith(("measured: rapl", "estimated: CPU time"))
