"""Supervised workloads: a data set, a Flax model, and a batch size."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from experiments import runner, tasks
from experiments.data.batches import Batches, data_seeds
from experiments.tasks import ModelConfig, Task
from experiments.tuning.protocol import CHUNKS, Evaluated, PreparedWorkload, Training, Workload

if TYPE_CHECKING:
    from experiments.tuning.workloads import Settings

WINDOWS = 512  # of a held-out text; they give the loss per character to about half a percent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised(Workload):
    """A data set and a model, trained on random batches, evaluated on held-out examples.

    Attributes:
      data: a data set, one of `data.NAMES`.
      model: the model.
      batch_size: examples per optimizer step.
      context: tokens that a language model sees.
      adapt: Called as `adapt(task)` with the `tasks.Task`; returns the task to train on instead,
        for example with another model or other targets.
    """

    data: str
    model: ModelConfig
    batch_size: int
    context: int | None = None
    adapt: Callable[[Task], Task] | None = None

    def prepare(self, settings: "Settings") -> "PreparedSupervised":
        """Returns the workload with its data loaded."""
        return PreparedSupervised(self, settings)


class PreparedSupervised(PreparedWorkload):
    """A supervised workload with its data loaded and its evaluation compiled once.

    Attributes:
      task: the `tasks.Task`.
      batches: the training batches.
    """

    def __init__(self, workload: Supervised, settings: "Settings"):
        super().__init__(workload, settings)
        task = tasks.load(
            workload.data, workload.model, data_dir=settings.data_dir, context=workload.context
        )
        self.task = workload.adapt(task) if workload.adapt else task
        self.batches = Batches(
            self.task.train.examples,
            workload.batch_size,
            seeds=data_seeds(settings.seed, len(self.keys)),
            replacement=self.task.replacement,
        )
        self._evaluator = self.trainer(optax.identity())

    @property
    def digest(self) -> str:
        """The SHA-256 of all examples."""
        return self.task.digest()

    def trainer(self, tx: optax.GradientTransformation) -> runner.Trainer:
        """Returns the trainer of the task's model with an optimizer."""
        task = self.task
        return runner.trainer(
            task.build, task.batch_of, task.scores, tx, side_by_side=task.side_by_side
        )

    def training(
        self,
        tx: optax.GradientTransformation,
        evaluated: Evaluated,
        *,
        needs_value_fn: bool = False,
    ) -> Training:
        """Returns the functions that train with an optimizer; see `PreparedWorkload.training`."""
        if needs_value_fn:
            raise ValueError(f"{self.workload.title} has no loss function that stays the same")
        trainer, steps = self.trainer(tx), self.steps // CHUNKS

        def program() -> runner.Program:
            return runner.Program(
                trainer.chunk,
                jax.eval_shape(trainer.start, self.keys),
                steps_per_chunk=steps,
                feed=self.batches.chunk(0, steps),
                constants=(self.task.train.arrays,),
            )

        def losses(state: runner.TrainState) -> tuple[np.ndarray, np.ndarray]:
            last, average = jax.vmap(evaluated)(state.opt_state, state.params)
            return self.loss(last, state.model_state), self.loss(average, state.model_state)

        return Training(lambda: trainer.start(self.keys), program, self.batches, losses)

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
        """Returns the mean loss over all held-out examples, `f32[networks]`."""
        sums = [
            len(indices) * self._evaluator.evaluate(params, model_state, arrays, indices)["loss"]
            for arrays, indices in self.held_out
        ]
        return np.asarray(sum(sums)) / sum(len(indices) for _, indices in self.held_out)
