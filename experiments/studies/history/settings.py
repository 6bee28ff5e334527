"""Settings of the study of the history of gradient descent."""

import dataclasses
from typing import ClassVar, NamedTuple

from experiments import runner
from experiments.studies.history.landscapes import make_landscapes
from experiments.studies.history.methods import METHODS

SOLVED = 1e-4
"""A landscape is solved at the first point whose value is less than this above the minimum."""


def half_decades(low: int, high: int) -> tuple[float, ...]:
    """Returns 10^low, 3 10^low, ... 10^high.

    Example:
      >>> half_decades(-2, 0)
      (0.01, 0.03, 0.1, 0.3, 1.0)
    """
    below = [float(f"{m}e{e}") for e in range(low, high) for m in (1, 3)]
    return (*below, float(f"1e{high}"))


class Setup(NamedTuple):
    """Amount of work at a scale.

    Attributes:
      methods: names of the methods.
      landscapes: names of the landscapes.
      budget: the number of evaluations of a method on a landscape.
      rates: the learning rates on landscapes.
      agents: the number of agents of MAGD.
      num_network_rates: the number of learning rates of the network.
      epochs: of the network.
      seeds: the number of networks of each learning rate.
    """

    methods: tuple[str, ...]
    landscapes: tuple[str, ...]
    budget: int
    rates: tuple[float, ...]
    agents: int
    num_network_rates: int
    epochs: int
    seeds: int

    def network_rates(self, name: str) -> tuple[float, ...]:
        """Returns the learning rates of a method for the network; (0,) if it does not use them."""
        if METHODS[name].kind != "grid":
            return (0.0,)
        low = METHODS[name].lowest_rate
        rates = half_decades(low, low + 4)
        first = (len(rates) - self.num_network_rates) // 2
        return rates[first : first + self.num_network_rates]


_ALL = tuple(METHODS)
_SMALL = Setup(
    methods=_ALL,
    landscapes=tuple(make_landscapes()),
    budget=10_000,
    rates=half_decades(-6, 2),
    agents=384,
    num_network_rates=9,
    epochs=40,
    seeds=3,
)
SETUPS = {
    "smoke": Setup(
        methods=("gradient_descent", "magd", "hybrid"),
        landscapes=("ravine",),
        budget=400,
        rates=half_decades(-3, -1),
        agents=8,
        num_network_rates=2,
        epochs=1,
        seeds=1,
    ),
    "small": _SMALL,
    "full": _SMALL._replace(budget=100_000, agents=3_840, epochs=200, seeds=10),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study."""

    may_change: ClassVar = runner.Settings.may_change
