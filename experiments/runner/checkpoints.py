"""Checkpoints of a training loop: ordinary Orbax checkpoints, written in the background.

checkpoints/SERIES/STEP/
  carry         the state that the next step needs: its arrays by name, such as `params.w`
  best          the arrays of the best evaluation, by name; absent if there are none
  facts         JSON: format, owner, the counters of the loop, the shapes of empty arrays
  digests.json  SHA-256 of each file of the above

Orbax opens a checkpoint without this module:

    with ocp.CheckpointManager(folder) as manager:
        items = ocp.args.Composite(carry=ocp.args.StandardRestore())
        carry = manager.restore(manager.latest_step(), args=items)["carry"]

Orbax writes into a temporary folder and renames it when it is complete, so a process that is
killed leaves the older checkpoints as they are. Orbax does not notice every flipped or missing
byte; the digests do. They are written last: a checkpoint without them is complete, too.
"""

import contextlib
import logging
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orbax.checkpoint as ocp

from experiments.runner import processes
from experiments.runner.checkpoint_format import (
    Checkpoint,
    OutdatedError,
    SavedCheckpoint,
    UnusableError,
    save_args,
)
from experiments.runner.digests import write_digests
from experiments.runner.named_arrays import MismatchError, key_data, named_leaves

T = TypeVar("T")


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that says what to do."""


class Checkpoints:
    """Saves checkpoints in the background, one at a time, and keeps the newest.

    A save that fails, because the disk is full for example, is reported on standard error; the
    next call of `save` tries again. Older checkpoints stay until a newer one is complete.

    Args:
      folder: created by the first save.
      keep: the number of checkpoints to keep, at least 1.
      owner: identifies the run; `restore` refuses checkpoints of other owners.

    Example:
      >>> import tempfile
      >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / "checkpoints")
      >>> checkpoints.save(10, {"x": np.arange(3)}, facts={"chunk": 1})
      >>> checkpoints.wait()
      True
      >>> checkpoints.restore({"x": np.zeros(3, int)}).carry["x"].tolist()
      [0, 1, 2]
      >>> checkpoints.close()
      True
    """

    def __init__(self, folder: Path, *, keep: int = 2, owner: str = ""):
        self.folder, self.keep, self.owner = folder, keep, owner
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._complete, self._reported = True, ""

    @cached_property
    def _writer(self) -> ocp.AsyncCheckpointer:
        # Directories that are made in the background would appear after a failed save, too.
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options)

    @property
    def busy(self) -> bool:
        """True while a save is being written."""
        return self._pending is not None and not self._pending.done()

    def save(
        self,
        step: int,
        carry: Any,
        *,
        best: Mapping[str, np.ndarray] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Copies the arrays to the host and returns; they are written in the background.

        The caller may donate the carry then. Waits for the previous save if it is still being
        written.
        """
        self.wait()
        items = {"carry": named_leaves(carry), "best": dict(best or {})}
        silence = contextlib.ExitStack()
        silence.enter_context(_silence())
        try:
            self._start(step, items, facts or {})
        except Exception as error:
            self._clean_up()
            silence.close()
            self._pending = Future()
            self._pending.set_exception(error)
        else:
            self._pending = self._finisher.submit(self._finish, step, silence)

    def wait(self) -> bool:
        """Waits for the last save; True if it is complete.

        Reports a save that failed, unless the one before failed for the same reason.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return self._complete
        error = pending.exception()
        self._complete = error is None
        reason = "" if error is None else _one_line(error)
        kind = reason and type(error).__name__ + reason.split('"')[0][:40]  # without file names
        if reason and kind != self._reported:
            newest = max(self.steps(), default=None)
            good = f"the last good one is step {newest}" if newest is not None else "there is none"
            _report(f"could not save a checkpoint in {self.folder}: {reason}; {good}")
        self._reported = kind
        return self._complete

    def close(self) -> bool:
        """Waits for the last save and ends the background threads; True if it is complete."""
        complete = self.wait()
        self._finisher.shutdown()
        self._close_writer()
        if not complete:  # a write that is still queued in TensorStore creates the folder again
            time.sleep(1.0)
            self._remove_partial()
        return complete

    def steps(self) -> list[int]:
        """Returns the steps that have checkpoints, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def restore(self, example: Any) -> Checkpoint | None:
        """Returns the newest usable checkpoint, or None if there are no checkpoints.

        Newer checkpoints that are damaged or another run's are renamed to `unusable-STEP` and
        reported on standard error.

        Args:
          example: a tree of arrays like the carry that was saved. JAX arrays are restored with
            the sharding that they have here, others as NumPy arrays.

        Raises:
          CheckpointError: no checkpoint is usable, or the newest usable one belongs to another
            program: its arrays differ in name, shape or dtype. Nothing is renamed then.
        """
        self.wait()
        newest, unusable = self._newest(lambda saved: saved.read(example), self.owner)
        processes.wait_for_all("checkpoints are read")
        for step, error in unusable if processes.is_first() else ():
            _report(f"checkpoint {error}; it is renamed to {self._set_aside(step).name}")
        return newest

    def load_best(self, example: Any) -> Any:
        """Returns the arrays of the best evaluation or, if there are none, of the newest carry.

        Changes nothing on disk.

        Args:
          example: a tree of arrays like part of the best evaluation or of the carry.

        Raises:
          CheckpointError: there is no checkpoint, none is usable, or it does not match.
        """
        return self._load(lambda saved: saved.read_best(example))

    def load_newest(self, example: Any) -> Checkpoint:
        """Returns the newest checkpoint with part of its carry, as NumPy arrays.

        Changes nothing on disk.

        Args:
          example: a tree of arrays like part of the carry.

        Raises:
          CheckpointError: there is no checkpoint, none is usable, or it does not match.
        """
        return self._load(lambda saved: saved.read_part(example))

    def _load(self, read: Callable[[SavedCheckpoint], T]) -> T:
        newest, unusable = self._newest(read, None)
        if newest is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}")
        for _, error in unusable:
            _report(f"checkpoint {error}; an older one is used")
        return newest

    def _newest(
        self, read: Callable[[SavedCheckpoint], T], owner: str | None
    ) -> tuple[T | None, list[tuple[int, Exception]]]:
        """Reads the newest usable checkpoint; returns the unusable ones, too."""
        unusable: list[tuple[int, Exception]] = []
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            try:
                with _silence():
                    return read(SavedCheckpoint(path, owner)), unusable
            except MismatchError as error:
                raise CheckpointError(str(error)) from error
            except UnusableError as error:
                unusable.append((step, error))
            except Exception as error:  # the type depends on what is damaged
                unusable.append((step, UnusableError(f"{path} is damaged: {_one_line(error)}")))
        if unusable:
            error = unusable[0][1]
            advice = "" if isinstance(error, OutdatedError) else f"; repair or remove {self.folder}"
            raise CheckpointError(f"no checkpoint can be used: {error}{advice}")
        return None, unusable

    def _start(
        self, step: int, items: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> None:
        """Starts a save; returns when the arrays are on the host."""
        self._remove_partial()
        arrays = [leaf for leaves in items.values() for leaf in leaves.values()]
        _check_room(self.folder, sum(key_data(leaf).nbytes for leaf in arrays))
        args = save_args(items, self.owner, facts)
        self._writer.save((self.folder / str(step)).absolute(), args=args)

    def _finish(self, step: int, silence: contextlib.ExitStack) -> None:
        """Waits until a save is written, adds the digests, and removes the oldest."""
        with silence:
            try:
                self._writer.wait_until_finished()
                if not processes.is_first():
                    return
                write_digests(self.folder / str(step))
                for old in self.steps()[: -self.keep]:
                    shutil.rmtree(self.folder / str(old))
            except BaseException:
                self._clean_up()
                raise

    def _clean_up(self) -> None:
        """Removes what a failed save left, when nothing writes to it any more."""
        with contextlib.suppress(Exception):
            self._close_writer()
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("orbax."):
                with contextlib.suppress(Exception):  # `join` raises the thread's own error
                    thread.join(timeout=10)
        self._remove_partial()

    def _close_writer(self) -> None:
        if "_writer" in vars(self):
            writer = self._writer
            del self._writer
            writer.close()

    def _remove_partial(self) -> None:
        if not processes.is_first():
            return
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _set_aside(self, step: int) -> Path:
        """Renames a checkpoint, so that its step can be saved again."""
        target, attempt = self.folder / f"unusable-{step}", 1
        while target.exists():
            attempt += 1
            target = self.folder / f"unusable-{step}-{attempt}"
        return (self.folder / str(step)).rename(target)


def _check_room(folder: Path, size: int) -> None:
    """Raises OSError if the disk has no room for `size` bytes, before a write fails halfway."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = int(1.1 * size) + 2**20, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the disk is full: {needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} are free"
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppresses what Orbax logs, such as the traceback of an error that is reported anyway."""

    def reject(record: logging.LogRecord) -> bool:
        del record
        return False

    _ignore_late_errors()
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    for logger in loggers:
        logger.addFilter(reject)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(reject)


@cache
def _ignore_late_errors() -> None:
    """Suppresses reports of operations that end after Orbax has raised the first error of a save.

    Orbax has closed its event loop then, and its threads log their own errors, at any later time.
    """
    previous = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    warnings.filterwarnings("ignore", "coroutine 'async_serialize_from_host", RuntimeWarning)


def _one_line(error: BaseException) -> str:
    """Returns the message of an error as one line of at most about 200 characters."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:90]} ... {words[-105:]}"


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
