"""Checkpoints of a run: the newest states and the best one, written whole or not at all.

checkpoints/LINE/STEP/   one Orbax checkpoint
  arrays                 the bytes of all that the next step needs (carry) and of what the
                         study keeps of its best evaluation (best), in pieces of 64 MiB
  facts                  JSON: where the run was, and name, shape, dtype and place of each array
  digests.json           SHA-256 of each file of the above

Orbax writes into a temporary folder and renames it when it is complete, so a process that
is killed leaves the older checkpoints as they were. It does not notice every flipped or
missing byte of a complete one; the digests do, which are written last (a checkpoint that
lacks them, because the process was killed in between, is complete and is read all the
same). To Orbax every array is work of its own, however small it is, and a network has hundreds; so
they are stored end to end, and found again by the facts (`read`), which also tell a
checkpoint that does not fit from one that is damaged.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from experiments.runner.packing import PackingError, leaves, pack, unflatten, unpack

_FORMAT = "jaxdescent checkpoint 1"
_PIECE = 2**26


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


class _UnusableError(Exception):
    """A checkpoint that is there and is damaged, or another program's or run's."""


class _Found(NamedTuple):
    """A checkpoint as it was read, and the newer ones that could not be used."""

    step: int
    items: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    unusable: list[tuple[int, _UnusableError]]


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
        table, content = pack({"carry": leaves(carry), "best": best or {}})
        record = {
            "format": _FORMAT,
            "owner": self.owner,
            "facts": dict(facts or {}),
            "arrays": table,
            "bytes": content.nbytes,
        }
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
        reason = "" if error is None else _line(error)
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
        newest = self._newest(None)
        if newest is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}")
        step, items, _, unusable = newest
        for _, error in unusable:
            _say(f"checkpoint {error}; an older one is taken")
        wanted = leaves(example)
        arrays = items["best"] or {k: v for k, v in items["carry"].items() if k in wanted}
        return self._tree(step, arrays, example)

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
            except _UnusableError as error:
                unusable.append((step, error))
        if unusable:
            raise CheckpointError(
                f"no checkpoint can be used: {unusable[0][1]}; mend or remove {self.folder}"
            )
        return None

    def _write(self, step: int, record: Mapping[str, Any], content: np.ndarray) -> None:
        _check_room(self.folder, content.nbytes)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(self.keep),
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        try:
            with (
                _quiet(),
                ocp.CheckpointManager(self.folder.absolute(), options=options) as manager,
            ):
                pieces = _cut(content)
                args = ocp.args.Composite(
                    facts=ocp.args.JsonSave(record), arrays=ocp.args.StandardSave(pieces)
                )
                if not manager.save(step, args=args, force=True):
                    raise OSError(f"step {step} was not saved")
            _write_digests(self.folder / str(step))
        except BaseException:
            for partial in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _check_room(folder: Path, size: int) -> None:
    """Raises if the disk has no room for `size` bytes, before a write fails halfway."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = int(1.1 * size) + 2**20, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the disk is full: {needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} are free"
        )


def read(
    folder: Path, step: int, *, owner: str | None = None
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """The arrays of each item by name, checked against their digests, and the facts.

    Args:
      folder: of the checkpoints.
      step: of this one.
      owner: who must have saved it; by default anybody.
    """
    where = folder / str(step)
    options = ocp.CheckpointManagerOptions(create=False)
    try:
        _check_digests(where)
        with _quiet(), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
            if not (where / "facts").is_dir():
                raise _UnusableError(f"{where} is no checkpoint of these experiments")
            restored = manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))
            record = restored["facts"]
            if not isinstance(record, dict) or record.get("format") != _FORMAT:
                raise _UnusableError(f"{where} is no checkpoint of these experiments")
            if owner is not None and record["owner"] != owner:
                raise _UnusableError(f"{where} belongs to another run")
            wanted = _cut(np.empty(record["bytes"], np.uint8))
            args = ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted))
            pieces = manager.restore(step, args=args)["arrays"]
        content = np.concatenate([pieces[name] for name in wanted])
        return unpack(record["arrays"], content), record["facts"]
    except _UnusableError:
        raise
    except Exception as error:  # what a damaged file raises is up to Orbax and its libraries
        raise _UnusableError(f"{where} is damaged: {_line(error)}") from error


def _cut(content: np.ndarray) -> dict[str, np.ndarray]:
    """The pieces by number; Orbax writes and compresses them side by side."""
    return {str(i): content[i : i + _PIECE] for i in range(0, len(content), _PIECE)}


def _write_digests(checkpoint: Path) -> None:
    digests = {str(path.relative_to(checkpoint)): _digest(path) for path in _files(checkpoint)}
    partial = checkpoint / "digests.partial"
    partial.write_text(json.dumps(digests, indent=1))
    partial.rename(checkpoint / "digests.json")


def _check_digests(checkpoint: Path) -> None:
    listed = checkpoint / "digests.json"
    if not listed.exists():
        return
    for name, digest in json.loads(listed.read_bytes()).items():
        if _digest(checkpoint / name) != digest:
            raise ValueError(f"{name} has changed since it was written")


def _files(checkpoint: Path) -> list[Path]:
    everything = (path for path in checkpoint.rglob("*") if path.is_file())
    return [path for path in everything if not path.name.startswith("digests.")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the pages that Orbax logs about an error, which is told in a line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _set_aside(folder: Path, step: int) -> None:
    target = folder / f"unusable-{step}"
    attempt = 1
    while target.exists():
        attempt += 1
        target = folder / f"unusable-{step}-{attempt}"
    (folder / str(step)).rename(target)


def _line(error: BaseException) -> str:
    """What an error says, on one line of bearable length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:90]} ... {words[-105:]}"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
