"""The bill of a run adds up over lines and sessions, and says how each number came about."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner import Program
from experiments.runner.spending import Spending, flops_per_step, spent

PRODUCT = 2 * 2 * 3 * 3
STEP = PRODUCT + 2 * 3  # and an addition to each number


def advance(carry, feed, matrix):
    return jax.lax.scan(lambda c, x: (c @ matrix + 1.0, x), carry, feed)


def program(calls):
    """Chunks of ten steps."""
    feed = np.zeros(10, np.float32)
    carry, constants = jnp.ones((2, 3)), (jnp.eye(3),)
    return Program(advance, carry, steps_per_chunk=10, feed=feed, constants=constants, calls=calls)


PROGRAMS = {1: program(1), 5: program(5)}


def parts(folder):
    return json.loads((folder / "footprint.json").read_text())["parts"]


def flops(part):
    return part["quantities"]["training FLOPs"]["value"]


def session(folder, calls=1, **chunks):
    spending = Spending(folder / "footprint.json")
    for line, count in chunks.items():
        for _ in range(count):
            spending.count(line, PROGRAMS[calls])
    spending.save()
    return spending


@pytest.mark.parametrize("calls", [1, 5])
def test_a_chunk_costs_its_steps_in_however_many_calls(tmp_path, calls):
    session(tmp_path, calls=calls, a=1)
    (part,) = parts(tmp_path)
    assert flops(part) == 10 * STEP
    products = part["quantities"]["of them in matrix products and convolutions"]
    assert products["value"] == 10 * PRODUCT
    assert flops_per_step(tmp_path) == {"a": STEP}


def test_the_steps_of_all_lines_add_up(tmp_path):
    session(tmp_path, a=3, b=2)
    (part,) = parts(tmp_path)
    assert flops(part) == 50 * STEP
    assert flops_per_step(tmp_path) == {"a": STEP, "b": STEP}
    assert spent(tmp_path)["training FLOPs"].startswith("2.1 kFLOP (counted: jaxpr)")


def test_saving_again_replaces_the_part_of_this_session(tmp_path):
    spending = session(tmp_path, a=1)
    spending.count("a", PROGRAMS[1])
    spending.save()
    (part,) = parts(tmp_path)
    assert flops(part) == 20 * STEP


def test_each_session_has_its_own_part_and_the_bill_is_their_sum(tmp_path):
    for chunks in ({"a": 3}, {"a": 1}, {"b": 2}):
        session(tmp_path, **chunks)
    assert [flops(part) / STEP for part in parts(tmp_path)] == [30, 10, 20]
    assert spent(tmp_path)["training FLOPs"].startswith("2.52 kFLOP (counted: jaxpr)")
    assert {*flops_per_step(tmp_path)} == {"a", "b"}
    seconds = [part["quantities"]["wall time"]["value"] for part in parts(tmp_path)]
    assert all(second > 0 for second in seconds)


def test_a_session_without_steps_leaves_the_flops_of_the_others(tmp_path):
    session(tmp_path, a=3)
    session(tmp_path)
    assert spent(tmp_path)["training FLOPs"].startswith("1.26 kFLOP")


def test_every_number_says_how_it_came_about_and_what_is_left_out(tmp_path):
    session(tmp_path, a=1)
    bill = spent(tmp_path)
    left_out = bill.pop("left out")
    assert {"wall time", "CPU time", "CPU energy", "training FLOPs"} <= {*bill}
    for line in bill.values():
        assert any(how in line for how in ("(measured: ", "(counted: ", "(estimated: "))
    assert "all steps of all seeds" in bill["training FLOPs"]
    assert "not metered: " in left_out
    assert "not counted: evaluations" in left_out
    assert "CO2" not in str(bill) + left_out


def test_where_nothing_was_written_nothing_was_spent(tmp_path):
    assert spent(tmp_path) == {}
    assert flops_per_step(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"parts": 3}', '{"parts": [{}], "flops_per_step": {}}', "\x00"],
)
def test_a_damaged_bill_is_a_bill_of_nothing_and_the_run_goes_on(tmp_path, content):
    (tmp_path / "footprint.json").write_text(content)
    assert spent(tmp_path) == {}
    assert flops_per_step(tmp_path) == {}
    session(tmp_path, a=1)
    (part,) = parts(tmp_path)
    assert flops(part) == 10 * STEP


def test_a_program_with_what_cannot_be_counted_says_so(tmp_path):
    def until(carry, _):
        return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c + 1, carry), ()

    spending = Spending(tmp_path / "footprint.json")
    spending.count("a", Program(until, jnp.ones((2, 2)), steps_per_chunk=1))
    spending.save()
    assert "not counted: " in spent(tmp_path)["training FLOPs"]
    # An end that nobody can bound is null, since JSON has no infinity.
    assert json.loads((tmp_path / "footprint.json").read_text(), parse_constant=pytest.fail)


def test_a_short_bill_leaves_out_the_constants(tmp_path):
    session(tmp_path, a=1)
    bill = spent(tmp_path, constants=False)
    assert bill["wall time"].startswith("wall time ")
    assert bill["training FLOPs"] == "training FLOPs 420 FLOP (counted: jaxpr)"
    assert "left out" not in bill
