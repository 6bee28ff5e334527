"""The footprint of a run: named quantities, each with its origin.

Footprints can be added, so that a resumed run reports the sum of its parts, and converted to JSON,
so that a checkpoint can store the first part.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from jaxdescent.footprint.quantities import Quantity

# The rows that add up to the machine's energy. Other rows in joules, such as an estimate from
# FLOPs, describe the same energy and must not be added.
ENERGIES = ("CPU energy", "memory energy", "GPU energy")


class FootprintRow(NamedTuple):
    """A row of a report, as text.

    Attributes:
      name: the quantity's name.
      value: the number, its interval and its unit.
      how: the quantity's origin.
      constants: inputs that were not measured, with their sources.
    """

    name: str
    value: str
    how: str
    constants: str


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Named quantities, and notes on what they exclude.

    Attributes:
      quantities: the quantities by name, in the order of the report.
      notes: descriptions of parts that were not measured or only partly counted.

    Raises:
      TypeError: a value of `quantities` is not a `Quantity`.

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
        """Returns a quantity by its name."""
        return self.quantities[name]

    def __contains__(self, name: object) -> bool:
        return name in self.quantities

    def adding(self, name: str, quantity: Quantity) -> "Footprint":
        """Returns a footprint with one more row, which replaces a row of the same name.

        Example:
          >>> step = Quantity.exact(6e6, "FLOP", "counted: jaxpr")
          >>> print(Footprint().adding("FLOPs", step.times(1000, "1000 steps")))
          FLOPs: 6 GFLOP (counted: jaxpr)
        """
        return Footprint({**self.quantities, name: quantity}, self.notes)

    @property
    def energy(self) -> Quantity | None:
        """The sum of the metered energies in joules, or None without such rows."""
        parts = [self.quantities[name] for name in ENERGIES if name in self.quantities]
        return sum(parts[1:], start=parts[0]) if parts else None

    def __add__(self, other: "Footprint") -> "Footprint":
        """Returns the sum, row by row. A row of only one of the two is kept, with a note.

        Raises:
          ValueError: two rows of one name have different units.
        """
        if not isinstance(other, Footprint):
            return NotImplemented
        total = dict(self.quantities)
        for name, quantity in other.quantities.items():
            total[name] = total[name] + quantity if name in total else quantity
        notes = [*self.notes, *other.notes]
        if self.quantities and other.quantities:
            missing = [n for n in total if (n in self.quantities) != (n in other.quantities)]
            notes += [f"{name}: covers only a part of the run" for name in missing]
        return Footprint(total, tuple(dict.fromkeys(notes)))

    def __radd__(self, other: Any) -> "Footprint":
        """Supports `sum`, which starts at 0."""
        return self if other == 0 and not isinstance(other, Footprint) else NotImplemented

    def rows(self) -> list[FootprintRow]:
        """Returns one row of text per quantity.

        Example:
          >>> Footprint({"wall time": Quantity.exact(90.0, "s", "measured: clock")}).rows()
          [FootprintRow(name='wall time', value='90 s', how='measured: clock', constants='')]
        """
        return [
            FootprintRow(name, quantity.formatted(), quantity.how, "; ".join(quantity.constants))
            for name, quantity in self.quantities.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Returns a tree of dicts, lists, strings and numbers for JSON.

        Infinite bounds become None. `Footprint.from_dict` is the inverse.
        """
        described = {}
        for name, quantity in self.quantities.items():
            high = None if math.isinf(quantity.high) else quantity.high
            constants = list(quantity.constants)
            described[name] = {**vars(quantity), "high": high, "constants": constants}
        return {"quantities": described, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Self:
        """Creates a footprint from the result of `as_dict`.

        Raises:
          ValueError: `described` has another structure.

        Example:
          >>> footprint = Footprint({"wall time": Quantity.exact(90.0, "s", "measured: clock")})
          >>> Footprint.from_dict(footprint.as_dict()) == footprint
          True
        """
        try:
            quantities = {
                name: _quantity(**entry) for name, entry in described["quantities"].items()
            }
            return cls(quantities, tuple(described["notes"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"described must be a result of Footprint.as_dict, got {described!r}"
            ) from error

    def __str__(self) -> str:
        lines = [f"{name}: {quantity}" for name, quantity in self.quantities.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _quantity(*, high: float | None, constants: list[str], **entry: Any) -> Quantity:
    return Quantity(high=math.inf if high is None else high, constants=tuple(constants), **entry)
