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


def test_a_resumed_run_has_the_sum_of_its_parts():
    first = Footprint({"wall time": WALL, "CPU energy": CPU}, ("a note",))
    second = Footprint({"wall time": WALL, "CPU energy": GPU}, ("a note", "another"))
    total = sum([first, second])
    assert total["wall time"] == Quantity.exact(180.0, "s", "measured: clock", ["a clock"])
    assert total["CPU energy"].value == 110
    assert total["CPU energy"].how == "measured: rapl + measured: nvml"
    assert total.notes == ("a note", "another")


def test_a_row_of_only_one_part_is_kept_with_a_note():
    total = Footprint({"wall time": WALL, "GPU energy": GPU}) + Footprint({"wall time": WALL})
    assert total["GPU energy"] == GPU
    assert total.notes == ("GPU energy: covers only a part of the run",)
    assert (total + total).notes == total.notes


def test_an_empty_footprint_is_a_neutral_element():
    footprint = Footprint({"wall time": WALL}, ("a note",))
    assert footprint + Footprint() == Footprint() + footprint == footprint


def test_energy_is_the_sum_of_metered_rows_only():
    from_flops = Quantity.exact(1e6, "J", "estimated: FLOPs x 1e-9 J")
    footprint = Footprint({"CPU energy": CPU, "energy by FLOPs": from_flops, "GPU energy": GPU})
    assert footprint.energy == CPU + GPU
    assert Footprint({"wall time": WALL}).energy is None


def test_json_preserves_a_footprint():
    footprint = Footprint({"wall time": WALL, "CPU energy": CPU, "FLOPs": FLOPS}, ("a note",))
    text = json.dumps(footprint.as_dict(), allow_nan=False)
    assert Footprint.from_dict(json.loads(text)) == footprint
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
def test_all_number_types_convert_to_json(number):
    footprint = Footprint({"x": Quantity.exact(number, "J", "measured: rapl")})
    assert json.loads(json.dumps(footprint.as_dict()))["quantities"]["x"]["value"] == 3.0


def test_rows_are_text_for_a_table():
    name, value, how, constants = Footprint({"GPU energy": GPU + CPU}).rows()[0]
    assert (name, value) == ("GPU energy", "110 J (89 or more)")
    assert how == "measured: nvml + measured: rapl"
    assert constants == "whole boards; whole packages"


def test_a_footprint_prints_one_line_per_row_and_note():
    footprint = Footprint({"wall time": WALL}, ("memory is not in",)).adding("FLOPs", FLOPS)
    assert str(footprint).split("\n") == [
        "wall time: 90 s (measured: clock)",
        "FLOPs: 6 PFLOP (counted: jaxpr)",
        "note: memory is not in",
    ]
    assert "FLOPs" in footprint
    assert "carbon" not in footprint


def test_adding_replaces_a_row_in_a_copy():
    first = Footprint({"wall time": WALL})
    second = first.adding("wall time", GPU)
    assert (first["wall time"], second["wall time"]) == (WALL, GPU)


def test_values_that_are_not_quantities_are_refused():
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
def test_from_dict_refuses_other_structures(described):
    with pytest.raises(ValueError, match=r"a result of Footprint.as_dict|low <= value"):
        Footprint.from_dict(described)
