"""A training loop that can be killed at any moment and resumed to the bit.

One chunk of compiled steps after another; between two of them the host looks at the
metrics, logs them, keeps the best evaluation, and every so many seconds saves all that the
next chunk needs. When the run is resumed, the loop begins where the last good checkpoint
was taken.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data.batches import Batches
from experiments.runner.checkpoints import Checkpoints
from experiments.runner.packing import flatten, unflatten
from experiments.runner.progress import Progress
from experiments.runner.run import Run
from experiments.runner.stepping import Program


class Chunk(NamedTuple):
    """What came out of a chunk.

    Attributes:
      carry: the state after it; given back to the next chunk, it must not be kept.
      metrics: numpy arrays, as the study's function returned them.
      step: the number of steps up to here.
      seconds: spent in steps up to here, host work between chunks not counted.
      steps_per_second: of this chunk.
    """

    carry: Any
    metrics: Any
    step: int
    seconds: float
    steps_per_second: float


class Loop:
    """The chunks of one line of a study, from wherever they were left.

    Args:
      run: the run that it belongs to.
      line: its name in the log.
      program: the compiled chunk.
      carry: the state to start from; it is given up.
      chunks: how many in all.
      batches: what the chunks are fed; by default their number.
      patience: evaluations in a row that may bring no better value before the loop ends
        early; by default it does not.
      min_delta: how much less than the best value counts as better.
      progress: is told of each chunk that is logged.
      save_final: whether the last state is saved, for studies whose result is a checkpoint.
        In `Run.series` it need not be: the outcome is saved next and replaces the checkpoints,
        and a run that is killed between the two repeats the chunks since the last checkpoint.

    Attributes:
      carry: the state after the last chunk.
      chunk: how many chunks are done.
      best_value: the least value that was judged, inf if there is none.
      best_step: its step.

    Example: `experiments/studies/quickstart.py`.
    """

    def __init__(
        self,
        run: Run,
        line: str,
        program: Program,
        carry: Any,
        *,
        chunks: int,
        batches: Batches | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        progress: Progress | None = None,
        save_final: bool = False,
    ):
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be in [1, inf) or None, got {patience}")
        self.run, self.line, self.program = run, line, program
        self.chunks, self.patience, self.min_delta = chunks, patience, min_delta
        self.save_final = save_final
        self.carry, self.chunk, self.seconds = carry, 0, 0.0
        self.best_value, self.best_step, self._since_best = float("inf"), 0, 0
        self._best: dict[str, np.ndarray] = {}
        self._steps_per_second = 0.0
        self._progress = progress
        self._feeds = batches.chunks(program.steps_per_chunk) if batches else None
        folder = run.checkpoints_folder(line)
        self._checkpoints = Checkpoints(folder, keep=run.settings.keep, owner=run.identity)
        self._restore()
        self._saved_chunk, self._saved_at = self.chunk, time.monotonic()

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.chunk * self.program.steps_per_chunk

    @property
    def stalled(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and self._since_best >= self.patience

    def __iter__(self) -> Iterator[Chunk]:
        while self.chunk < self.chunks and not self.stalled:
            yield self._advance()
            if self.run.interruption.wanted:
                self._save()
                self._checkpoints.wait()
                self.run.interruption.check()
            due = time.monotonic() - self._saved_at >= self.run.settings.save_every
            if due and not self._checkpoints.busy:
                self._save()
        if self.save_final and self._saved_chunk < self.chunk:
            self._save()
        complete = self._checkpoints.close()
        if self._feeds:
            self._feeds.close()
        if self.save_final and not complete:
            raise OSError(f"the last state of {self.line} could not be saved")

    def log(self, *, loss: Any, **metrics: Any) -> None:
        """Logs the last chunk's metrics with line, step, seconds and speed; shows the progress."""
        self.run.log.append(
            line=self.line,
            step=self.step,
            loss=loss,
            **metrics,
            seconds=self.seconds,
            steps_per_second=self._steps_per_second,
        )
        if self._progress:
            self._progress.advance(
                self.line,
                steps=self.program.steps_per_chunk,
                loss=float(np.mean(loss)),
                steps_per_second=self._steps_per_second,
            )

    def judge(self, value: float, keep: Any) -> bool:
        """Compares an evaluation with the best until now; whether it is better.

        Args:
          value: less is better; what is not finite is never better.
          keep: a tree that is kept as `best` if it is.
        """
        better = bool(np.isfinite(value)) and value < self.best_value - self.min_delta
        self._since_best = 0 if better else self._since_best + 1
        if better:
            self.best_value, self.best_step = float(value), self.step
            self._best = flatten(keep)
        return better

    def best(self, example: Any) -> Any:
        """What was kept with the best value, a tree like the example; None if nothing was."""
        return unflatten(self._best, example, f"the best of {self.line}") if self._best else None

    def _advance(self) -> Chunk:
        feed = self.chunk if self._feeds is None else next(self._feeds)
        self.carry, metrics, seconds = self.program(self.carry, feed)
        self.chunk += 1
        self.seconds += seconds
        self.run.spending.count(self.line, self.program)
        self._steps_per_second = self.program.steps_per_chunk / seconds
        return Chunk(self.carry, metrics, self.step, self.seconds, self._steps_per_second)

    def _save(self) -> None:
        facts = {
            "chunk": self.chunk,
            "seconds": self.seconds,
            "best_value": self.best_value if self._best else None,
            "best_step": self.best_step,
            "since_best": self._since_best,
            "feeds": self._feeds.get_state() if self._feeds else None,
        }
        self._checkpoints.save(self.step, self.carry, best=self._best, facts=facts)
        self.run.spending.save()
        self._saved_chunk, self._saved_at = self.chunk, time.monotonic()

    def _restore(self) -> None:
        """Takes up the last good checkpoint, if there is one."""
        saved = self._checkpoints.restore(self.carry)
        if saved:
            facts = saved.facts
            self.carry, self._best = jax.device_put(saved.carry), saved.best
            self.chunk, self.seconds = facts["chunk"], facts["seconds"]
            self.best_step, self._since_best = facts["best_step"], facts["since_best"]
            if facts["best_value"] is not None:
                self.best_value = facts["best_value"]
            if self._feeds:
                self._feeds.set_state(facts["feeds"])
            if self._progress:
                self._progress.skip(self.step)
        self.run.log.rewind(self.line, self.step)
