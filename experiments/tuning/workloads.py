"""Workloads: small tasks, each with a model, a batch size and a number of steps.

The studies of tuning share five tasks, three optimizers whose learning rate has to be found, a
grid of learning rates for each optimizer, and `PreparedWorkload`, which has the data loaded.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from experiments import runner, tasks
from experiments.data import DataError
from experiments.data.batches import Batches, data_seeds
from experiments.tasks import ModelConfig

CHUNKS = 10  # per trial; the training loss of the last chunk is reported
WINDOWS = 512  # of a held-out text; they give the loss per character to about half a percent
SMOKE_STEPS = 10
FULL_FACTOR = 5  # steps at scale full, relative to scale small


class Workload(NamedTuple):
    """A task and how a model is trained on it.

    Attributes:
      title: the name in tables and figures.
      data: a data set, one of `data.NAMES`.
      model: the model.
      batch_size: examples per optimizer step.
      steps: of a trial at scale small, a multiple of `CHUNKS`.
      context: tokens that a language model sees.
      used_for_constants: True if the constants of `jd.self_tuning` were chosen on this task.
    """

    title: str
    data: str
    model: ModelConfig
    batch_size: int
    steps: int
    context: int | None = None
    used_for_constants: bool = False


_MLP = ModelConfig("mlp", width=64)
WORKLOADS = {
    "digits": Workload("digits MLP", "digits", _MLP, 16, 600, used_for_constants=True),
    "mnist": Workload("MNIST MLP", "mnist", _MLP, 64, 1_500, used_for_constants=True),
    "diabetes": Workload("diabetes MLP", "diabetes", _MLP, 16, 300),
    "pneumonia": Workload("PneumoniaMNIST CNN", "pneumoniamnist", ModelConfig("cnn"), 32, 300),
    "shakespeare": Workload(
        "tinyshakespeare transformer",
        "tinyshakespeare",
        ModelConfig("transformer", size="0.1M"),
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
# Two learning rates per decade. The reports say where the best one is at an end of its grid.
_ADAM_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GRIDS = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": _ADAM_GRID,
    "adamw": _ADAM_GRID,
}
SMOKE_GRID = (1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that runs trials of optimizers on workloads."""

    may_change: ClassVar = (*runner.Settings.may_change, "tasks", "optimizers", "data_dir")
    tasks: tuple[WorkloadName, ...] = ("digits", "mnist", "diabetes", "pneumonia", "shakespeare")
    """Tasks. A task whose data is missing is skipped, and the report says so."""
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "adamw")
    """Optimizers to tune. sgd has momentum 0.9; adamw has weight decay 0.01."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained in parallel, each with its own initialization and data order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        for name in ("tasks", "optimizers"):
            value = tuple(getattr(self, name))  # a list when a run is resumed
            if not value:
                raise ValueError(f"--{name} must name at least one")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """Returns the fixed learning rates to try."""
        return SMOKE_GRID if self.scale == "smoke" else GRIDS[optimizer]


class PreparedWorkload:
    """A workload with its data loaded and its evaluation compiled once.

    Args:
      workload: the workload.
      settings: the settings of the study.
      build: makes the model, if it is not the workload's own.

    Raises:
      DataError: the data is missing or has unexpected content.

    Attributes:
      workload, settings: the arguments.
      task: the `tasks.Task`.
      steps: optimizer steps of a trial.
      keys: random keys of the networks, one for each seed.
      batches: the training batches.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        build: Callable[[nnx.Rngs], nnx.Module] | None = None,
    ):
        self.workload, self.settings = workload, settings
        task = tasks.load(
            workload.data, workload.model, data_dir=settings.data_dir, context=workload.context
        )
        self.task = task._replace(build=build) if build else task
        factor = FULL_FACTOR if settings.scale == "full" else 1
        self.steps = SMOKE_STEPS if settings.scale == "smoke" else factor * workload.steps
        self.keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
        self.batches = Batches(
            self.task.train.examples,
            workload.batch_size,
            seeds=data_seeds(settings.seed, settings.seeds),
            replacement=self.task.replacement,
        )
        self._evaluator = self.trainer(optax.identity())

    def trainer(self, tx: optax.GradientTransformation) -> runner.Trainer:
        """Returns the trainer of the task's model with an optimizer."""
        task = self.task
        return runner.trainer(
            task.build, task.batch_of, task.scores, tx, side_by_side=task.side_by_side
        )

    @cached_property
    def params(self) -> Any:
        """The parameters of one network, as `jax.ShapeDtypeStruct`s."""
        stacked = jax.eval_shape(self._evaluator.start, self.keys[:1]).params
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), stacked)

    @cached_property
    def held_out(self) -> list[tuple[Any, np.ndarray]]:
        """The arrays of the validation and the test part, with the indices to evaluate."""
        max_count = WINDOWS // 2 if self.task.tokenizer else None
        parts = [p for p in (self.task.validation, self.task.test) if len(p.evaluation_indices)]
        return [
            (jax.device_put(part.arrays), tasks.subsample(part.evaluation_indices, max_count))
            for part in parts
        ]

    def loss(self, params: Any, model_state: Any) -> np.ndarray:
        """Returns the mean loss over all held-out examples, `f32[seeds]`."""
        sums = [
            len(indices) * self._evaluator.evaluate(params, model_state, arrays, indices)["loss"]
            for arrays, indices in self.held_out
        ]
        return np.asarray(sum(sums)) / sum(len(indices) for _, indices in self.held_out)


def prepare_workloads(
    settings: Settings, run: runner.Run
) -> tuple[list[PreparedWorkload], list[str]]:
    """Returns the workloads whose data is found, and a sentence for each that is skipped."""
    prepared, skipped = [], []
    for name in settings.tasks:
        try:
            workload = PreparedWorkload(WORKLOADS[name], settings)
        except DataError as error:
            skipped.append(f"{WORKLOADS[name].title} is skipped: {error}")
            continue
        run.pin(f"data of {name}", workload.task.digest())
        prepared.append(workload)
    return prepared, skipped
