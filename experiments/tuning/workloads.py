"""Workloads: small tasks with how they are trained, for comparisons of optimizers.

The five tasks of the studies of robustness, the optimizers that have a rate to find with their
grids of fixed rates, and a task made ready. It lives here, on top of `tasks` and `runner`, and
not among the studies, each of which is a command.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from experiments import runner, tasks
from experiments.data import DataError
from experiments.data.batches import Batches, data_seeds
from experiments.tasks import Shape

CHUNKS = 10  # of a trial; the last is the last tenth, whose training loss is reported
WINDOWS = 512  # of a held-out text; a loss of characters to about half a percent
STEPS = {"smoke": 10, "full": 5}  # in all; times the task's own


class Workload(NamedTuple):
    """A task with how it is trained.

    Attributes:
      title: what is printed.
      data: one of `data.NAMES`.
      shape: the model.
      batch_size: examples in a step.
      steps: of a trial at scale small, a multiple of `CHUNKS`.
      context: tokens that a model of text sees.
      chosen_on: whether `jd.self_tuning`'s constants were chosen on it.
    """

    title: str
    data: str
    shape: Shape
    batch_size: int
    steps: int
    context: int | None = None
    chosen_on: bool = False


_MLP = Shape("mlp", width=64)
WORKLOADS = {
    "digits": Workload("digits MLP", "digits", _MLP, 16, 600, chosen_on=True),
    "mnist": Workload("MNIST MLP", "mnist", _MLP, 64, 1_500, chosen_on=True),
    "diabetes": Workload("diabetes MLP", "diabetes", _MLP, 16, 300),
    "pneumonia": Workload("PneumoniaMNIST CNN", "pneumoniamnist", Shape("cnn"), 32, 300),
    "shakespeare": Workload(
        "tinyshakespeare transformer",
        "tinyshakespeare",
        Shape("transformer", size="0.1M"),
        16,
        800,
        context=32,
    ),
}
WorkloadName = Literal["digits", "mnist", "diabetes", "pneumonia", "shakespeare"]


def _momentum(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=0.9)


def _adam(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


def _adamw(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=1e-2)


FACTORIES = {"sgd": _momentum, "adam": _adam, "adamw": _adamw}
OptimizerName = Literal["sgd", "adam", "adamw"]
# Half decades, wide enough that the best is inside; the studies say so where it is not.
_ADAM_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GRIDS = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": _ADAM_GRID,
    "adamw": _ADAM_GRID,
}
SMOKE_GRID = (1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that is made of trials."""

    tasks: tuple[WorkloadName, ...] = ("digits", "mnist", "diabetes", "pneumonia", "shakespeare")
    """The tasks; one whose data is missing is left out, with a line that says so."""
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "adamw")
    """What is tuned: sgd has a momentum of 0.9, adamw a decay of 0.01."""
    data_dir: Path | None = None
    """The folder of data files; by default the environment's JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained side by side, each with its own start and data order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        for name in ("tasks", "optimizers"):
            value = tuple(getattr(self, name))  # a list, when a run is resumed
            if not value:
                raise ValueError(f"--{name} must name at least one")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """The fixed rates that are tried."""
        return SMOKE_GRID if self.scale == "smoke" else GRIDS[optimizer]


class Arena:
    """A workload that is ready: its data is loaded, its evaluation compiled once.

    Args:
      workload: which.
      settings: of the study.
      build: makes another model than the workload's.

    Raises:
      DataError: the data is missing or is not what it should be.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        build: Callable[[nnx.Rngs], nnx.Module] | None = None,
    ):
        self.workload, self.settings = workload, settings
        task = tasks.load(
            workload.data, workload.shape, data_dir=settings.data_dir, context=workload.context
        )
        self.task = task._replace(build=build) if build else task
        factor = STEPS["full"] if settings.scale == "full" else 1
        self.steps = STEPS["smoke"] if settings.scale == "smoke" else factor * workload.steps
        self.keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
        self.batches = Batches(
            self.task.train.examples,
            workload.batch_size,
            seeds=data_seeds(settings.seed, settings.seeds),
            replacement=self.task.replacement,
        )
        self._judge = self.trainer(optax.identity())

    def trainer(self, tx: optax.GradientTransformation) -> runner.Trainer:
        """What trains the task's model by an optimizer."""
        task = self.task
        return runner.trainer(
            task.build, task.batch_of, task.scores, tx, side_by_side=task.side_by_side
        )

    @cached_property
    def params(self) -> Any:
        """The shapes of a network's parameters."""
        alone = jax.eval_shape(self._judge.start, self.keys[:1]).params
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), alone)

    @cached_property
    def held_out(self) -> list[tuple[Any, np.ndarray]]:
        """The arrays of the validation and the test part, and which of their examples count."""
        most = WINDOWS // 2 if self.task.tokenizer else None
        parts = [part for part in (self.task.validation, self.task.test) if len(part.judged)]
        return [(jax.device_put(part.arrays), tasks.spread(part.judged, most)) for part in parts]

    def loss(self, params: Any, model_state: Any) -> np.ndarray:
        """The mean loss over all held-out examples: f32[seeds]."""
        sums = [
            len(chosen) * self._judge.evaluate(params, model_state, arrays, chosen)["loss"]
            for arrays, chosen in self.held_out
        ]
        return np.asarray(sum(sums)) / sum(len(chosen) for _, chosen in self.held_out)


def arenas(settings: Settings, run: runner.Run) -> tuple[list[Arena], list[str]]:
    """The workloads whose data is there, and a sentence for each that is left out."""
    ready, left_out = [], []
    for name in settings.tasks:
        workload = WORKLOADS[name]
        try:
            arena = Arena(workload, settings)
        except DataError as error:
            left_out.append(f"{workload.title} is left out: {error}")
            continue
        run.pin(f"data of {name}", arena.task.digest())
        ready.append(arena)
    return ready, left_out
