"""The path of a run: the parameters at a few evenly spaced steps.

trajectory/LINE/STEP.npz   one snapshot, whole or not there

Checkpoints are for going on and only the newest stay; these are for looking back, at 32 steps or
fewer, and are never read by the run itself. A resumed run writes again what it computes again,
to the same bytes. A disk without room costs the rest of the path and not the run.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.runner.packing import PackingError, leaves, pack, unflatten, unpack

_SNAPSHOTS = 32
_BYTES = 2**28


class TrajectoryError(Exception):
    """A path that cannot be used; the message is one line that says why."""


class Snapshots(NamedTuple):
    """A path that was kept.

    Attributes:
      steps: i64[n], ascending.
      trees: the parameters at each of them, numpy arrays.
    """

    steps: np.ndarray
    trees: list[Any]


class Trajectory:
    """Keeps snapshots of a line that goes on in chunks.

    Args:
      folder: made at the first snapshot.
      chunks: of the whole line.
      example: of what is kept, arrays or shapes.
      most: how many snapshots at most, the start among them.
      most_bytes: how many bytes they may have together; with room for fewer than three, none
        is kept.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> kept = Trajectory(folder, chunks=100, example=np.zeros(2), most=6)
      >>> for chunk in range(101):
      ...     kept.keep(chunk, 10 * chunk, np.full(2, float(chunk)))
      >>> read_trajectory(folder, np.zeros(2)).steps.tolist()
      [0, 200, 400, 600, 800, 1000]
    """

    def __init__(
        self,
        folder: Path,
        *,
        chunks: int,
        example: Any,
        most: int = _SNAPSHOTS,
        most_bytes: int = _BYTES,
    ):
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
        number = min(most, most_bytes // max(size, 1))
        self.folder, self.chunks = folder, chunks
        self.every = -(-chunks // (number - 1)) if number >= 3 else None

    def wanted(self, chunk: int) -> bool:
        """Whether there is to be a snapshot after so many chunks."""
        return self.every is not None and (chunk % self.every == 0 or chunk == self.chunks)

    def keep(self, chunk: int, step: int, tree: Any) -> None:
        """Writes a snapshot, if one is wanted after this chunk."""
        if not self.wanted(chunk):
            return
        table, content = pack({"snapshot": leaves(tree)})
        path = self.folder / f"{step}.npz"
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(file, table=np.array(json.dumps(table)), content=content)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            print(f"the path of this run ends before step {step}: {error}", file=sys.stderr)
            self.every = None


def read_trajectory(folder: Path, example: Any, *, until: int | None = None) -> Snapshots:
    """The snapshots of a line, as trees like the example.

    Args:
      folder: of the snapshots.
      example: a tree of arrays, or of shapes, like each of them.
      until: the last step that is read; by default all.

    Raises:
      TrajectoryError: one is damaged or does not fit.
    """
    steps = sorted(int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal())
    steps = [step for step in steps if until is None or step <= until]
    return Snapshots(
        np.array(steps, np.int64), [_read(folder / f"{step}.npz", example) for step in steps]
    )


def _read(path: Path, example: Any) -> Any:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            table = json.loads(str(content["table"]))
            arrays = unpack(table, content["content"])["snapshot"]
    except Exception as error:  # a damaged archive fails in many ways
        raise TrajectoryError(f"snapshot {path} is damaged: {error}") from error
    try:
        return unflatten(arrays, example, f"snapshot {path}")
    except PackingError as error:
        raise TrajectoryError(str(error)) from error
