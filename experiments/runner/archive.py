"""One checkpoint on disk, written whole or not at all.

STEP/            one Orbax checkpoint
  arrays         the bytes of all arrays, end to end, in pieces of 64 MiB
  facts          JSON: what the writer said, and name, shape, dtype and place of each array
  digests.json   SHA-256 of each file of the above

Orbax writes into a temporary folder and renames it when it is complete, so a process that
is killed leaves the older checkpoints as they were. It does not notice every flipped or
missing byte of a complete one; the digests do, which are written last (a checkpoint that
lacks them, because the process was killed in between, is complete and is read all the
same). To Orbax every array is work of its own, however small it is, and a network has
hundreds; so they are stored end to end, and found again by the facts (`read`), which also
tell a checkpoint that does not fit from one that is damaged.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from experiments.runner.packing import pack, unpack

_FORMAT = "jaxdescent checkpoint 1"
_PIECE = 2**26


class UnusableError(Exception):
    """A checkpoint that is there and is damaged, or another program's or run's."""


def describe(
    items: Mapping[str, Mapping[str, Any]], owner: str, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """The facts of a checkpoint with a copy of all its bytes."""
    table, content = pack(items)
    record = {
        "format": _FORMAT,
        "owner": owner,
        "facts": dict(facts),
        "arrays": table,
        "bytes": content.nbytes,
    }
    return record, content


def write(
    folder: Path, step: int, record: Mapping[str, Any], content: np.ndarray, *, keep: int
) -> None:
    """Writes a checkpoint, then removes all but the newest `keep`.

    Args:
      folder: of the checkpoints.
      step: of this one.
      record: the facts, from `describe`.
      content: the bytes that they describe.
      keep: at least 1.

    Raises:
      OSError: there is no room.
      Exception: what Orbax raises; nothing of the checkpoint is left then.
    """
    _check_room(folder, content.nbytes)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
    )
    try:
        with (
            _quiet(),
            ocp.CheckpointManager(folder.absolute(), options=options) as manager,
        ):
            pieces = _cut(content)
            args = ocp.args.Composite(
                facts=ocp.args.JsonSave(record), arrays=ocp.args.StandardSave(pieces)
            )
            if not manager.save(step, args=args, force=True):
                raise OSError(f"step {step} was not saved")
        _write_digests(folder / str(step))
    except BaseException:
        for partial in folder.glob("*.orbax-checkpoint-tmp*"):
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

    Raises:
      UnusableError: it is damaged, or another program's or owner's.
    """
    where = folder / str(step)
    options = ocp.CheckpointManagerOptions(create=False)
    try:
        _check_digests(where)
        with _quiet(), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
            if not (where / "facts").is_dir():
                raise UnusableError(f"{where} is no checkpoint of these experiments")
            restored = manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))
            record = restored["facts"]
            if not isinstance(record, dict) or record.get("format") != _FORMAT:
                raise UnusableError(f"{where} is no checkpoint of these experiments")
            if owner is not None and record["owner"] != owner:
                raise UnusableError(f"{where} belongs to another run")
            wanted = _cut(np.empty(record["bytes"], np.uint8))
            args = ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted))
            pieces = manager.restore(step, args=args)["arrays"]
        content = np.concatenate([pieces[name] for name in wanted])
        return unpack(record["arrays"], content), record["facts"]
    except UnusableError:
        raise
    except Exception as error:  # what a damaged file raises is up to Orbax and its libraries
        raise UnusableError(f"{where} is damaged: {one_line(error)}") from error


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


def one_line(error: BaseException) -> str:
    """What an error says, on one line of bearable length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:90]} ... {words[-105:]}"
