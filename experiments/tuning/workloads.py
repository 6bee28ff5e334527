"""The registry of workloads: each entry of `WORKLOADS` is a task of the studies of tuning.

A task is added by one entry, here. The studies share these tasks, three optimizers whose learning
rate has to be found, and a grid of learning rates for each optimizer.

Which tasks are for development is decided here, before any result: constants of `jd.self_tuning`
may be chosen on the tasks with `development=True`, and on no other. The remaining tasks are only
reported.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import optax

from experiments import runner
from experiments.data import DataError
from experiments.tasks import ModelConfig
from experiments.tuning.generated import Nonstationary
from experiments.tuning.problems import streams
from experiments.tuning.protocol import PreparedWorkload, Workload
from experiments.tuning.supervised import WINDOWS, Supervised

__all__ = [
    "FACTORIES",
    "GRIDS",
    "WINDOWS",
    "WORKLOADS",
    "PreparedWorkload",
    "Settings",
    "Workload",
    "prepare_workloads",
]

_MLP = ModelConfig("mlp", width=64)
WORKLOADS: dict[str, Workload] = {
    "digits": Supervised(
        title="digits MLP",
        data="digits",
        model=_MLP,
        batch_size=16,
        steps=600,
        development=True,
    ),
    "mnist": Supervised(
        title="MNIST MLP",
        data="mnist",
        model=_MLP,
        batch_size=64,
        steps=1_500,
        development=True,
    ),
    "drift": Nonstationary(
        title="drifting regression",
        problem=streams.drifting_regression,
        steps=3_000,
        development=True,
    ),
    "diabetes": Supervised(
        title="diabetes MLP", data="diabetes", model=_MLP, batch_size=16, steps=300
    ),
    "pneumonia": Supervised(
        title="PneumoniaMNIST CNN",
        data="pneumoniamnist",
        model=ModelConfig("cnn"),
        batch_size=32,
        steps=300,
    ),
    "shakespeare": Supervised(
        title="tinyshakespeare transformer",
        data="tinyshakespeare",
        model=ModelConfig("transformer", size="0.1M"),
        batch_size=16,
        steps=800,
        context=32,
    ),
}
if TYPE_CHECKING:
    WorkloadName = str
else:
    WorkloadName = Literal[tuple(WORKLOADS)]


def _momentum(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=0.9)


def _adam(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


def _adamw(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=1e-2)


FACTORIES = {"sgd": _momentum, "adam": _adam, "adamw": _adamw}
OptimizerName = Literal["sgd", "adam", "adamw"]
# Two learning rates per decade. The reports say where the best one is at an end of its grid.
_ADAM_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GRIDS = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": _ADAM_GRID,
    "adamw": _ADAM_GRID,
}
SMOKE = ("digits", "diabetes", "drift")  # tasks at scale smoke
SMOKE_GRID = (1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that runs trials of optimizers on workloads."""

    may_change: ClassVar = (*runner.Settings.may_change, "tasks", "optimizers", "data_dir")
    tasks: tuple[WorkloadName, ...] | None = None
    """Tasks; by default all, at scale smoke three. A task whose data is missing is skipped, and the
    report says so."""
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "adamw")
    """Optimizers to tune. sgd has momentum 0.9; adamw has weight decay 0.01."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained in parallel, each with its own initialization and data order. Some tasks
    have more at scales small and full."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        if self.tasks is None:
            everything = tuple(WORKLOADS)
            object.__setattr__(self, "tasks", SMOKE if self.scale == "smoke" else everything)
        for name in ("tasks", "optimizers"):
            value = tuple(getattr(self, name))  # a list when a run is resumed
            if not value:
                raise ValueError(f"--{name} must name at least one")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """Returns the fixed learning rates to try."""
        return SMOKE_GRID if self.scale == "smoke" else GRIDS[optimizer]


def prepare_workloads(
    settings: Settings, run: runner.Run
) -> tuple[list[PreparedWorkload], list[str]]:
    """Returns the workloads whose data is found, and a sentence for each that is skipped."""
    prepared: list[PreparedWorkload] = []
    skipped: list[str] = []
    for name in settings.tasks or ():
        try:
            workload = WORKLOADS[name].prepare(settings)
        except DataError as error:
            skipped.append(f"{WORKLOADS[name].title} is skipped: {error}")
            continue
        if workload.digest:
            run.pin(f"data of {name}", workload.digest)
        prepared.append(workload)
    return prepared, skipped
