"""The report of one task of the study."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import runner


class Part(NamedTuple):
    """The report of one task.

    Attributes:
      table: its table, with a title.
      notes: sentences below the tables.
      values: the numbers behind the table.
      sentence: its share of the verdict.
    """

    table: runner.Table
    notes: Sequence[str]
    values: Mapping[str, Any]
    sentence: str


def make_results(title: str, parts: Sequence[Part]) -> runner.Results:
    """Returns the results of all tasks; the table of the first one comes first."""
    first, *more = parts
    return runner.Results(
        title,
        first.table.columns,
        first.table.rows,
        [note for part in parts for note in part.notes],
        {name: value for part in parts for name, value in part.values.items()},
        " ".join(part.sentence for part in parts),
        [part.table for part in more],
    )
