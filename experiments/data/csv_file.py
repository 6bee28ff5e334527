"""The cells of a CSV file with a header, as texts, and the numbers in its columns."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import File

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?"})
"""Texts that stand for a missing value, in lower case."""
MOST_MISSING = 5
"""Largest number of columns with missing values that an error names."""
_LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """The cells of a CSV file.

    Attributes:
      file: the file.
      lines: the line number of each row.
      cells: the cells of each column, by name.
    """

    file: File
    lines: Sequence[int]
    cells: Mapping[str, Sequence[str]]

    def error(self, row: int, column: str, problem: str) -> Exception:
        """Creates an error about a cell."""
        return self.file.error(f"line {self.lines[row]}, column {column!r}: {problem}")

    def missing(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Returns the rows of missing values of the columns that have some."""
        rows = {
            name: [row for row, cell in enumerate(self.cells[name]) if cell.lower() in MISSING]
            for name in names
        }
        return {name: each for name, each in rows.items() if each}

    def check_filled(self, names: Sequence[str], advice: str) -> None:
        """Raises DataError if a cell of the columns is empty or stands for a missing value."""
        missing = self.missing(names)
        for name, rows in missing.items():
            others = [repr(other) for other in missing if other != name]
            also = f"; so do rows of {listed(others, MOST_MISSING - 1)}" if others else ""
            raise self.error(
                rows[0],
                name,
                f"must have a value, got {self.cells[name][rows[0]]!r} ({len(rows)} of "
                f"{len(self.cells[name])} rows lack one{also}); {advice}",
            )

    def numbers(self, name: str) -> np.ndarray:
        """Returns the cells of a column as f64[rows].

        Raises:
          DataError: a cell is not a number that float32 can hold.
        """
        cells = self.cells[name]
        values = np.array([to_number(cell) for cell in cells], np.float64)
        wrong = np.flatnonzero(np.isnan(values))
        if len(wrong):
            cell = cells[wrong[0]]
            has_comma = not math.isnan(to_number(cell.replace(",", ".")))
            advice = "write decimals with a point" if has_comma else "correct it or remove the row"
            raise self.error(
                wrong[0], name, f"must be a finite number in float32, got {cell!r}; {advice}"
            )
        return values


def read(path: str | os.PathLike[str]) -> Table:
    """Reads a CSV file with a header, gzipped or not. Spaces around cells do not count.

    Raises:
      DataError: the file cannot be read, has no rows, or has unsuitable names or rows.
    """
    file = File(Path(path).expanduser())
    rows = [
        (line, [cell.strip() for cell in row])
        for line, row in file.rows(delimiters=",;\t")
        if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise file.error("must have a line of column names and rows below it, but is empty")
    (line, header), *rows = rows
    _check_header(file, line, header)
    if not rows:
        raise file.error(f"must have rows below the column names of line {line}")
    for number, row in rows:
        if len(row) != len(header):
            raise file.error(
                f"line {number} must have {len(header)} cells, as the column names in line {line}, "
                f"got {len(row)}; a cell that contains a delimiter must be in double quotes"
            )
    columns = zip(*(row for _, row in rows), strict=True)
    return Table(file, [number for number, _ in rows], dict(zip(header, columns, strict=True)))


def _check_header(file: File, line: int, header: Sequence[str]) -> None:
    if len(header) < 2:
        raise file.error(
            f"line {line} must have the names of at least two columns, separated by commas, "
            f"semicolons or tabs, got {header[0]!r}"
        )
    if not any(math.isnan(to_number(name)) for name in header):
        raise file.error(f"line {line} must have the names of the columns, got only numbers")
    for name, count in Counter(header).items():
        if count > 1:
            raise file.error(
                f"line {line} must have a different name for each column, got {name!r} "
                f"{count} times; rename them{hint_of_header(header)}"
            )


def hint_of_header(names: Iterable[str]) -> str:
    """Returns a hint if at least half of the names of the columns are numbers, or ""."""
    are_numbers = [not math.isnan(to_number(name)) for name in names]
    if 2 * sum(are_numbers) < len(are_numbers):
        return ""
    return "; the first line must have the names of the columns, but it looks like data"


def listed(names: Sequence[str], most: int) -> str:
    """Returns the names as a list in words, at most `most` of them."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def to_number(text: str) -> float:
    """Returns the number that float32 can hold, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) <= _LARGEST else math.nan
