"""A number that says how it came about.

A figure for energy or carbon is worth as much as its label: of one machine's two threads one
tool said 8 W and another 60 W. So a quantity holds, beside its value,

    low <= value <= high   what it may be,
    how                    measured, counted or estimated, and by what,
    constants              what went in that was not measured here, with its source.

Sums add the ends of the intervals and products multiply them: the widest interval, as if all
errors went the same way, because they often do (one wrong constant in every part of a run).
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

ORIGINS = ("measured: ", "counted: ", "estimated: ")

_PREFIXES = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
# Units that take a prefix, with the range of powers that anybody writes.
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
    """Reads a number, `(low, high)` or `(low, value, high)`, all at least zero.

    Args:
      name: what the caller calls the argument.
      value: the numbers, finite and in ascending order. Of two, the guess is the middle.

    Raises:
      TypeError: they are no numbers.
      ValueError: they are negative, not finite, not ascending, or not one to three.

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
    """A number with its unit, its interval, and how it came about.

    Attributes:
      value: the best guess; finite, at least 0.
      low: the least that it may be.
      high: the most; infinite where something is left out that nobody can bound.
      unit: "J", "s", "FLOP", "g CO2e", or another.
      how: begins with "measured: ", "counted: " or "estimated: ".
      constants: what went in that was not measured here, with its source.

    Raises:
      ValueError: the numbers do not ascend from 0, or `how` begins otherwise.

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
        for name in ("value", "low", "high"):  # NumPy's and JAX's numbers would not go into JSON
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
        """A quantity whose interval is its value.

        Example:
          >>> print(Quantity.exact(6e6, "FLOP", "counted: jaxpr"))
          6 MFLOP (counted: jaxpr)
        """
        return cls(value, value, value, unit, how, tuple(constants))

    def __add__(self, other: "Quantity") -> "Quantity":
        """The sum; an end of its interval is the sum of those ends.

        Raises:
          ValueError: the units differ, or are rates such as g CO2e/kWh, which do not add up.
        """
        if not isinstance(other, Quantity):
            return NotImplemented
        if self.unit != other.unit or "/" in self.unit:
            raise ValueError(
                f"quantities that add up must have one unit, and no rate, got {self.unit!r} and "
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
        """Lets `sum` start at 0."""
        return self if other == 0 and not isinstance(other, Quantity) else NotImplemented

    def times(
        self, factor: Any, *constants: str, unit: str | None = None, how: str | None = None
    ) -> "Quantity":
        """The product with a number or an interval.

        Args:
          factor: a number, `(low, high)` or `(low, value, high)`; at least 0.
          *constants: what the factor is and where it comes from.
          unit: of the product, if it is another.
          how: of the product, if it is another.

        Raises:
          TypeError: the factor is no number.
          ValueError: the factor is negative, not finite, or not ascending, or nothing is
            said about it.

        Example:
          >>> meter = Quantity.exact(50.0, "J", "measured: rapl")
          >>> print(meter.times((1.1, 1.3), "the building's PUE, 1.1 to 1.3"))
          60 J (55 to 65; measured: rapl)
        """
        by = interval("factor", factor)
        if not constants:
            raise ValueError("constants must say what the factor is, got nothing")
        high = 0.0 if by.high == 0 else self.high * by.high  # infinity times zero is no number
        return Quantity(
            self.value * by.value,
            self.low * by.low,
            high,
            self.unit if unit is None else unit,
            self.how if how is None else how,
            _unique([*self.constants, *constants]),
        )

    def shown(self) -> str:
        """The numbers and the unit, without how they came about.

        Example:
          >>> Quantity.exact(6e6, "FLOP", "counted: jaxpr").shown()
          '6 MFLOP'
        """
        power = _power(self.value or min(self.high, 1.0), self.unit)
        shown = f"{_digits(self.value, power)} {_PREFIXES[power]}{self.unit}"
        if self.low == self.high:
            return shown
        most = "or more" if math.isinf(self.high) else f"to {_digits(self.high, power)}"
        return f"{shown} ({_digits(self.low, power)} {most})"

    def __str__(self) -> str:
        shown = self.shown()
        if shown.endswith(")"):
            return f"{shown[:-1]}; {self.how})"
        return f"{shown} ({self.how})"


def _power(value: float, unit: str) -> int:
    """The power of ten of the prefix with which a value reads best."""
    least, most = _POWERS.get(unit, (0, 0))
    if value == 0 or math.isinf(value):
        return 0
    exponent = int(f"{value:.2e}".split("e")[1])  # rounded: 999.9 reads 1000, the next prefix
    return min(max(exponent // 3 * 3, least), most)


def _digits(value: float, power: int) -> str:
    scaled = value / 10.0**power
    return f"{scaled:,.0f}" if 1000 <= float(f"{scaled:.3g}") < 1e15 else f"{scaled:.3g}"


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
