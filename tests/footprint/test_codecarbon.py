"""The codecarbon backend, with a fake of its interface, and with the package if installed."""

import importlib.util
import sys
import time
import types

import pytest

from jaxdescent.footprint import carbon, grid_intensity, meter
from jaxdescent.footprint.energy import codecarbon

JOULE = 1 / 3.6e6  # in kWh


class FakeTracker:
    """Returns the next entry of `energies` for each task; checks the order of the calls."""

    def __init__(self, **settings):
        assert settings["tracking_mode"] == "process"
        assert settings["output_methods"] == []
        self.running = None
        self.energies = []

    def start_task(self, name):
        assert self.running is None
        self.running = name

    def stop_task(self, name):
        assert self.running == name
        self.running = None
        cpu, ram, gpu = self.energies.pop(0)
        return types.SimpleNamespace(
            cpu_energy=cpu * JOULE, ram_energy=ram * JOULE, gpu_energy=gpu * JOULE
        )


class FakeTable:
    def get_global_energy_mix_data(self):
        return {
            "FRA": {"carbon_intensity": 56.0, "country_name": "France", "year": 2023},
            "CAF": {"country_name": "Central African Republic", "year": 2022},
        }


@pytest.fixture
def trackers(monkeypatch):
    made = []

    def make(**settings):
        made.append(FakeTracker(**settings))
        return made[-1]

    package, table = types.ModuleType("codecarbon"), types.ModuleType("codecarbon.input")
    package.OfflineEmissionsTracker, table.DataSource = make, FakeTable
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setitem(sys.modules, "codecarbon.input", table)
    monkeypatch.setattr(codecarbon.importlib.metadata, "version", lambda name: "3.3.2")
    return made


def test_windows_are_added_and_the_interval_spans_the_spread_of_tools(trackers):
    spent = meter(backend="codecarbon").start()
    trackers[0].energies = [(4.0, 10.0, 0.0), (8.0, 20.0, 0.0)]
    assert spent.read()["CPU energy"].value == pytest.approx(4)
    footprint = spent.stop()
    energy = footprint["CPU energy"]
    assert (energy.low, energy.value, energy.high) == pytest.approx((12 / 7.5, 12, 90))
    assert energy.how == "estimated: codecarbon"
    assert "codecarbon 3.3.2" in energy.constants[0]
    assert footprint["memory energy"].value == pytest.approx(30)
    assert "GPU energy" not in footprint


def test_an_energy_of_0_is_not_replaced_by_the_estimate(trackers):
    with meter(backend="codecarbon") as spent:
        trackers[0].energies = [(0.0, 10.0, 5.0)]
    footprint = spent.read()
    energy = footprint["CPU energy"]
    assert (energy.value, energy.how) == (0.0, "estimated: codecarbon")
    assert footprint["GPU energy"].value == pytest.approx(5)


def test_a_failure_gives_a_note_and_the_estimate_of_the_meter(trackers):
    with meter(backend="codecarbon") as spent:
        pass
    footprint = spent.read()
    assert footprint.notes[0].startswith("codecarbon failed and its energies are lost: IndexError")
    assert footprint["CPU energy"].how.startswith("estimated: CPU time")


def test_grid_intensity_has_an_interval_and_a_source(trackers):
    intensity = grid_intensity("FRA")
    assert (intensity.low, intensity.value, intensity.high) == (28, 56, 112)
    assert intensity.how == "estimated: mean of France in 2023"
    with meter(backend="codecarbon") as spent:
        trackers[0].energies = [(3.6e6, 0.0, 0.0)]
    assert carbon(spent.read().energy, grid_intensity=intensity).value == pytest.approx(56)


@pytest.mark.parametrize("country", ["XXX", "fra", "CAF", "", None, 3])
def test_an_unknown_country_is_refused(trackers, country):
    with pytest.raises(ValueError, match=f"country must be .*, got {country!r}"):
        grid_intensity(country)


@pytest.mark.parametrize("call", [lambda: meter(backend="codecarbon"), lambda: grid_intensity("X")])
def test_a_missing_package_says_how_to_install_it(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(ImportError, match=r"codecarbon is not .* 'jaxdescent\[energy\]'"):
        call()


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="needs codecarbon")
@pytest.mark.filterwarnings("ignore")
def test_the_installed_package_estimates_a_busy_second():
    with meter(backend="codecarbon") as spent:
        begin = time.process_time()
        while time.process_time() - begin < 1.0:
            sum(range(1000))
    footprint = spent.read()
    assert not any("codecarbon failed" in note for note in footprint.notes)
    assert footprint["CPU energy"].value > 0
    assert footprint["memory energy"].value > 0
    assert 20 < grid_intensity("FRA").value < 100
