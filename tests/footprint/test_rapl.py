"""The RAPL source, with a tree of files that the tests write."""

import math

import pytest

from jaxdescent.footprint.energy.rapl import Rapl

RANGE = 262_143_328_850  # microjoules, as on most processors


class Tree:
    """A powercap tree whose zones can be changed and removed."""

    def __init__(self, root):
        self.root = root

    def zone(self, path, name, energy_uj, range_uj=RANGE):
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(path, energy_uj)

    def set(self, path, energy_uj):
        (self.root / path / "energy_uj").write_text(f"{energy_uj}\n")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def start(tree):
    rapl = Rapl(tree.root)
    rapl.start(0.0)
    return rapl


def test_package_energy_is_the_growth_of_the_counter(tree):
    tree.zone("intel-rapl:0", "package-0", 5_000_000)
    rapl = start(tree)
    tree.set("intel-rapl:0", 47_000_000)
    energy = rapl.read(1.0)["CPU energy"]
    assert (energy.value, energy.low, energy.high) == (
        42.0,
        pytest.approx(37.8),
        pytest.approx(46.2),
    )
    assert (energy.unit, energy.how) == ("J", "measured: rapl")
    assert "all processes, and idle power" in energy.constants[0]


def test_intermediate_reads_do_not_change_the_total(tree):
    tree.zone("intel-rapl:0", "package-0", 5_000_000)
    often, once = start(tree), start(tree)
    for second, counter in enumerate([6_000_000, 6_000_000, 20_000_000, 47_000_000], 1):
        tree.set("intel-rapl:0", counter)
        energy = often.read(float(second))["CPU energy"]
    assert energy == once.read(4.0)["CPU energy"]


def test_a_wraparound_of_the_counter_is_added(tree):
    tree.zone("intel-rapl:0", "package-0", RANGE - 1_000_000)
    rapl = start(tree)
    tree.set("intel-rapl:0", 2_000_000)
    assert rapl.read(1.0)["CPU energy"].value == 3.0
    tree.set("intel-rapl:0", 1_000_000)  # a second wraparound, almost a full range later
    assert rapl.read(2.0)["CPU energy"].value == pytest.approx(RANGE / 1e6 + 2)


def test_possible_missed_wraparounds_widen_the_interval(tree):
    tree.zone("intel-rapl:0", "package-0", 0, range_uj=1_000_000_000)  # 1 kJ: one second at 1 kW
    rapl = start(tree)
    tree.set("intel-rapl:0", 500_000_000)
    energy = rapl.read(1.4)["CPU energy"]
    assert (energy.value, energy.high) == (500.0, pytest.approx(550))
    tree.set("intel-rapl:0", 600_000_000)
    energy = rapl.read(1.4 + 3.2)["CPU energy"]  # 100 J measured, time for 3 more wraparounds
    assert (energy.value, energy.high) == (600.0, pytest.approx(1.1 * 3600))
    assert energy.constants[-1] == "up to 3e+03 J more if counters wrapped around between reads"


def test_packages_are_added_without_cores_and_platform(tree):
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for index, (path, name) in enumerate(zones.items()):
        tree.zone(path, name, 10_000_000 * index)
    rapl = start(tree)
    for index, path in enumerate(zones):
        tree.set(path, 10_000_000 * index + 7_000_000)
    reading = rapl.read(1.0)
    assert list(reading.quantities) == ["CPU energy"]
    assert reading["CPU energy"].value == 14.0
    assert reading.notes == ()


def test_memory_has_a_separate_row(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    tree.zone("intel-rapl:0:0", "dram", 0)
    tree.zone("intel-rapl:1:0", "dram", 0)
    rapl = start(tree)
    tree.set("intel-rapl:0:0", 5_000_000)
    tree.set("intel-rapl:1:0", 6_000_000)
    memory = rapl.read(1.0)["memory energy"]
    assert (memory.value, memory.low, memory.high) == (
        11.0,
        pytest.approx(8.8),
        pytest.approx(13.2),
    )


def test_dies_that_share_a_counter_count_once(tree):
    tree.zone("intel-rapl:0", "package-0-die-0", 90_000_000)
    tree.zone(
        "intel-rapl:1", "package-0-die-1", 90_400_000
    )  # the same counter, read slightly later
    tree.zone("intel-rapl:2", "package-0-die-2", 93_000_000)  # another counter
    rapl = start(tree)
    for path in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:2"):
        tree.set(path, 100_000_000)
    assert rapl.read(1.0)["CPU energy"].value == 17.0


def test_a_machine_without_counters_gives_no_energy(tree):
    reading = start(tree).read(1.0)
    assert (dict(reading.quantities), reading.notes) == ({}, ())
    missing = Rapl(tree.root / "nothing")
    missing.start(0.0)
    assert dict(missing.read(1.0).quantities) == {}


def refuse(self, *args, **kwargs):
    raise PermissionError(13, "Permission denied", str(self))


def test_counters_without_read_permission_are_named(tree, monkeypatch):
    tree.zone("intel-rapl:0", "package-0", 0)
    read_text = type(tree.root).read_text
    monkeypatch.setattr(
        type(tree.root),
        "read_text",
        lambda self, *args, **kwargs: (
            refuse(self) if self.name == "energy_uj" else read_text(self, *args, **kwargs)
        ),
    )
    reading = start(tree).read(1.0)
    assert dict(reading.quantities) == {}
    assert reading.notes == (
        "RAPL zone intel-rapl:0 cannot be read (Permission denied); on many systems only root may "
        "read it",
    )


def test_an_unreadable_package_gives_an_infinite_upper_end(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    tree.zone("intel-rapl:1", "package-1", "broken")
    rapl = start(tree)
    tree.set("intel-rapl:0", 3_000_000)
    reading = rapl.read(1.0)
    assert (reading["CPU energy"].value, reading["CPU energy"].high) == (3.0, math.inf)
    assert "intel-rapl:1 cannot be read" in reading.notes[0]


@pytest.mark.parametrize("harm", ["removed", "emptied", "garbled"])
def test_a_missing_counter_keeps_its_last_energy_and_can_return(tree, harm):
    tree.zone("intel-rapl:0", "package-0", 0)
    rapl = start(tree)
    tree.set("intel-rapl:0", 5_000_000)
    rapl.read(10.0)
    counter = tree.root / "intel-rapl:0" / "energy_uj"
    if harm == "removed":
        counter.unlink()
    else:
        counter.write_text("" if harm == "emptied" else "12 apples")
    for now in (20.0, 30.0):
        reading = rapl.read(now)
    energy = reading["CPU energy"]
    assert (energy.value, energy.high) == (5.0, math.inf)
    assert reading.notes == (
        "RAPL zone intel-rapl:0 could not be read for 20 s; its energy since then is missing",
    )
    tree.set("intel-rapl:0", 9_000_000)
    reading = rapl.read(40.0)
    assert (reading["CPU energy"].value, reading.notes) == (9.0, ())
    assert reading["CPU energy"].high == pytest.approx(9.9)


def test_a_restart_begins_at_zero(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    rapl = start(tree)
    tree.set("intel-rapl:0", 5_000_000)
    rapl.read(1.0)
    rapl.start(2.0)
    tree.set("intel-rapl:0", 6_000_000)
    assert rapl.read(3.0)["CPU energy"].value == 1.0
