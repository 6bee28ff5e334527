"""Settings of the study of the history of gradient descent."""

import dataclasses
from typing import ClassVar, NamedTuple

from experiments import runner
from experiments.studies.history.landscapes import landscapes
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
      network_rates: the learning rates of the network.
      epochs: of the network.
      seeds: the number of networks of each learning rate.
    """

    methods: tuple[str, ...]
    landscapes: tuple[str, ...]
    budget: int
    rates: tuple[float, ...]
    agents: int
    network_rates: tuple[float, ...]
    epochs: int
    seeds: int


_ALL = tuple(METHODS)
_SMALL = Setup(
    methods=_ALL,
    landscapes=tuple(landscapes()),
    budget=10_000,
    rates=half_decades(-6, 2),
    agents=384,
    network_rates=half_decades(-4, 0),
    epochs=40,
    seeds=3,
)
SETUPS = {
    "smoke": Setup(
        methods=("gradient_descent", "muon", "magd", "self_tuning", "hybrid"),
        landscapes=("ravine", "matrix"),
        budget=400,
        rates=half_decades(-3, -1),
        agents=8,
        network_rates=(1e-2, 1e-1),
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
