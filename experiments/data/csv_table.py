"""A user's table: a CSV file with a header, one column of which is predicted from the others.

    data = load("wine.csv", target="quality")

Cells are separated by commas, semicolons or tabs. A column of numbers is one input. A column of
at most `MAX_TEXTS` different texts is one input per text, which is 1 in the rows that have the text
and 0 in the others (one-hot). Anything else is refused in one line that names the file, the line
and the column. The target decides the task: texts and at most `MAX_CLASSES` different whole numbers
are classes, other numbers are values to predict (regression).

A fifth of the rows is for validation and a fifth for test, at random, stratified by class.
"""

import difflib
import math
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.data import tables
from experiments.data.csv_file import MOST_MISSING, Table, hint_of_header, listed, read, to_number
from experiments.data.dataset import Dataset, Split, unresolved

SUFFIXES = (".csv", ".csv.gz")
MAX_TEXTS = 20
"""Largest number of different texts in an input column."""
MAX_CLASSES = 20
"""Largest number of different whole numbers that are taken for classes by default."""
LEAST_OF_A_CLASS = 3
MOST_NAMES = 10
"""Largest number of columns that an error names."""

TaskKind = Literal["classification", "regression"]


class Columns(NamedTuple):
    """The input columns of a table.

    Attributes:
      names: of the columns.
      texts: the different texts of each column; () for a column of numbers.
    """

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs: of columns of numbers, and "column=text" of the others."""
        return [
            each
            for name, texts in zip(self.names, self.texts, strict=True)
            for each in ([f"{name}={text}" for text in texts] or [name])
        ]

    def encode(self, table: Table) -> np.ndarray:
        """Returns the inputs of a table, f32[rows, inputs]; other columns are not read.

        Raises:
          DataError: the table lacks a column, or a cell is missing or not as in training.
        """
        missing = [name for name in self.names if name not in table.cells]
        if missing:
            raise table.file.error(
                f"must have the columns {', '.join(self.names)}; it lacks {', '.join(missing)}"
            )
        table.check_filled(self.names, "fill it in")
        parts = []
        for name, texts in zip(self.names, self.texts, strict=True):
            parts.append(_one_hot(table, name, texts) if texts else table.numbers(name)[:, None])
        return np.concatenate(parts, 1).astype(np.float32)


def load(
    path: str | os.PathLike[str],
    target: str | None,
    *,
    task: TaskKind | None = None,
    ignore: Sequence[str] = (),
) -> Dataset:
    r"""Loads a table in three fixed random parts; `source` says how its columns are used.

    Args:
      path: the file, whose name ends in .csv or .csv.gz.
      target: the column to predict.
      task: "classification" or "regression"; by default the target decides.
      ignore: columns that are not used.

    Raises:
      DataError: the file cannot be read, or a cell is missing or unsuitable.
      ValueError: `target`, `task` or `ignore` does not fit the columns.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "fruit.csv"
      >>> rows = [f"{3 + i % 4},{'red' if i % 2 else 'green'},{'sweet' if i % 2 else 'sour'}"
      ...         for i in range(20)]
      >>> _ = path.write_text("\n".join(["size,color,taste", *rows]))
      >>> data = load(path, "taste")
      >>> data.train.inputs.shape, data.labels, data.columns.inputs
      ((12, 3), ('sour', 'sweet'), ['size', 'color=green', 'color=red'])
    """
    table = read(path)
    if target is None:
        raise ValueError(
            f"--target must name the column of {table.file.path} to predict, one of "
            f"{listed([*table.cells], MOST_NAMES)}{hint_of_header(table.cells)}"
        )
    for flag, name in (("--target", target), *(("--ignore", name) for name in ignore)):
        _check_name(table, flag, name)
    names = tuple(name for name in table.cells if name != target and name not in ignore)
    if not names or target in ignore:
        raise ValueError(
            f"--ignore must leave the target and a column to predict it from, {target}"
        )
    _check_filled(table, names, target)
    columns = Columns(names, tuple(_texts(table, name) for name in names))
    targets, labels, reason = _targets(table, target, task)
    numeric = [name for name, texts in zip(names, columns.texts, strict=True) if not texts]
    for name in [*numeric, *(() if labels else [target])]:
        _check_resolution(table, name)
    everything = Split(columns.encode(table), targets)
    fifth = -(-len(targets) // 5)
    parts = tables.parts_at_random(everything, fifth, fifth, stratified=bool(labels))
    kind = "classification" if labels else "regression"
    data = Dataset.from_parts(
        table.file.path.name.split(".")[0],
        parts,
        len(labels),
        f"the file {table.file.path.name} of {len(targets)} rows: {kind} of {target!r}, {reason}",
    )
    data = data._replace(labels=labels, columns=columns)
    return data._replace(source=data.source + _remarks(data), advice=_advice(columns, table))


def _check_filled(table: Table, names: Sequence[str], target: str) -> None:
    """Refuses missing values, with advice for inputs and for the target."""
    inputs = [*table.missing(names)][:MOST_MISSING]
    flags = f", or leave it out with --ignore {shlex.join(inputs)}" if inputs else ""
    flags = flags.replace("leave it", "leave columns") if len(inputs) > 1 else flags
    table.check_filled([*names, target], f"fill it in or remove the row{flags}")


def _check_resolution(table: Table, name: str) -> None:
    """Refuses numbers that differ, but that float32 cannot tell apart well."""
    values, cells = table.numbers(name), table.cells[name]
    # Whole numbers above 2^53 may be equal only in float64.
    hidden = np.ptp(values) == 0 and len({Decimal(cell) for cell in cells}) > 1
    if hidden or unresolved(values[:, None])[0]:
        raise table.error(
            0,
            name,
            f"must have a spread that float32 resolves, got numbers near {cells[0]} with the "
            f"standard deviation {values.std():.3g}; subtract an offset, such as the first number",
        )


def _check_name(table: Table, flag: str, name: str) -> None:
    if name in table.cells:
        return
    near = difflib.get_close_matches(name, table.cells, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"{flag} must be a column of {table.file.path}, got {name!r}{hint} "
        f"(the columns are {listed([*table.cells], MOST_NAMES)}){hint_of_header(table.cells)}"
    )


def _is_text(table: Table, name: str) -> bool:
    """Returns True unless at least half of the cells are numbers, also with decimal commas."""
    cells = table.cells[name]
    return sum(math.isnan(to_number(cell.replace(",", "."))) for cell in cells) > len(cells) / 2


def _texts(table: Table, name: str) -> tuple[str, ...]:
    """Returns the different texts of a column, or () if it has numbers."""
    if not _is_text(table, name):
        return ()
    texts = sorted({*table.cells[name]})
    if len(texts) > MAX_TEXTS:
        first = table.cells[name][0]
        raise table.error(
            0,
            name,
            f"must be numbers or at most {MAX_TEXTS} different texts, got {len(texts)} different "
            f"texts, such as {_shortened(first)!r}; leave it out with --ignore {name}",
        )
    return tuple(texts)


def _one_hot(table: Table, name: str, texts: Sequence[str]) -> np.ndarray:
    places = {text: place for place, text in enumerate(texts)}
    for row, cell in enumerate(table.cells[name]):
        if cell not in places:
            shown = ", ".join(map(repr, texts))
            raise table.error(row, name, f"must be one of {shown}, got {_shortened(cell)!r}")
    return np.eye(len(texts))[[places[cell] for cell in table.cells[name]]]


def _targets(
    table: Table, target: str, task: TaskKind | None
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Returns the targets, the names of the classes and the reason for the task."""
    if _is_text(table, target):
        if task == "regression":
            table.numbers(target)  # raises an error about the first text
        cells = table.cells[target]
        labels = sorted({*cells})
        reason = f"which has {len(labels)} different texts"
    else:
        values = table.numbers(target)
        exact = [Decimal(cell) for cell in table.cells[target]]  # float64 merges numbers above 2^53
        distinct = sorted({*exact})
        is_whole = all(value == value.to_integral_value() for value in distinct)
        if task == "classification" and not is_whole:
            row = next(row for row, v in enumerate(exact) if v != v.to_integral_value())
            raise table.error(
                row,
                target,
                "must be a text or a whole number with --task classification, got "
                f"{table.cells[target][row]}",
            )
        few = is_whole and len(distinct) <= MAX_CLASSES
        reason = f"which has {len(distinct)} different {'whole ' if is_whole else ''}numbers"
        if task == "regression" or not (few or task):
            if len(values) < 5:
                raise table.file.error(f"must have at least 5 rows, got {len(values)}")
            return values.astype(np.float32)[:, None], (), reason
        cells, labels = [str(int(value)) for value in exact], [str(int(v)) for v in distinct]
        reason += "" if task else " (--task regression predicts the number)"
    _check_classes(table, target, cells, labels)
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places[cell] for cell in cells], np.int32), tuple(labels), reason


def _check_classes(table: Table, target: str, cells: Sequence[str], labels: Sequence[str]) -> None:
    if len(labels) < 2:
        raise table.error(
            0, target, f"must have at least two different values, got only {labels[0]!r}"
        )
    for label, count in Counter(cells).items():
        if count < LEAST_OF_A_CLASS:
            is_number = not math.isnan(to_number(label))
            advice = ", or predict the number with --task regression" if is_number else ""
            raise table.error(
                cells.index(label),
                target,
                f"must have at least {LEAST_OF_A_CLASS} examples of each class for three parts, "
                f"got {count} of {_shortened(label)!r}; add some or remove it{advice}",
            )
    least = 5 * len(labels) - 4
    if len(cells) < least:
        raise table.file.error(
            f"must have at least {least} rows for {len(labels)} classes in three parts, "
            f"got {len(cells)}"
        )


def _remarks(data: Dataset) -> str:
    """Returns a description of the inputs, and of columns that are not useful."""
    columns: Any = data.columns
    texts = [
        f"{name} ({', '.join(_shortened(text) for text in each)})"
        for name, each in zip(columns.names, columns.texts, strict=True)
        if each
    ]
    remarks = f"; {len(columns.inputs)} inputs from {len(columns.names)} columns"
    remarks += f", one for each text of {', '.join(texts)}" if texts else ""
    constant = np.ptp(data.train.inputs, 0) == 0
    unused = [
        name for name, is_constant in zip(columns.inputs, constant, strict=True) if is_constant
    ]
    return remarks + (f"; constant in the training part: {', '.join(unused)}" if unused else "")


def _advice(columns: Columns, table: Table) -> tuple[str, ...]:
    """Returns a sentence for each input that may be an identifier of the rows."""
    return tuple(
        f"Column {name!r} counts up from row to row: unless it describes the rows, leave it out "
        f"with --ignore {shlex.quote(name)}."
        for name, texts in zip(columns.names, columns.texts, strict=True)
        if not texts and _counts_up(table.numbers(name))
    )


def _counts_up(values: np.ndarray) -> bool:
    return bool((np.diff(values) > 0).all() and (values == np.floor(values)).all())


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
