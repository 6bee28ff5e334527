"""Checkpoints of a run: the newest states and the best one.

checkpoints/LINE/STEP/   one checkpoint (`archive`), which holds
  carry                  all that the next step needs
  best                   what the study keeps of its best evaluation

They are written in the background while the run goes on; an older one goes when a newer one
is complete. When the run is resumed, the newest that can be used is taken up.
"""

import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.runner.archive import UnusableError, describe, one_line, read, write
from experiments.runner.packing import PackingError, leaves, unflatten


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that says what to do."""


class Saved(NamedTuple):
    """A checkpoint's content.

    Attributes:
      step: the number it was saved under.
      carry: a tree of numpy arrays (and typed keys) like the example.
      best: name to array, flat; empty if nothing was kept.
      facts: what was given to `save`.
    """

    step: int
    carry: Any
    best: dict[str, np.ndarray]
    facts: dict[str, Any]


class _Found(NamedTuple):
    """A checkpoint as it was read, and the newer ones that could not be used."""

    step: int
    items: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    unusable: list[tuple[int, UnusableError]]


class Checkpoints:
    """Saves in the background, one at a time; the newest `keep` stay.

    A save that fails (a full disk, say) is told on standard error and tried again at the
    next call; the older checkpoints stay until a newer one is complete.

    Args:
      folder: made at the first save.
      keep: how many to keep, at least 1.
      owner: names the run; what another owner saved is not taken up.

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
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._complete, self._told = True, ""

    @property
    def busy(self) -> bool:
        """Whether a save is still being written."""
        return self._pending is not None and not self._pending.done()

    def save(
        self,
        step: int,
        carry: Any,
        *,
        best: Mapping[str, np.ndarray] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Copies the carry to the host and has it written while the run goes on.

        Waits for the save before it, if that is still being written.
        """
        self.wait()
        items = {"carry": leaves(carry), "best": best or {}}
        record, content = describe(items, self.owner, facts or {})
        self._pending = self._writer.submit(self._write, step, record, content)

    def wait(self) -> bool:
        """Waits until the last save is complete; whether it is there.

        A save that failed is told here; one that fails for the same reason again is not.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return self._complete
        error = pending.exception()
        self._complete = error is None
        reason = "" if error is None else one_line(error)
        if reason and type(error).__name__ + reason[:40] != self._told:
            newest = max(self.steps(), default=None)
            good = f"the last good one is step {newest}" if newest is not None else "there is none"
            _say(f"could not save a checkpoint in {self.folder}: {reason}; {good}")
        self._told = reason and type(error).__name__ + reason[:40]
        return self._complete

    def close(self) -> bool:
        """Waits, and ends the thread that writes; whether the last save is complete."""
        complete = self.wait()
        self._writer.shutdown()
        return complete

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def restore(self, example: Any) -> Saved | None:
        """The newest checkpoint that can be read; None if there are none.

        Newer ones that are damaged, or another run's, are renamed to `unusable-STEP` and told on
        standard error.

        Args:
          example: a tree of arrays like the carry that was saved.

        Raises:
          CheckpointError: there are checkpoints and none can be used, or the newest that can
            is of another program: its arrays differ in name, shape or dtype. Nothing is
            renamed then.
        """
        self.wait()
        newest = self._newest(self.owner)
        if newest is None:
            return None
        step, items, facts, unusable = newest
        carry = self._tree(step, items["carry"], example)
        for other, error in unusable:
            _say(f"checkpoint {error}; it is set aside")
            _set_aside(self.folder, other)
        return Saved(step, carry, items["best"], facts)

    def load(self, example: Any) -> Any:
        """What was kept of the best evaluation, or those parts of the newest carry.

        Nothing is changed, so that it is safe on another run's folder.

        Args:
          example: a tree of arrays like what was kept, or like a part of the carry.

        Raises:
          CheckpointError: there is no checkpoint, none can be read, or it does not fit.
        """
        step, items, _ = self._readable()
        wanted = leaves(example)
        arrays = items["best"] or {k: v for k, v in items["carry"].items() if k in wanted}
        return self._tree(step, arrays, example)

    def newest(self, example: Any) -> Saved:
        """The newest checkpoint with those parts of its carry.

        Nothing is changed, so that it is safe on another run's folder.

        Args:
          example: a tree of arrays like a part of the carry.

        Raises:
          CheckpointError: there is no checkpoint, none can be read, or it does not fit.
        """
        step, items, facts = self._readable()
        wanted = leaves(example)
        arrays = {path: array for path, array in items["carry"].items() if path in wanted}
        return Saved(step, self._tree(step, arrays, example), items["best"], facts)

    def _readable(self) -> tuple[int, dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """The newest that can be read, whoever wrote it; newer ones that cannot are told."""
        newest = self._newest(None)
        if newest is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}")
        for _, error in newest.unusable:
            _say(f"checkpoint {error}; an older one is taken")
        return newest.step, newest.items, newest.facts

    def _tree(self, step: int, arrays: Mapping[str, np.ndarray], example: Any) -> Any:
        try:
            return unflatten(arrays, example, f"checkpoint {self.folder / str(step)}")
        except PackingError as error:
            raise CheckpointError(str(error)) from error

    def _newest(self, owner: str | None) -> _Found | None:
        """The newest that can be used, with those above it that cannot."""
        unusable = []
        for step in reversed(self.steps()):
            try:
                return _Found(step, *read(self.folder, step, owner=owner), unusable)
            except UnusableError as error:
                unusable.append((step, error))
        if unusable:
            raise CheckpointError(
                f"no checkpoint can be used: {unusable[0][1]}; mend or remove {self.folder}"
            )
        return None

    def _write(self, step: int, record: Mapping[str, Any], content: np.ndarray) -> None:
        write(self.folder, step, record, content, keep=self.keep)


def _set_aside(folder: Path, step: int) -> None:
    target = folder / f"unusable-{step}"
    attempt = 1
    while target.exists():
        attempt += 1
        target = folder / f"unusable-{step}-{attempt}"
    (folder / str(step)).rename(target)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
