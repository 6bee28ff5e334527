"""The footprint of a run sums series and sessions, and says how each number was obtained."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner import Program
from experiments.runner.footprint_log import FootprintLog, flops_per_step, read_footprint

PRODUCT = 2 * 2 * 3 * 3
STEP = PRODUCT + 2 * 3  # and six additions


def advance(carry, feed, matrix):
    return jax.lax.scan(lambda c, x: (c @ matrix + 1.0, x), carry, feed)


def program():
    """Returns a program with chunks of ten steps."""
    feed = np.zeros(10, np.float32)
    carry, constants = jnp.ones((2, 3)), (jnp.eye(3),)
    return Program(advance, carry, steps_per_chunk=10, feed=feed, constants=constants)


PROGRAM = program()


def parts(folder):
    return json.loads((folder / "footprint.json").read_text())["parts"]


def flops(part):
    return part["quantities"]["training FLOPs"]["value"]


def session(folder, **chunks):
    log = FootprintLog(folder / "footprint.json")
    for series, count in chunks.items():
        for _ in range(count):
            log.count(series, PROGRAM)
    log.save()
    return log


def test_the_flops_of_a_chunk_are_of_all_its_steps(tmp_path):
    session(tmp_path, a=1)
    (part,) = parts(tmp_path)
    assert flops(part) == 10 * STEP
    products = part["quantities"]["of them in matrix products and convolutions"]
    assert products["value"] == 10 * PRODUCT
    assert flops_per_step(tmp_path) == {"a": STEP}


def test_the_flops_of_all_series_are_summed(tmp_path):
    session(tmp_path, a=3, b=2)
    (part,) = parts(tmp_path)
    assert flops(part) == 50 * STEP
    assert flops_per_step(tmp_path) == {"a": STEP, "b": STEP}
    assert read_footprint(tmp_path)["training FLOPs"].startswith("2.1 kFLOP (counted: jaxpr)")


def test_saving_again_replaces_the_part_of_this_session(tmp_path):
    log = session(tmp_path, a=1)
    log.count("a", PROGRAM)
    log.save()
    (part,) = parts(tmp_path)
    assert flops(part) == 20 * STEP


def test_the_footprint_is_the_sum_over_sessions(tmp_path):
    for chunks in ({"a": 3}, {"a": 1}, {"b": 2}):
        session(tmp_path, **chunks)
    assert [flops(part) / STEP for part in parts(tmp_path)] == [30, 10, 20]
    assert read_footprint(tmp_path)["training FLOPs"].startswith("2.52 kFLOP (counted: jaxpr)")
    assert {*flops_per_step(tmp_path)} == {"a", "b"}
    seconds = [part["quantities"]["wall time"]["value"] for part in parts(tmp_path)]
    assert all(second > 0 for second in seconds)


def test_a_session_without_steps_keeps_the_flops_of_earlier_ones(tmp_path):
    session(tmp_path, a=3)
    session(tmp_path)
    assert read_footprint(tmp_path)["training FLOPs"].startswith("1.26 kFLOP")


def test_each_number_says_how_it_was_obtained_and_what_is_left_out(tmp_path):
    session(tmp_path, a=1)
    footprint = read_footprint(tmp_path)
    left_out = footprint.pop("left out")
    assert {"wall time", "CPU time", "CPU energy", "training FLOPs"} <= {*footprint}
    for text in footprint.values():
        assert any(how in text for how in ("(measured: ", "(counted: ", "(estimated: "))
    assert "all steps of all seeds" in footprint["training FLOPs"]
    assert "not metered: " in left_out
    assert "not counted: evaluations" in left_out
    assert "CO2" not in str(footprint) + left_out


def test_a_folder_without_a_file_has_an_empty_footprint(tmp_path):
    assert read_footprint(tmp_path) == {}
    assert flops_per_step(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"parts": 3}', '{"parts": [{}], "flops_per_step": {}}', "\x00"],
)
def test_a_damaged_file_is_an_empty_footprint(tmp_path, content):
    (tmp_path / "footprint.json").write_text(content)
    assert read_footprint(tmp_path) == {}
    assert flops_per_step(tmp_path) == {}
    session(tmp_path, a=1)
    (part,) = parts(tmp_path)
    assert flops(part) == 10 * STEP


def test_operations_that_cannot_be_counted_are_reported(tmp_path):
    def until(carry, _):
        return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c + 1, carry), ()

    log = FootprintLog(tmp_path / "footprint.json")
    log.count("a", Program(until, jnp.ones((2, 2)), steps_per_chunk=1))
    log.save()
    assert "not counted: " in read_footprint(tmp_path)["training FLOPs"]
    # An unknown upper bound is null, because JSON has no infinity.
    assert json.loads((tmp_path / "footprint.json").read_text(), parse_constant=pytest.fail)


def test_without_constants_each_quantity_is_one_short_text(tmp_path):
    session(tmp_path, a=1)
    footprint = read_footprint(tmp_path, constants=False)
    assert footprint["wall time"].endswith("s (measured: clock)")
    assert footprint["training FLOPs"] == "420 FLOP (counted: jaxpr)"
    assert "left out" not in footprint
