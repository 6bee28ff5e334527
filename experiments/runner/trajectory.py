"""The trajectory of a run: snapshots of the parameters at a few evenly spaced steps.

trajectory/SERIES/STEP.npz   one snapshot, which NumPy alone can read

Checkpoints are for resuming, and only the newest are kept. Snapshots are for analysis, at most 32
of them, and the run itself never reads one. A resumed run writes the snapshots that it computes
again, to the same bytes. If the disk is full, the trajectory ends early and the run continues.

The file has the arrays under `arr_0`, `arr_1`, ..., and under `dtypes` JSON: the dtype of each
by name, in that order.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runner.named_arrays import MismatchError, copy_to_host, rebuild

_MAX_SNAPSHOTS = 32
_MAX_BYTES = 2**28


class TrajectoryError(Exception):
    """A trajectory that cannot be used; the message is one line that says why."""


class Snapshots(NamedTuple):
    """A trajectory that was saved.

    Attributes:
      steps: i64[n], ascending.
      trees: the parameters at each step, as NumPy arrays.
    """

    steps: np.ndarray
    trees: list[Any]


class Trajectory:
    """Saves snapshots of a series that is computed in chunks.

    Args:
      folder: created by the first snapshot.
      chunks: the number of chunks of the series.
      example: a tree like the snapshots, of arrays or shapes.
      max_snapshots: the largest number of snapshots, including the one at the start.
      max_bytes: the largest size of all snapshots together. If fewer than three snapshots
        have room, none is saved.
      steps_per_chunk: number of steps in a chunk. If the series goes on after its end, with more
        chunks, the distance of the saved snapshots is multiplied until all have room. Those
        between are removed at the end.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> trajectory = Trajectory(folder, chunks=100, example=np.zeros(2), max_snapshots=6)
      >>> for chunk in range(101):
      ...     trajectory.save(chunk, 10 * chunk, np.full(2, float(chunk)))
      >>> read_trajectory(folder, np.zeros(2)).steps.tolist()
      [0, 200, 400, 600, 800, 1000]
    """

    def __init__(
        self,
        folder: Path,
        *,
        chunks: int,
        example: Any,
        max_snapshots: int = _MAX_SNAPSHOTS,
        max_bytes: int = _MAX_BYTES,
        steps_per_chunk: int = 1,
    ):
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
        number = min(max_snapshots, max_bytes // max(size, 1))
        self.folder, self.chunks, self._steps_per_chunk = folder, chunks, steps_per_chunk
        self.every: int | None = None
        if number >= 3:
            saved = [step for step in _saved_steps(folder) if step]
            distance = max(1, saved[0] // steps_per_chunk) if saved else 1
            self.every = distance * -(-chunks // (distance * (number - 1)))

    def is_due(self, chunk: int) -> bool:
        """True if there is a snapshot after this number of chunks."""
        return self.every is not None and (chunk % self.every == 0 or chunk == self.chunks)

    def save(self, chunk: int, step: int, tree: Any) -> None:
        """Saves a snapshot if one is due after this number of chunks."""
        if not self.is_due(chunk):
            return
        path = self.folder / f"{step}.npz"
        try:
            _write(path, copy_to_host(tree))
            if chunk == self.chunks:
                self._remove_between(step)
        except OSError as error:
            print(f"the trajectory ends before step {step}: {error}", file=sys.stderr)
            self.every = None

    def _remove_between(self, last_step: int) -> None:
        """Removes the snapshots that were due when the series had fewer chunks."""
        for step in _saved_steps(self.folder):
            if step % ((self.every or 1) * self._steps_per_chunk) and step != last_step:
                (self.folder / f"{step}.npz").unlink()


def read_trajectory(folder: Path, example: Any, *, until: int | None = None) -> Snapshots:
    """Returns the snapshots of a series, as trees like the example.

    Args:
      folder: the folder of the snapshots.
      example: a tree of arrays like each snapshot.
      until: the last step to read; all by default.

    Raises:
      TrajectoryError: a snapshot is damaged or does not match the example.
    """
    steps = [step for step in _saved_steps(folder) if until is None or step <= until]
    return Snapshots(
        np.array(steps, np.int64), [_read(folder / f"{step}.npz", example) for step in steps]
    )


def _saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal())


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a snapshot completely or not at all."""
    dtypes = json.dumps({name: array.dtype.name for name, array in arrays.items()})
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, *arrays.values(), dtypes=np.array(dtypes))
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _read(path: Path, example: Any) -> Any:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if "dtypes" not in content:
                raise TrajectoryError(f"snapshot {path} was saved by an earlier version")
            dtypes = json.loads(str(content["dtypes"]))
            # NumPy reads a dtype that it does not know, such as bfloat16, as plain bytes.
            arrays = {
                name: content[f"arr_{number}"].view(jnp.dtype(dtype))
                for number, (name, dtype) in enumerate(dtypes.items())
            }
        return rebuild(arrays, example, f"snapshot {path}")
    except TrajectoryError:
        raise
    except MismatchError as error:
        raise TrajectoryError(str(error)) from error
    except Exception as error:  # the type depends on what is damaged
        raise TrajectoryError(f"snapshot {path} is damaged: {error}") from error
