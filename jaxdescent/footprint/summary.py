"""What a run cost: named quantities, each with how it came about.

Footprints add up, so that a run that was stopped and resumed has the sum of its parts, and
they go through JSON, so that a checkpoint can carry the first part.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from jaxdescent.footprint.quantities import Quantity

# The rows that make up the machine's energy; others in joules (an estimate from FLOPs) are
# another view of the same joules and must not be added to them.
ENERGIES = ("CPU energy", "memory energy", "GPU energy")


class FootprintRow(NamedTuple):
    """A line of a report, in words."""

    name: str
    value: str
    how: str
    constants: str


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Named quantities, and notes on what they leave out.

    Attributes:
      quantities: by name, in the order of the report.
      notes: what could not be measured, and what was counted in part.

    Raises:
      TypeError: something in `quantities` is no `Quantity`.

    Example:
      >>> first = Footprint({"wall time": Quantity.exact(90.0, "s", "measured: clock")})
      >>> resumed = Footprint({"wall time": Quantity.exact(30.0, "s", "measured: clock")})
      >>> print(first + resumed)
      wall time: 120 s (measured: clock)
    """

    quantities: Mapping[str, Quantity] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, quantity in self.quantities.items():
            if not isinstance(quantity, Quantity):
                raise TypeError(
                    f"quantities must be of type Quantity, got {quantity!r} for {name!r}"
                )

    def __getitem__(self, name: str) -> Quantity:
        """The quantity of that name."""
        return self.quantities[name]

    def __contains__(self, name: object) -> bool:
        return name in self.quantities

    def adding(self, name: str, quantity: Quantity) -> "Footprint":
        """A footprint with one more row; a row of that name is replaced.

        Example:
          >>> step = Quantity.exact(6e6, "FLOP", "counted: jaxpr")
          >>> print(Footprint().adding("FLOPs", step.times(1000, "1000 steps")))
          FLOPs: 6 GFLOP (counted: jaxpr)
        """
        return Footprint({**self.quantities, name: quantity}, self.notes)

    @property
    def energy(self) -> Quantity | None:
        """The sum of the metered energies in joules, or None where there is none."""
        parts = [self.quantities[name] for name in ENERGIES if name in self.quantities]
        return sum(parts[1:], start=parts[0]) if parts else None

    def __add__(self, other: "Footprint") -> "Footprint":
        """The sum, row by row. A row that only one of the two has stays, with a note.

        Raises:
          ValueError: rows of one name that do not add up.
        """
        if not isinstance(other, Footprint):
            return NotImplemented
        total = dict(self.quantities)
        for name, quantity in other.quantities.items():
            total[name] = total[name] + quantity if name in total else quantity
        notes = [*self.notes, *other.notes]
        if self.quantities and other.quantities:
            missing = [n for n in total if (n in self.quantities) != (n in other.quantities)]
            notes += [f"{name}: of a part of the run only" for name in missing]
        return Footprint(total, tuple(dict.fromkeys(notes)))

    def __radd__(self, other: Any) -> "Footprint":
        """Lets `sum` start at 0."""
        return self if other == 0 and not isinstance(other, Footprint) else NotImplemented

    def rows(self) -> list[FootprintRow]:
        """A row for each quantity, for a table.

        Example:
          >>> Footprint({"wall time": Quantity.exact(90.0, "s", "measured: clock")}).rows()
          [FootprintRow(name='wall time', value='90 s', how='measured: clock', constants='')]
        """
        return [
            FootprintRow(name, quantity.shown(), quantity.how, "; ".join(quantity.constants))
            for name, quantity in self.quantities.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """A tree of dicts, lists, strings and numbers that JSON takes.

        A bound that is infinite is None there. `Footprint.from_dict` reads it back.
        """
        described = {}
        for name, quantity in self.quantities.items():
            high = None if math.isinf(quantity.high) else quantity.high
            constants = list(quantity.constants)
            described[name] = {**vars(quantity), "high": high, "constants": constants}
        return {"quantities": described, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Self:
        """What `as_dict` described.

        Raises:
          ValueError: it did not.

        Example:
          >>> whole = Footprint({"wall time": Quantity.exact(90.0, "s", "measured: clock")})
          >>> Footprint.from_dict(whole.as_dict()) == whole
          True
        """
        try:
            quantities = {
                name: _quantity(**entry) for name, entry in described["quantities"].items()
            }
            return cls(quantities, tuple(described["notes"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"described must be what Footprint.as_dict returned, got {described!r}"
            ) from error

    def __str__(self) -> str:
        lines = [f"{name}: {quantity}" for name, quantity in self.quantities.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _quantity(*, high: float | None, constants: list[str], **entry: Any) -> Quantity:
    return Quantity(high=math.inf if high is None else high, constants=tuple(constants), **entry)
