"""Settings of the study of population-based training."""

import dataclasses
from typing import ClassVar, NamedTuple

import jaxdescent as jd
from experiments import runner

SPACES = {
    "learning_rate": jd.positive((1e-5, 1.0)),
    "weight_decay": jd.positive((1e-6, 1.0)),
}
BATCH_SIZE = 32
HIDDEN_UNITS = 32


class Size(NamedTuple):
    """Size of an experiment.

    Attributes:
      agents: agents in the population and in the random search.
      rungs: stretches of training between two actions of the rule.
      steps_per_rung: optimizer steps of an agent in each.
      seeds: repetitions.
    """

    agents: int
    rungs: int
    steps_per_rung: int
    seeds: int

    @property
    def steps(self) -> int:
        """The number of steps of an agent."""
        return self.rungs * self.steps_per_rung


SIZES = {
    "smoke": Size(4, 3, 10, 2),
    "small": Size(16, 10, 1_200, 5),
    "full": Size(32, 20, 2_400, 20),
}
RULE = jd.evolution.population_based_training(SPACES)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of population-based training."""

    may_change: ClassVar[tuple[str, ...]] = (*runner.Settings.may_change, "seeds")
    least: ClassVar = {**runner.Settings.least, "seeds": 0}
    seeds: int = 0
    """Number of repetitions, from --seed on; 0 stands for the number of the scale."""

    @property
    def size(self) -> Size:
        """The size of the experiment."""
        size = SIZES[self.scale]
        return size._replace(seeds=self.seeds) if self.seeds else size
