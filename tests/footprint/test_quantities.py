"""Quantities: intervals, sums, products and formatting."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdescent.footprint import Quantity
from jaxdescent.footprint.quantities import interval

MEASURED = "measured: rapl"
ESTIMATED = "estimated: CPU time x 4 W a busy core"

numbers = st.floats(0, 1e12)
intervals = st.tuples(numbers, numbers, numbers).map(sorted)


def joules(low, value, high, how=MEASURED, constants=()):
    return Quantity(value, low, high, "J", how, constants)


def inside(low, high):
    """A strategy for numbers in an interval."""
    return st.floats(low, high)


@given(data=st.data(), first=intervals, second=intervals)
def test_the_interval_of_a_sum_contains_all_sums(data, first, second):
    total = joules(*first) + joules(*second)
    a = data.draw(inside(first[0], first[2]))
    b = data.draw(inside(second[0], second[2]))
    assert total.low <= a + b <= total.high
    assert total.value == first[1] + second[1]


@given(data=st.data(), first=intervals, second=st.tuples(numbers, numbers, numbers).map(sorted))
def test_the_interval_of_a_product_contains_all_products(data, first, second):
    product = joules(*first).times(second, "a factor")
    a = data.draw(inside(first[0], first[2]))
    b = data.draw(inside(second[0], second[2]))
    assert product.low <= a * b <= product.high
    assert product.value == first[1] * second[1]


def test_interval_ends_are_added_and_multiplied():
    total = joules(1, 2, 4) + joules(10, 20, 40)
    assert (total.low, total.value, total.high) == (11, 22, 44)
    product = joules(1, 2, 4).times((2, 3, 5), "a factor")
    assert (product.low, product.value, product.high) == (2, 6, 20)


def test_a_sum_names_all_origins_and_constants_once():
    total = sum(
        [
            joules(1, 1, 1, MEASURED, ("a",)),
            joules(1, 1, 1, ESTIMATED, ("b",)),
            joules(1, 1, 1, MEASURED, ("a", "c")),
        ]
    )
    assert total.how == f"{MEASURED} + {ESTIMATED}"
    assert total.constants == ("a", "b", "c")


def test_infinite_upper_ends_stay_infinite():
    open_ended = joules(1, 2, math.inf)
    assert (open_ended + joules(1, 1, 1)).high == math.inf
    assert open_ended.times(3, "a factor").high == math.inf
    assert open_ended.times(0, "nothing").high == 0


def test_a_product_may_have_another_unit_and_origin():
    seconds = Quantity.exact(10.0, "s", "measured: clock", ["a clock"])
    energy = seconds.times((2, 4, 8), "4 W (2 to 8)", unit="J", how=ESTIMATED)
    assert energy == Quantity(40, 20, 80, "J", ESTIMATED, ("a clock", "4 W (2 to 8)"))


READINGS = {
    "1.2 kJ (0.8 to 2; measured: rapl)": joules(800, 1200, 2000),
    "1.2 kJ (0.8 or more; measured: rapl)": joules(800, 1200, math.inf),
    "5 J (measured: rapl)": joules(5, 5, 5),
    "0 J (measured: rapl)": joules(0, 0, 0),
    "0 J (0 to 70; measured: rapl)": joules(0, 0, 70),
    "0 J (0 or more; measured: rapl)": joules(0, 0, math.inf),
    "1 MJ (measured: rapl)": joules(999_900, 999_900, 999_900),
    "999 kJ (measured: rapl)": joules(999_400, 999_400, 999_400),
    "20 mJ (5 to 2,000; measured: rapl)": joules(0.005, 0.02, 2),
    "3 uJ (measured: rapl)": joules(3e-6, 3e-6, 3e-6),
    "12,345 s (measured: clock)": Quantity.exact(12345.0, "s", "measured: clock"),
    "250 ms (measured: clock)": Quantity.exact(0.25, "s", "measured: clock"),
    "6.5 PFLOP (counted: jaxpr)": Quantity.exact(6.5e15, "FLOP", "counted: jaxpr"),
    "12,000 EFLOP (counted: jaxpr)": Quantity.exact(1.2e22, "FLOP", "counted: jaxpr"),
    "1.5 kg CO2e (estimated: x)": Quantity.exact(1500, "g CO2e", "estimated: x"),
    "56 g CO2e/kWh (estimated: x)": Quantity.exact(56, "g CO2e/kWh", "estimated: x"),
    "0.001 g CO2e/kWh (estimated: x)": Quantity.exact(0.001, "g CO2e/kWh", "estimated: x"),
}


@pytest.mark.parametrize("expected", READINGS)
def test_quantities_are_formatted(expected):
    assert str(READINGS[expected]) == expected


@given(value=st.floats(1e-9, 1e20), unit=st.sampled_from(["J", "s", "FLOP", "g CO2e", "W"]))
def test_the_formatted_value_has_three_digits(value, unit):
    number, rest = Quantity.exact(value, unit, MEASURED).formatted().split(" ", 1)
    prefix = rest.removesuffix(unit)
    scale = 10.0 ** {
        "n": -9,
        "u": -6,
        "m": -3,
        "k": 3,
        "M": 6,
        "G": 9,
        "T": 12,
        "P": 15,
        "E": 18,
    }.get(prefix, 0)
    assert float(number.replace(",", "")) * scale == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(3, (3, 3, 3)), ((2, 6), (2, 4, 6)), ([2, 3, 6], (2, 3, 6)), ((0, 0), (0, 0, 0))],
)
def test_an_interval_is_one_two_or_three_numbers(given, expected):
    assert interval("x", given) == expected


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((6, 2), ValueError),
        (-1, ValueError),
        ((-1, 2), ValueError),
        (math.inf, ValueError),
        (math.nan, ValueError),
        ((1, math.nan, 2), ValueError),
        ((), ValueError),
        ((1, 2, 3, 4), ValueError),
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
        ({1, 2}, TypeError),
    ],
)
def test_bad_intervals_are_refused_by_name(given, error):
    with pytest.raises(error, match="watts must be a number"):
        interval("watts", given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: joules(2, 1, 3),
        lambda: joules(1, 4, 3),
        lambda: joules(-1, 1, 3),
        lambda: joules(1, math.inf, math.inf),
        lambda: joules(math.nan, 1, 3),
        lambda: joules(1, math.nan, 3),
        lambda: joules(1, 2, 3, how="by the meter"),
        lambda: joules(1, 2, 3, how="measured"),
    ],
)
def test_a_quantity_needs_an_interval_and_an_origin(make):
    with pytest.raises(ValueError, match=r"low <= value <= high|how must begin with 'measured: '"):
        make()


def test_sums_of_different_units_and_of_rates_are_refused():
    with pytest.raises(ValueError, match="one unit"):
        _ = joules(1, 1, 1) + Quantity.exact(1, "s", "measured: clock")
    rate = Quantity.exact(56, "g CO2e/kWh", "estimated: x")
    with pytest.raises(ValueError, match="not a rate"):
        _ = rate + rate
    for other in (1, 0):
        with pytest.raises(TypeError):
            _ = joules(1, 1, 1) + other
    with pytest.raises(TypeError):
        _ = 1 + joules(1, 1, 1)


def test_a_factor_needs_a_description():
    with pytest.raises(ValueError, match="constants must describe the factor"):
        joules(1, 1, 1).times(2)
    with pytest.raises(ValueError, match="factor must be a number"):
        joules(1, 1, 1).times(-2, "less than nothing")
