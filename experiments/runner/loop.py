"""A training loop that can be killed at any moment and resumed bit for bit.

The loop runs one chunk of compiled steps after another. Between two chunks the host reads the
metrics, logs them, keeps the best evaluation, and at regular intervals saves everything that
the next chunk needs. A resumed run starts from the newest usable checkpoint.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data.batches import Batches
from experiments.runner import processes
from experiments.runner.checkpoints import Checkpoints
from experiments.runner.log import mean_of_finite
from experiments.runner.named_arrays import copy_to_host, rebuild
from experiments.runner.progress import Progress
from experiments.runner.run import Run
from experiments.runner.stepping import Program


class Chunk(NamedTuple):
    """Results of a chunk.

    Attributes:
      carry: the state after the chunk. The next chunk donates it: copy what you keep.
      metrics: NumPy arrays, as returned by the study's function.
      step: number of steps up to now.
      seconds: time spent in steps up to now, without host work between chunks.
      steps_per_second: speed of this chunk.
    """

    carry: Any
    metrics: Any
    step: int
    seconds: float
    steps_per_second: float


class Loop:
    """Iterates over the chunks of one series, from the newest checkpoint on.

    Args:
      run: the run that the loop belongs to.
      series: name in the log and of the checkpoints.
      program: the compiled chunk.
      carry: the initial state, which is donated.
      chunks: total number of chunks.
      batches: source of the chunks' feeds; by default a chunk is fed its number.
      patience: number of successive evaluations without improvement after which the loop
        stops; by default it does not stop early.
      min_delta: smallest decrease of the best value that counts as an improvement.
      progress: advanced by each logged chunk.
      save_final: whether to save the state after the last chunk, for studies whose result is a
        checkpoint. In `Run.series` this is not needed: the outcome replaces the checkpoints,
        and a run that is killed before it is saved repeats the chunks since the last one.

    Attributes:
      carry: the state after the last chunk.
      chunk: number of chunks done.
      best_value: lowest value given to `update_best`, initially inf.
      best_step: number of steps at the best value.

    Example: `experiments/studies/quickstart.py`.
    """

    def __init__(
        self,
        run: Run,
        series: str,
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
        self.run, self.series, self.program = run, series, program
        self.chunks, self.patience, self.min_delta = chunks, patience, min_delta
        self.save_final = save_final
        self.carry, self.chunk, self.seconds = carry, 0, 0.0
        self.best_value, self.best_step, self._since_best = float("inf"), 0, 0
        self._best: dict[str, np.ndarray] = {}
        self._steps_per_second = 0.0
        self._progress = progress
        self._feeds = batches.chunks(program.steps_per_chunk) if batches else None
        folder = run.checkpoints_folder(series)
        self._checkpoints = Checkpoints(folder, keep=run.settings.keep, owner=run.identity)
        self._restore()
        self._saved_chunk, self._saved_at = self.chunk, time.monotonic()

    @property
    def step(self) -> int:
        """Number of steps done."""
        return self.chunk * self.program.steps_per_chunk

    @property
    def mean_speed(self) -> float:
        """Steps per second up to now, without compilation and host work between chunks."""
        return self.step / max(self.seconds, 1e-9)

    @property
    def stalled(self) -> bool:
        """True if as many evaluations as `patience` brought no improvement."""
        return self.patience is not None and self._since_best >= self.patience

    def __iter__(self) -> Iterator[Chunk]:
        while self.chunk < self.chunks and not self.stalled:
            yield self._advance()
            due = time.monotonic() - self._saved_at >= self.run.settings.save_every
            requested, due, busy = processes.any_true(
                self.run.interruption.requested, due, self._checkpoints.busy
            )
            if requested:
                self._save()
                self._checkpoints.wait()
                self.run.interruption.stop()
            if due and not busy:
                self._save()
        if self.save_final and self._saved_chunk < self.chunk:
            self._save()
        complete = self._checkpoints.close()
        if self._feeds:
            self._feeds.close()
        if self.save_final and not complete:
            raise OSError(f"could not save the last state of {self.series}")

    def log(self, *, loss: Any, **metrics: Any) -> None:
        """Logs the metrics of the last chunk with its step and speed; advances the progress.

        The progress shows the mean speed of all steps up to now.
        """
        self.run.log.append(
            series=self.series,
            step=self.step,
            loss=loss,
            **metrics,
            seconds=self.seconds,
            steps_per_second=self._steps_per_second,
        )
        if self._progress:
            self._progress.advance(
                self.series,
                steps=self.program.steps_per_chunk,
                loss=float(mean_of_finite(loss)),
                steps_per_second=self.mean_speed,
            )

    def update_best(self, value: float, keep: Any) -> bool:
        """Keeps the tree if the value is the best up to now; returns True if it is.

        Args:
          value: lower is better; a non-finite value is never better.
          keep: the tree to keep, which `best` returns.
        """
        better = bool(np.isfinite(value)) and value < self.best_value - self.min_delta
        self._since_best = 0 if better else self._since_best + 1
        if better:
            self.best_value, self.best_step = float(value), self.step
            self._best = copy_to_host(keep)
        return better

    def best(self, example: Any) -> Any:
        """Returns the tree kept with the best value, structured as the example, or None."""
        return rebuild(self._best, example, f"the best of {self.series}") if self._best else None

    def _advance(self) -> Chunk:
        feed = self.chunk if self._feeds is None else next(self._feeds)
        self.carry, metrics, seconds = self.program(self.carry, feed)
        self.chunk += 1
        self.seconds += seconds
        self.run.footprint.count(self.series, self.program)
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
        self.run.footprint.save()
        self._saved_chunk, self._saved_at = self.chunk, time.monotonic()

    def _restore(self) -> None:
        """Restores the newest usable checkpoint, if there is one."""
        saved = self._checkpoints.restore(self.carry)
        if saved:
            facts = saved.facts
            self.carry, self._best = jax.tree.map(_on_device, saved.carry), saved.best
            self.chunk, self.seconds = facts["chunk"], facts["seconds"]
            self.best_step, self._since_best = facts["best_step"], facts["since_best"]
            if facts["best_value"] is not None:
                self.best_value = facts["best_value"]
            if self._feeds:
                self._feeds.set_state(facts["feeds"])
            if self._progress:
                self._progress.skip(self.step)
        elif self.run.log.read(self.series):
            print(
                f"{self.series} has no checkpoint and starts again; its earlier records "
                f"are in {self.run.log.keep_copy()}",
                file=sys.stderr,
            )
        self.run.log.rewind(self.series, self.step)


def _on_device(leaf: Any) -> jax.Array:
    """Returns a JAX array as it is, since other processes may have a part of it."""
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)
