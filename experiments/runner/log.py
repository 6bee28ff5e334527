"""The metrics of a run as JSON Lines, which any tool can read.

Each record has its series and its step. A run that resumes a series from a checkpoint drops
the records that the series logged after the checkpoint, because these steps are repeated, and
a last record that was cut short.
"""

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Log:
    """Records in a file, in the order in which they were added.

    Args:
      path: the file, created by the first record.
      listen: called with each record that is added.

    Example:
      >>> import tempfile
      >>> log = Log(Path(tempfile.mkdtemp()) / "metrics.jsonl")
      >>> log.append(series="adam", step=1, loss=0.5)
      >>> log.append(series="adam", step=2, loss=float("nan"))
      >>> log.read()
      [{'series': 'adam', 'step': 1, 'loss': 0.5}, {'series': 'adam', 'step': 2, 'loss': None}]
    """

    def __init__(self, path: Path, *, listen: Callable[[dict[str, Any]], None] | None = None):
        self.path, self._listen = path, listen

    def append(self, *, series: str, step: int, **metrics: Any) -> None:
        """Adds a record; non-finite numbers become null."""
        record = jsonable({"series": series, "step": step, **metrics})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        if self._listen:
            self._listen(record)

    def read(self, series: str | None = None) -> list[dict[str, Any]]:
        """Returns all records, or the records of one series."""
        records = [record for _, record in self._complete()]
        return [record for record in records if series is None or record.get("series") == series]

    def rewind(self, series: str, step: int) -> None:
        """Drops the records of `series` after `step`, and a record that was cut short."""
        if not self.path.exists():
            return

        def is_later(record: Mapping[str, Any]) -> bool:
            return record.get("series") == series and record.get("step", 0) > step

        kept = "".join(text for text, record in self._complete() if not is_later(record))
        if kept != self.path.read_text(encoding="utf-8", errors="replace"):
            write_atomically(self.path, kept)

    def keep_copy(self) -> Path:
        """Copies the file to `metrics.1.jsonl`, or the next free number; returns its path."""
        return Path(shutil.copyfile(self.path, numbered(self.path)))

    def _complete(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the text and the content of each complete record."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    record = json.loads(text)
                except ValueError:
                    continue
                if isinstance(record, dict) and text.endswith("\n"):
                    yield text, record


def numbered(path: Path) -> Path:
    """Returns the first path of `name.1.ending`, `name.2.ending`, ... that does not exist."""
    paths = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in itertools.count(1))
    return next(path for path in paths if not path.exists())


def write_atomically(path: Path, text: str) -> None:
    """Writes the file completely or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def jsonable(value: Any) -> Any:
    """Returns the value in JSON's own types; non-finite numbers become None."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return jsonable(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (int, str, bool, type(None))) else str(value)


def mean_of_finite(values: Any, axis: int | None = None) -> np.ndarray:
    """Returns the mean over the finite values, such as the losses of seeds; NaN without any.

    One value that is not finite does not hide the others, whether a seed diverged or the optimizer
    skipped a batch.

    Example:
      >>> float(mean_of_finite([1.0, float("nan"), 3.0])), float(mean_of_finite([float("inf")]))
      (2.0, nan)
    """
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    total, count = np.where(finite, values, 0).sum(axis), finite.sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
