"""The metrics of a run: one JSON object a line, readable by any tool.

A record names the line of the study that it belongs to and its step. A run that goes on
from a checkpoint drops what that line logged after it, since it is about to be logged
again, and a last record that was cut short.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Log:
    """Records in a file, in the order in which they came.

    Args:
      path: of the file; it is made by the first record.
      listen: is given each record that is added.

    Example:
      >>> import tempfile
      >>> log = Log(Path(tempfile.mkdtemp()) / "metrics.jsonl")
      >>> log.append(line="adam", step=1, loss=0.5)
      >>> log.append(line="adam", step=2, loss=float("nan"))
      >>> log.read()
      [{'line': 'adam', 'step': 1, 'loss': 0.5}, {'line': 'adam', 'step': 2, 'loss': None}]
    """

    def __init__(self, path: Path, *, listen: Callable[[dict[str, Any]], None] | None = None):
        self.path, self._listen = path, listen

    def append(self, **record: Any) -> None:
        """Adds a record; numbers that are not finite become null."""
        record = jsonable(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        if self._listen:
            self._listen(record)

    def read(self, line: str | None = None) -> list[dict[str, Any]]:
        """All records, or those of one line."""
        records = [record for _, record in self._whole()]
        return [record for record in records if line is None or record.get("line") == line]

    def rewind(self, line: str, step: int) -> None:
        """Drops what `line` logged after `step`, and a record that was cut short."""
        if not self.path.exists():
            return

        def later(record: Mapping[str, Any]) -> bool:
            return record.get("line") == line and record.get("step", 0) > step

        kept = "".join(text for text, record in self._whole() if not later(record))
        if kept != self.path.read_text(encoding="utf-8", errors="replace"):
            write_whole(self.path, kept)

    def _whole(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each record that is complete, with its text."""
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


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def jsonable(value: Any) -> Any:
    """The value in JSON's own types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return jsonable(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (int, str, bool, type(None))) else str(value)
