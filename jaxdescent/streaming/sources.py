"""Chunks of fixed length from a stream: arrays, a file, or any Python iterator.

    for chunk in chunks(source, 1024):
        state, record = loop.run(state, chunk)

Memory is constant: one chunk at a time. The last chunk is padded to the same length, so that a
compiled loop is compiled once. A row that does not fit, such as one with more features, becomes a
row of zeros that is marked; the loop counts and skips it, or refuses it, as its settings say. When
the source raises an error, the rows before it come first, as a padded chunk, and the error after.
"""

import csv
import gzip
import itertools
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdescent import validation

PROBLEMS = ("width", "features", "label", "time")
"""Reasons to refuse an example: number of features, not finite, unknown label, time goes back."""
FITS, WRONG_WIDTH = 0, 1
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Chunk(NamedTuple):
    """Successive examples of a stream.

    Attributes:
      features: f[n, ...].
      labels: [n], or [n, ...] for targets of several numbers; NaN for an unknown label.
      length: number of examples; the rows from there on are padding. All rows by default.
      times: [n], numbers, which are compared as float64, dates or texts of ISO dates; None for a
        stream without time stamps.
      problems: u8[n], 0, or 1 + the index in `PROBLEMS` of a problem that the source found.

    Example:
      >>> chunk = Chunk(np.ones((4, 2)), np.zeros(4, int))
      >>> chunk.length is None
      True
    """

    features: Any
    labels: Any
    length: int | None = None
    times: Any = None
    problems: Any = None


def chunks(
    source: Any,
    length: int,
    *,
    features: int | tuple[int, ...] | None = None,
    allow_empty: bool = False,
) -> Iterator[Chunk]:
    """Divides a stream into chunks of one length, the last of them padded.

    Args:
      source: a tuple of arrays `(features, labels)` or `(features, labels, times)` with a leading
        axis of examples, or an iterable of examples, which are such tuples of one row each. A time
        stamp is a number, a date or the text of an ISO date; if only some rows lack it, they are
        invalid. Arrays of texts or objects are read row by row, as an iterable is. `csv_examples`
        reads examples from a file.
      length: number of rows of a chunk.
      features: shape of the features of an example, or their number, as for `online_loop`. By
        default the most common shape of the examples so far; give it if the first examples may be
        invalid. Arrays have one shape.
      allow_empty: whether a source without examples gives no chunks, rather than an error.

    Returns:
      An iterator of `Chunk`s of NumPy arrays.

    Raises:
      ValueError: `length` or `features` is not positive; arrays differ in length; while iterating,
        the source has no examples.
      TypeError: the source is not iterable; while iterating, an example is not a tuple.

    Example:
      >>> import jaxdescent as jd
      >>> examples = (([float(i), 1.0], i % 2) for i in range(5))
      >>> [chunk.length for chunk in jd.streaming.chunks(examples, 2)]
      [2, 2, 1]
    """
    length = validation.integer_in("length", length, 1)
    shape = None if features is None else feature_shape(features)
    if isinstance(source, tuple) and source and all(hasattr(each, "shape") for each in source):
        found = _of_arrays(source, length, shape)
    elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
        found = _of_examples(source, length, shape)
    else:
        raise TypeError(
            "source must be a tuple of arrays or an iterable of (features, label) tuples, got "
            f"{validation.shown(source)}; csv_examples reads a file"
        )
    return _not_empty(found, allow_empty)


def feature_shape(features: Any) -> tuple[int, ...]:
    """Returns the shape of the features of an example, for the argument `features`."""
    sizes = features if isinstance(features, tuple) else (features,)
    return tuple(validation.integer_in("features", size, 1) for size in sizes)


def _not_empty(found: Iterator[Chunk], allow_empty: bool) -> Iterator[Chunk]:
    first = next(found, None)
    if first is None:
        if not allow_empty:
            raise ValueError(
                "source must have at least one example, got an empty stream; pass "
                "allow_empty=True for no chunks instead"
            )
        return
    yield first
    yield from found


def _of_arrays(
    arrays: tuple[Any, ...], length: int, shape: tuple[int, ...] | None
) -> Iterator[Chunk]:
    if len(arrays) not in (2, 3) or any(np.ndim(each) < 1 for each in arrays):
        raise ValueError(
            "source must be two or three arrays with a leading axis of examples, got shapes "
            f"{[np.shape(each) for each in arrays]}"
        )
    sizes = {len(each) for each in arrays}
    if len(sizes) > 1:
        raise ValueError(
            "source must have as many labels and times as rows of features, got "
            f"{[len(each) for each in arrays]}"
        )
    if any(_dtype(each).kind in "OSU" for each in arrays[:2]):  # some rows may not be numbers
        rows = zip(*map(np.asarray, arrays), strict=True)
        return _of_examples(rows, length, shape or np.shape(arrays[0])[1:])
    return (
        _padded([each[start : start + length] for each in arrays], length)
        for start in range(0, sizes.pop(), length)
    )


def _dtype(array: Any) -> np.dtype:
    dtype = getattr(array, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) else np.asarray(array).dtype


def _padded(arrays: Sequence[Any], length: int, problems: Any = None) -> Chunk:
    """Returns rows as a chunk with padding; the last row is repeated."""
    count = len(arrays[0])
    full = [np.asarray(each) for each in arrays]
    if count < length:
        full = [np.concatenate([a, np.repeat(a[-1:], length - count, axis=0)]) for a in full]
        if problems is not None:
            problems = np.concatenate([problems, np.zeros(length - count, np.uint8)])
    features, labels, *times = full
    return Chunk(features, labels, count, times[0] if times else None, problems)


def _of_examples(
    source: Iterable[Any], length: int, shape: tuple[int, ...] | None
) -> Iterator[Chunk]:
    iterator = iter(source)
    shapes: Counter[tuple[int, ...]] = Counter()
    while True:
        rows: list[Any] = []
        error: BaseException | None = None
        try:
            for example in itertools.islice(iterator, length):
                rows.append(_checked_example(example))  # noqa: PERF401  kept if the next one raises
        except Exception as raised:
            error = raised
        if rows:
            if shape is None:
                shapes.update(x.shape for x, *_ in rows if x is not None)
            ((usual, _),) = shapes.most_common(1) or [((), 0)]
            yield _from_rows(rows, length, usual if shape is None else shape)
        if error is not None:
            raise error
        if len(rows) < length:
            return


def _checked_example(example: Any) -> tuple[Any, ...]:
    """Returns the features as an array, or None if they are not numbers; the label; the time."""
    if not isinstance(example, tuple | list) or len(example) not in (2, 3):
        raise TypeError(
            "an example must be a tuple (features, label) or (features, label, time), got "
            f"{validation.shown(example)}"
        )
    features, *rest = example
    try:
        array = np.asarray(features)
        if np.iscomplexobj(array):
            array = None
        elif not _is_numeric(array):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        array = None
    return array, *rest


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype == bool or bool(jnp.issubdtype(array.dtype, np.number))


def _from_rows(rows: list[Any], length: int, shape: tuple[int, ...]) -> Chunk:
    problems = np.zeros(len(rows), np.uint8)
    kinds = [x.dtype for x, *_ in rows if x is not None]
    features = np.zeros((len(rows), *shape), np.result_type(*kinds) if kinds else np.float64)
    for i, (row, *_) in enumerate(rows):
        if row is None:
            problems[i] = 1 + PROBLEMS.index("features")
        elif row.shape != shape:
            problems[i] = WRONG_WIDTH
        else:
            features[i] = row
    labels, marked = _as_numbers([label for _, label, *_ in rows])
    problems = np.where(problems == FITS, marked, problems)
    parts = [features, labels]
    if any(len(row) == 3 for row in rows):
        parts.append(np.asarray([row[2] if len(row) == 3 else None for row in rows]))
    return _padded(parts, length, problems.astype(np.uint8))


def _as_numbers(labels: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels as an array of numbers, and the problems of labels that are not."""
    marked = np.zeros(len(labels), np.uint8)
    try:
        array = np.asarray(labels)
        if _is_numeric(array) and not np.iscomplexobj(array):
            return array, marked
    except ValueError:  # of different shapes
        pass
    numbers = []
    for i, label in enumerate(labels):
        number = _to_float(label)
        numbers.append(np.nan if number is None else number)
        marked[i] = 0 if number is not None else 1 + PROBLEMS.index("label")
    return np.asarray(numbers), marked


def _to_float(value: Any) -> float | None:
    """Returns a number as a float, infinite if it is too large; None if it is not a real number."""
    try:
        return None if np.iscomplexobj(value) else float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def csv_examples(
    path: str | os.PathLike[str],
    *,
    label: int | str = -1,
    classes: Sequence[str] | None = None,
    time: int | str | None = None,
    header: bool | None = None,
) -> Iterator[tuple[Any, ...]]:
    r"""Reads examples from a CSV file, row by row. A name that ends in .gz is decompressed.

    All columns but the label and the time are features. A cell that is not a number becomes NaN,
    and a label that is not among the classes -1, which the loop skips or refuses.

    Args:
      path: the file.
      label: index or name of the column of labels.
      classes: the texts of the labels 0, 1, ...; None if labels are numbers.
      time: index or name of a column of time stamps, numbers or ISO dates; None without.
      header: whether the first line has the names of the columns; by default, whether `label` or
        `time` is a name.

    Returns:
      An iterator of `(features, label)` or `(features, label, time)`, for `chunks`.

    Raises:
      ValueError: a column does not exist, or `classes` are not different strings.
      OSError: the file cannot be read.

    Example:
      >>> import pathlib, tempfile, jaxdescent as jd
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "stream.csv")
      ...     _ = path.write_text("1,2,UP\n3,4,DOWN\n")
      ...     list(jd.streaming.csv_examples(path, classes=("DOWN", "UP")))
      [([1.0, 2.0], 1), ([3.0, 4.0], 0)]
    """
    named = isinstance(label, str) or isinstance(time, str)
    has_header = named if header is None else header
    if named and not has_header:
        raise ValueError("header must be True where a column is given by its name, got False")
    for name, column in (("label", label), ("time", time)):
        if not isinstance(column, str) and not (name == "time" and column is None):
            validation.integer_in(name, column, -(2**31), 2**31)
    indices = None
    if classes is not None:
        is_sequence = isinstance(classes, Sequence) and not isinstance(classes, str)
        texts = [text for text in classes if isinstance(text, str)] if is_sequence else []
        indices = {text: number for number, text in enumerate(texts)}
        if not indices or len(indices) < len(classes):
            raise ValueError(
                "classes must be a sequence of different strings, the texts of the labels, got "
                f"{validation.shown(classes)}"
            )
    return _csv_examples(Path(path), label, indices, time, has_header)


def _csv_examples(
    path: Path,
    label: int | str,
    indices: dict[str, int] | None,
    time: int | str | None,
    has_header: bool,
) -> Iterator[tuple[Any, ...]]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    # Spreadsheets begin files with a byte order mark, which utf-8-sig leaves out.
    with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
        rows = (row for row in csv.reader(file) if row)
        names = next(rows, []) if has_header else None
        columns = None
        for row in rows:
            if columns is None:
                columns = [
                    _column(each, names, len(row)) for each in (label, time) if each is not None
                ]
            if len(row) <= max(columns):  # a short row has no label
                yield [_number(cell) for cell in row], np.nan, *([np.nan] * (time is not None))
                continue
            features = [_number(cell) for i, cell in enumerate(row) if i not in columns]
            text = row[columns[0]].strip()
            target = _number(text) if indices is None else indices.get(text, -1)
            yield features, target, *(_time(row[i].strip()) for i in columns[1:])


def _column(column: int | str, names: list[str] | None, width: int) -> int:
    """Returns the index of a column, counted from the left."""
    if isinstance(column, str):
        stripped = [name.strip() for name in names or ()]
        if column not in stripped:
            raise ValueError(f"label and time must be columns of {stripped}, got {column!r}")
        return stripped.index(column)
    if not -width <= column < width:
        raise ValueError(f"label and time must be in [{-width}, {width}), got {column}")
    return column % width


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _time(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        pass
    date = _date(text)
    return float("nan") if np.isnat(date) else date.astype(np.int64) / 1e9


def _date(value: Any) -> np.datetime64:
    """Returns a date, in UTC if it has a time zone; NaT if the value is not a date."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy converts time zones, and warns
            return np.datetime64(value, "ns")
    except (TypeError, ValueError):
        return np.datetime64("NaT", "ns")


def parse_times(values: Sequence[Any]) -> np.ndarray:
    """Returns dates as datetime64[n], or numbers if there are any; NaT or NaN for the others."""
    kinds = int | float | np.number | np.bool_
    numbers = [_to_float(value) if isinstance(value, kinds) else None for value in values]
    numbers = [float("nan") if number is None else number for number in numbers]
    if not np.isnan(numbers).all():
        return np.asarray(numbers, np.float64)
    return np.asarray([_date(value) for value in values], "datetime64[ns]")


def with_previous_labels(
    source: Iterable[Any], count: int, *, delay: int = 1, missing: float = 0.0
) -> Iterator[tuple[Any, ...]]:
    """Adds the labels of earlier examples to the features, `count` of them from y[t - delay] back.

    A label is known only some time after its example. In a study, say how long, and give the labels
    to every method: on streams whose labels repeat, they can be worth more than the other features.

    Args:
      source: an iterable of `(features, label)` or `(features, label, time)`.
      count: number of labels to add.
      delay: number of examples after which a label is known; at least 1.
      missing: the value of labels before the first one, and of labels that are not numbers; a
        finite number.

    Returns:
      An iterator of examples whose features have `count` more entries.

    Raises:
      TypeError: `source` is not iterable; while iterating, an example is not a tuple.
      ValueError: an argument is out of its range.

    Example:
      >>> import jaxdescent as jd
      >>> examples = [([0.0], 1), ([0.1], 0), ([0.2], 1)]
      >>> [list(map(float, x)) for x, y in jd.streaming.with_previous_labels(examples, 1)]
      [[0.0, 0.0], [0.1, 1.0], [0.2, 0.0]]
    """
    count = validation.integer_in("count", count, 1)
    delay = validation.integer_in("delay", delay, 1)
    missing = validation.number_in("missing", missing, -MAX_FLOAT32, MAX_FLOAT32)
    if not isinstance(source, Iterable):
        raise TypeError(
            "source must be an iterable of (features, label) tuples, got "
            f"{validation.shown(source)}"
        )
    return _with_previous_labels(source, count, delay, missing)


def _with_previous_labels(
    source: Iterable[Any], count: int, delay: int, missing: float
) -> Iterator[tuple[Any, ...]]:
    previous = [float(missing)] * (count + delay - 1)
    for example in source:
        features, label, *time = _checked_example(example)
        known = previous[: len(previous) - delay + 1]
        # Features that are not numbers stay as they are, for `chunks` to mark.
        fits = features is not None and features.ndim == 1
        added = np.concatenate([features, known[::-1]]) if fits else example[0]
        yield (added, label, *time)
        array, marked = _as_numbers([label])
        value = float(array[0]) if not marked[0] and np.isfinite(array[0]) else float(missing)
        previous = [*previous[1:], value]
