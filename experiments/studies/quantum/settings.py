"""Settings of the study of quantum circuits."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple, get_args

from experiments import runner
from experiments.studies.quantum.methods import METHODS, MethodName
from experiments.studies.quantum.problems import MoleculeName

TaskName = Literal["h2", "lih", "classifier", "plateaus", "noise"]


class Budget(NamedTuple):
    """Limits of a method on a molecule.

    Attributes:
      executions: number of executions of a circuit.
      seeds: number of repetitions of methods that draw.
      learning_rates: what methods with a learning rate try.
    """

    executions: int
    seeds: int
    learning_rates: tuple[float, ...]


RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
BUDGETS = {
    ("smoke", "h2"): Budget(130, 1, (0.3,)),
    ("smoke", "lih"): Budget(800, 1, (0.3,)),
    ("small", "h2"): Budget(3_000, 5, RATES),
    ("small", "lih"): Budget(6_000, 1, (0.03, 0.1, 0.3)),
    ("full", "h2"): Budget(10_000, 25, RATES),
    ("full", "lih"): Budget(100_000, 5, RATES),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of quantum circuits."""

    may_change: ClassVar = (*runner.Settings.may_change, "methods", "tasks")
    tasks: tuple[TaskName, ...] = ()
    """Tasks; by default all, and at scale smoke all but lih."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Methods to minimize with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            names = get_args(TaskName)
            tasks = tuple(name for name in names if self.scale != "smoke" or name != "lih")
            object.__setattr__(self, "tasks", tasks)

    @property
    def molecules(self) -> tuple[MoleculeName, ...]:
        """The tasks that are molecules."""
        names: tuple[MoleculeName, ...] = get_args(MoleculeName)
        return tuple(name for name in names if name in self.tasks)

    def budget(self, task: MoleculeName) -> Budget:
        """Returns the limits on a molecule."""
        return BUDGETS[self.scale, task]
