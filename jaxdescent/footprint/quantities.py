"""Numbers with an interval and an origin.

Energy and carbon estimates need both: for two threads of one machine, one tool reports 8 W and
another 60 W. A quantity therefore holds

    low <= value <= high   the interval,
    how                    its origin: measured, counted or estimated, and by what,
    constants              inputs that were not measured here, with their sources.

Sums add the ends of the intervals and products multiply them. This is the widest interval, as if
all errors had the same sign, which is often the case: one wrong constant affects every part of a
run.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

ORIGINS = ("measured: ", "counted: ", "estimated: ")

_PREFIXES = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
# Units that take a prefix, with the range of its powers of ten.
_POWERS = {
    "J": (-9, 18),
    "W": (-9, 18),
    "FLOP": (0, 18),
    "g CO2e": (-9, 18),
    "s": (-9, 0),
}


class Interval(NamedTuple):
    """A best guess between two bounds."""

    low: float
    value: float
    high: float


def interval(name: str, value: Any) -> Interval:
    """Converts a number, `(low, high)` or `(low, value, high)` to an interval.

    Args:
      name: the argument's name, for error messages.
      value: finite numbers in ascending order, at least 0. Of two, the midpoint is the value.

    Raises:
      TypeError: an entry is not a number.
      ValueError: the numbers are negative, not finite, not ascending, or not one to three.

    Example:
      >>> interval("watts", (2, 6))
      Interval(low=2.0, value=4.0, high=6.0)
    """
    given = value if isinstance(value, (tuple, list)) else (value,)
    try:
        numbers = [float(number) for number in given]
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or any(isinstance(number, (bool, str)) for number in given):
        raise TypeError(
            f"{name} must be a number, (low, high) or (low, value, high), got {value!r}"
        )
    finite = all(map(math.isfinite, numbers))
    if not (1 <= len(numbers) <= 3 and finite and sorted([0.0, *numbers]) == [0.0, *numbers]):
        raise ValueError(
            f"{name} must be a number, (low, high) or (low, value, high), ascending, finite and "
            f"at least 0, got {value!r}"
        )
    low, high = numbers[0], numbers[-1]
    return Interval(low, numbers[1] if len(numbers) == 3 else low + (high - low) / 2, high)


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A number with a unit, an interval and an origin.

    Attributes:
      value: the best guess; finite, at least 0.
      low: the lower bound.
      high: the upper bound; infinite if a part is missing and has no known bound.
      unit: "J", "s", "FLOP", "g CO2e", or another unit.
      how: the origin; begins with "measured: ", "counted: " or "estimated: ".
      constants: inputs that were not measured here, with their sources.

    Raises:
      ValueError: the numbers do not ascend from 0, or `how` does not begin with an origin.

    Example:
      >>> print(Quantity(1200.0, 800.0, 2000.0, "J", "estimated: CPU time x 4 W a core"))
      1.2 kJ (0.8 to 2; estimated: CPU time x 4 W a core)
    """

    value: float
    low: float
    high: float
    unit: str
    how: str
    constants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):  # JSON does not accept NumPy and JAX scalars
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (0 <= self.low <= self.value <= self.high and math.isfinite(self.value)):
            raise ValueError(
                "value must be finite and 0 <= low <= value <= high, got "
                f"value={self.value!r}, low={self.low!r}, high={self.high!r}"
            )
        if not self.how.startswith(ORIGINS):
            raise ValueError(
                f"how must begin with {', '.join(map(repr, ORIGINS))}, got {self.how!r}"
            )

    @classmethod
    def exact(cls, value: float, unit: str, how: str, constants: Iterable[str] = ()) -> Self:
        """Creates a quantity whose interval is its value.

        Example:
          >>> print(Quantity.exact(6e6, "FLOP", "counted: jaxpr"))
          6 MFLOP (counted: jaxpr)
        """
        return cls(value, value, value, unit, how, tuple(constants))

    def __add__(self, other: "Quantity") -> "Quantity":
        """Returns the sum; the ends of the intervals are added.

        Raises:
          ValueError: the units differ, or are rates such as g CO2e/kWh.
        """
        if not isinstance(other, Quantity):
            return NotImplemented
        if self.unit != other.unit or "/" in self.unit:
            raise ValueError(
                f"quantities in a sum must have one unit that is not a rate, got {self.unit!r} and "
                f"{other.unit!r}"
            )
        return Quantity(
            self.value + other.value,
            self.low + other.low,
            self.high + other.high,
            self.unit,
            " + ".join(_unique([*self.how.split(" + "), *other.how.split(" + ")])),
            _unique([*self.constants, *other.constants]),
        )

    def __radd__(self, other: Any) -> "Quantity":
        """Supports `sum`, which starts at 0."""
        return self if other == 0 and not isinstance(other, Quantity) else NotImplemented

    def times(
        self, factor: Any, *constants: str, unit: str | None = None, how: str | None = None
    ) -> "Quantity":
        """Returns the product with a number or an interval.

        Args:
          factor: a number, `(low, high)` or `(low, value, high)`; at least 0.
          *constants: descriptions of the factor and its source; at least one.
          unit: the product's unit; the same by default.
          how: the product's origin; the same by default.

        Raises:
          TypeError: the factor is not a number.
          ValueError: the factor is negative, not finite, or not ascending, or `constants` is
            empty.

        Example:
          >>> meter = Quantity.exact(50.0, "J", "measured: rapl")
          >>> print(meter.times((1.1, 1.3), "the building's PUE, 1.1 to 1.3"))
          60 J (55 to 65; measured: rapl)
        """
        by = interval("factor", factor)
        if not constants:
            raise ValueError("constants must describe the factor, got no description")
        high = 0.0 if by.high == 0 else self.high * by.high  # infinity times 0 would be NaN
        return Quantity(
            self.value * by.value,
            self.low * by.low,
            high,
            self.unit if unit is None else unit,
            self.how if how is None else how,
            _unique([*self.constants, *constants]),
        )

    def formatted(self) -> str:
        """Formats the numbers and the unit, without the origin.

        Example:
          >>> Quantity.exact(6e6, "FLOP", "counted: jaxpr").formatted()
          '6 MFLOP'
        """
        power = _power(self.value or min(self.high, 1.0), self.unit)
        text = f"{_digits(self.value, power)} {_PREFIXES[power]}{self.unit}"
        if self.low == self.high:
            return text
        end = "or more" if math.isinf(self.high) else f"to {_digits(self.high, power)}"
        return f"{text} ({_digits(self.low, power)} {end})"

    def __str__(self) -> str:
        text = self.formatted()
        if text.endswith(")"):
            return f"{text[:-1]}; {self.how})"
        return f"{text} ({self.how})"


def _power(value: float, unit: str) -> int:
    """Returns the power of ten of the unit's prefix."""
    least, most = _POWERS.get(unit, (0, 0))
    if value == 0 or math.isinf(value):
        return 0
    exponent = int(f"{value:.2e}".split("e")[1])  # rounded: 999.9 prints as 1000
    return min(max(exponent // 3 * 3, least), most)


def _digits(value: float, power: int) -> str:
    scaled = value / 10.0**power
    return f"{scaled:,.0f}" if 1000 <= float(f"{scaled:.3g}") < 1e15 else f"{scaled:.3g}"


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
