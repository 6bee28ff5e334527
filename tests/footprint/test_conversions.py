"""Carbon and energy from given factors."""

import inspect
import math

import jax.numpy as jnp
import pytest

from jaxdescent.footprint import Quantity, carbon, energy_from_flops, flops

KWH = Quantity(3.6e6, 1.8e6, 7.2e6, "J", "measured: rapl", ("whole packages",))


def test_carbon_of_a_kilowatt_hour_equals_the_grid_intensity():
    grams = carbon(KWH, grid_intensity=56)
    assert (grams.low, grams.value, grams.high) == pytest.approx((28, 56, 112), rel=1e-12)
    assert grams.unit == "g CO2e"
    assert str(grams) == (
        "56 g CO2e (28 to 112; estimated: 56 g CO2e/kWh x energy (measured: rapl))"
    )
    assert grams.constants == ("whole packages", "grid_intensity = 56 g CO2e/kWh (given)")


def test_a_range_of_intensities_widens_the_interval():
    grams = carbon(KWH, grid_intensity=(50, 150))
    assert (grams.low, grams.value, grams.high) == pytest.approx((25, 100, 300), rel=1e-12)
    assert "100 (50 to 150) g CO2e/kWh" in grams.how


def test_carbon_records_the_source_of_the_intensity():
    intensity = Quantity(56, 28, 112, "g CO2e/kWh", "estimated: mean of France", ("a table",))
    grams = carbon(KWH, grid_intensity=intensity)
    assert (grams.low, grams.value, grams.high) == pytest.approx((14, 56, 224), rel=1e-12)
    assert grams.constants[1:] == (
        "grid_intensity = 56 (28 to 112) g CO2e/kWh (estimated: mean of France)",
        "a table",
    )


def test_carbon_of_several_origins_can_be_added():
    both = KWH + Quantity(3.6e6, 1.8e6, 7.2e6, "J", "measured: nvml")
    total = carbon(both, grid_intensity=50) + carbon(both, grid_intensity=60)
    assert total.value == pytest.approx(220)
    assert total.how == (
        "estimated: 50 g CO2e/kWh x energy (measured: rapl, measured: nvml) + "
        "estimated: 60 g CO2e/kWh x energy (measured: rapl, measured: nvml)"
    )


def test_energy_is_flops_times_the_given_joules_per_flop():
    step = flops(lambda a, b: a @ b, jnp.ones((100, 50)), jnp.ones((50, 20)))
    energy = energy_from_flops(step, joules_per_flop=(1e-12, 3e-12))
    assert (energy.low, energy.value, energy.high) == pytest.approx((2e-7, 4e-7, 6e-7))
    assert (energy.unit, energy.how) == (
        "J",
        "estimated: 2e-12 (1e-12 to 3e-12) J/FLOP x FLOPs (counted: jaxpr)",
    )
    assert energy.constants[-1] == "joules_per_flop = 2e-12 (1e-12 to 3e-12) J/FLOP (given)"
    ten_steps = energy_from_flops(step.quantity().times(10, "10 steps"), joules_per_flop=1e-12)
    assert ten_steps.value == pytest.approx(2e-6)


def test_a_number_of_flops_has_the_origin_given():
    energy = energy_from_flops((1e12, 3e12), joules_per_flop=1e-12)
    assert (energy.low, energy.value, energy.high) == pytest.approx((1, 2, 3))
    assert energy.how == "estimated: 1e-12 J/FLOP x FLOPs (estimated: given)"


def test_uncounted_flops_give_an_infinite_upper_end():
    partly = Quantity(1e12, 1e12, math.inf, "FLOP", "counted: jaxpr")
    energy = energy_from_flops(partly, joules_per_flop=1e-12)
    assert energy.high == math.inf
    assert carbon(energy, grid_intensity=56).high == math.inf


@pytest.mark.parametrize("function", [carbon, energy_from_flops])
def test_there_is_no_default_factor(function):
    *_, factor = inspect.signature(function).parameters.values()
    assert factor.default is inspect.Parameter.empty
    assert factor.kind is inspect.Parameter.KEYWORD_ONLY


SECONDS = Quantity.exact(1, "s", "measured: clock")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: carbon(3.6e6, grid_intensity=56), TypeError, "energy must be a Quantity in J"),
        (lambda: carbon(SECONDS, grid_intensity=56), TypeError, "energy must be a Quantity in J"),
        (lambda: carbon(KWH, grid_intensity=-1), ValueError, "grid_intensity must be a number"),
        (lambda: carbon(KWH, grid_intensity=None), TypeError, "grid_intensity must be a number"),
        (lambda: carbon(KWH, grid_intensity=KWH), TypeError, "grid_intensity must be in g CO2e"),
        (lambda: energy_from_flops(KWH, joules_per_flop=1), TypeError, "a Quantity in FLOP"),
        (lambda: energy_from_flops("x", joules_per_flop=1), TypeError, "flops must be a number"),
        (lambda: energy_from_flops(-1, joules_per_flop=1), ValueError, "flops must be a number"),
        (
            lambda: energy_from_flops(1, joules_per_flop=(2, 1)),
            ValueError,
            "joules_per_flop must be a number",
        ),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
