"""Footprints: sums of parts, JSON and rows."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.footprint import Footprint, Quantity

WALL = Quantity.exact(90.0, "s", "measured: clock", ["a clock"])
CPU = Quantity(10.0, 9.0, math.inf, "J", "measured: rapl", ("whole packages",))
GPU = Quantity(100.0, 80.0, 120.0, "J", "measured: nvml", ("whole boards",))
FLOPS = Quantity.exact(6e15, "FLOP", "counted: jaxpr")


def test_a_resumed_run_adds_up_its_parts():
    first = Footprint({"wall time": WALL, "CPU energy": CPU}, ("a note",))
    second = Footprint({"wall time": WALL, "CPU energy": GPU}, ("a note", "another"))
    total = sum([first, second])
    assert total["wall time"] == Quantity.exact(180.0, "s", "measured: clock", ["a clock"])
    assert total["CPU energy"].value == 110
    assert total["CPU energy"].how == "measured: rapl + measured: nvml"
    assert total.notes == ("a note", "another")


def test_a_row_of_one_part_stays_and_says_so():
    total = Footprint({"wall time": WALL, "GPU energy": GPU}) + Footprint({"wall time": WALL})
    assert total["GPU energy"] == GPU
    assert total.notes == ("GPU energy: of a part of the run only",)
    assert (total + total).notes == total.notes


def test_nothing_adds_nothing():
    whole = Footprint({"wall time": WALL}, ("a note",))
    assert whole + Footprint() == Footprint() + whole == whole


def test_energy_is_what_was_metered_and_no_other_view_of_it():
    from_flops = Quantity.exact(1e6, "J", "estimated: FLOPs x 1e-9 J")
    whole = Footprint({"CPU energy": CPU, "energy by FLOPs": from_flops, "GPU energy": GPU})
    assert whole.energy == CPU + GPU
    assert Footprint({"wall time": WALL}).energy is None


def test_it_goes_through_json_and_back():
    whole = Footprint({"wall time": WALL, "CPU energy": CPU, "FLOPs": FLOPS}, ("a note",))
    text = json.dumps(whole.as_dict(), allow_nan=False)
    assert Footprint.from_dict(json.loads(text)) == whole
    entry = json.loads(text)["quantities"]["CPU energy"]
    assert entry == {
        "value": 10.0,
        "low": 9.0,
        "high": None,
        "unit": "J",
        "how": "measured: rapl",
        "constants": ["whole packages"],
    }


@pytest.mark.parametrize("number", [np.float32(3), np.int64(3), jnp.float32(3), 3])
def test_every_kind_of_number_goes_into_json(number):
    whole = Footprint({"x": Quantity.exact(number, "J", "measured: rapl")})
    assert json.loads(json.dumps(whole.as_dict()))["quantities"]["x"]["value"] == 3.0


def test_rows_have_words_for_a_table():
    name, value, how, constants = Footprint({"GPU energy": GPU + CPU}).rows()[0]
    assert (name, value) == ("GPU energy", "110 J (89 or more)")
    assert how == "measured: nvml + measured: rapl"
    assert constants == "whole boards; whole packages"


def test_it_reads_line_by_line():
    whole = Footprint({"wall time": WALL}, ("memory is not in",)).adding("FLOPs", FLOPS)
    assert str(whole).split("\n") == [
        "wall time: 90 s (measured: clock)",
        "FLOPs: 6 PFLOP (counted: jaxpr)",
        "note: memory is not in",
    ]
    assert "FLOPs" in whole
    assert "carbon" not in whole


def test_adding_replaces_a_row_and_leaves_the_first_alone():
    first = Footprint({"wall time": WALL})
    second = first.adding("wall time", GPU)
    assert (first["wall time"], second["wall time"]) == (WALL, GPU)


def test_what_is_no_quantity_is_refused():
    with pytest.raises(TypeError, match=r"type Quantity, got 3\.0 for 'energy'"):
        Footprint({"energy": 3.0})
    with pytest.raises(ValueError, match="one unit"):
        _ = Footprint({"x": WALL}) + Footprint({"x": GPU})
    with pytest.raises(TypeError):
        _ = Footprint({"x": WALL}) + WALL


@pytest.mark.parametrize(
    "described",
    [
        {},
        None,
        {"quantities": {"x": {"value": 1.0}}, "notes": []},
        {"quantities": [], "notes": []},
        {
            "quantities": {"x": {**Footprint({"x": WALL}).as_dict()["quantities"]["x"], "low": -1}},
            "notes": [],
        },
    ],
)
def test_a_foreign_description_is_refused(described):
    with pytest.raises(ValueError, match=r"what Footprint.as_dict returned|low <= value"):
        Footprint.from_dict(described)
