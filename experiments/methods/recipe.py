"""A recipe: a task, the steps and batches of a training, and the optimizers that are tuned."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import optax

from experiments import tasks
from experiments.methods.optimizers import warmup_cosine

Factory = Callable[..., optax.GradientTransformation]
MOMENTUM: Factory = partial(optax.sgd, momentum=0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A task and how it is trained.

    Attributes:
      title: in tables and in the names of series.
      task: the task.
      steps: gradient steps of a training, a multiple of `evaluations`.
      batch_size: examples of a gradient step.
      seed: of all random numbers.
      seeds: networks that each method trains.
      evaluations: evaluations of a training, after equal numbers of steps.
      adam: makes the optimizer that is tuned, called with `learning_rate`. Agents also give it
        their `weight_decay`.
      sgd: makes the second optimizer that is tuned, called with `learning_rate`.
      rates: learning rates of the grid of `adam` and of `sgd`.
      agents: networks of a population.
      methods: keys of `registry.METHODS`, those that train it; by default all.
      max_count: the most examples of a part to evaluate on; by default all.
      keep: called as `keep(params, model_state)` with the networks at the evaluation with the least
        validation loss, whose leaves have a leading axis of seeds; returns arrays by name, such as
        predictions. By default nothing is kept.
      published: further optimizers by title, with schedules of their own.
    """

    title: str
    task: tasks.Task
    steps: int
    batch_size: int
    seed: int = 0
    seeds: int = 1
    evaluations: int = 10
    adam: Factory = optax.adamw
    sgd: Factory = MOMENTUM
    rates: tuple[tuple[float, ...], tuple[float, ...]] = (
        (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    )
    agents: int = 16
    methods: tuple[str, ...] | None = None
    max_count: int | None = None
    keep: Callable[[Any, Any], Mapping[str, Any]] | None = None
    published: Mapping[str, optax.GradientTransformation] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.steps % self.evaluations:
            raise ValueError(
                f"steps must be a positive multiple of {self.evaluations}, got {self.steps}"
            )
        if not 1 <= self.batch_size <= self.task.train.examples:
            raise ValueError(
                f"batch_size must be in [1, {self.task.train.examples}], the training examples of "
                f"{self.task.name}, got {self.batch_size}"
            )

    def selected(self, names: Iterable[str]) -> list[str]:
        """Returns the names of those methods that train the task."""
        return [name for name in names if self.methods is None or name in self.methods]

    @property
    def keys(self) -> jax.Array:
        """Random keys of the networks."""
        return jax.random.split(jax.random.key(self.seed), self.seeds)

    @property
    def steps_per_chunk(self) -> int:
        """The number of steps between two evaluations."""
        return self.steps // self.evaluations

    def scheduled(self, learning_rate: Any) -> Any:
        """Returns the warmup-cosine schedule that peaks at a learning rate."""
        return warmup_cosine(learning_rate, self.steps)

    def for_smoke(self) -> "Recipe":
        """Returns the recipe of a smoke run: a few steps, learning rates, agents and examples."""
        return dataclasses.replace(
            self,
            steps=2,
            batch_size=min(self.batch_size, 16),
            evaluations=2,
            seeds=1,
            agents=4,
            rates=tuple(rates[2::3] for rates in self.rates),
            max_count=100,
        )
