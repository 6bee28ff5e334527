"""Checks of a chunk on the host, before anything of the loop's state is touched.

Compiled code cannot raise errors, and it consumes the state that it is given. Here each row of a
chunk gets 0 or the number of its first problem, in the order of `sources.PROBLEMS`:

    width     the features have another shape than the loop's
    features  a feature is not finite
    label     a label is not finite, or not a class in [0, num_classes)
    time      a time stamp is not finite, or earlier than the one of a valid row before it
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.streaming.sources import FITS, PROBLEMS, WRONG_WIDTH, Chunk, parse_times

Reaction = Literal["skip", "raise", "count"]
START = np.iinfo(np.int64).min
"""The time before the first example."""
_TIME = 1 + PROBLEMS.index("time")
_MESSAGES = {
    "width": "features must have shape {shape}, got another one",
    "features": "features must be finite numbers, got {features}",
    "label": "labels must be {labels}, got {label}",
    "time": "times must be finite and must not decrease, got {time}",
}


class InvalidExampleError(ValueError):
    """An example that the loop's settings refuse. The state is as it was before the chunk."""


class Expected(NamedTuple):
    """Properties of a valid example.

    Attributes:
      shape: of the features.
      dtype: of the features.
      num_classes: number of classes; None if labels are numbers.
      single_labels: True if the label of an example must be one number.
      reactions: "skip", "raise" or "count" for each of `PROBLEMS`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    num_classes: int | None
    single_labels: bool
    reactions: Mapping[str, str]


class Rows(NamedTuple):
    """A chunk after its checks.

    Attributes:
      features: f[n, ...], 0 in rows that are not valid.
      labels: i32[n] or f[n, ...], 0 in rows that are not valid.
      valid: bool[n], True in rows to test and to train on.
      problems: i32[4], number of rows with each of `PROBLEMS`.
      time: i64[], the latest time stamp up to now.
    """

    features: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    problems: np.ndarray
    time: int


def reactions_to(invalid: str | Mapping[str, str]) -> dict[str, str]:
    """Returns the reaction to each problem, for the argument `invalid` of a loop.

    Raises:
      TypeError: `invalid` is not a string or a mapping.
      ValueError: a problem or a reaction is unknown; only a time stamp can be just counted.
    """
    if not isinstance(invalid, str | Mapping):
        raise TypeError(
            f"invalid must be 'skip', 'raise' or a mapping of {PROBLEMS} to them, got "
            f"{validation.shown(invalid)}"
        )
    given = dict.fromkeys(PROBLEMS, invalid) if isinstance(invalid, str) else dict(invalid)
    reactions: dict[str, str] = {**dict.fromkeys(PROBLEMS, "skip"), **given}
    for problem, reaction in reactions.items():
        if problem not in PROBLEMS:
            raise ValueError(f"invalid must have keys among {PROBLEMS}, got {problem!r}")
        allowed = ("skip", "raise", "count") if problem == "time" else ("skip", "raise")
        if reaction not in allowed:
            raise ValueError(f"invalid[{problem!r}] must be one of {allowed}, got {reaction!r}")
    return reactions


def check_chunk(
    chunk: Chunk, expected: Expected, time: int, position: Callable[[], int | None]
) -> Rows:
    """Checks the rows of a chunk.

    Args:
      chunk: the chunk.
      expected: properties of a valid example.
      time: the latest time stamp before the chunk, as `to_time_keys` returns it.
      position: Called as `position()` for an error message; returns the number of rows of the
        stream before the chunk, or None if it is unknown.

    Raises:
      InvalidExampleError: an example has a problem that is to be refused.
      TypeError: the chunk is traced.
      ValueError: arrays of the chunk differ in length, or are not of numbers.
    """
    features = _numbers("features", chunk.features)
    labels = _numbers("labels", chunk.labels)
    rows = len(features)
    length = rows if chunk.length is None else chunk.length
    if len(labels) != rows:
        raise ValueError(f"chunk.labels must have {rows} rows as features, got {len(labels)}")
    for name, array in (("times", chunk.times), ("problems", chunk.problems)):
        if array is not None and np.shape(array) != (rows,):
            raise ValueError(f"chunk.{name} must have shape ({rows},), got {np.shape(array)}")
    if not rows:
        raise ValueError("chunk must have at least one row, got none")
    length = validation.integer_in("chunk.length", length, 0, rows)
    if expected.single_labels and labels.ndim > 1:
        raise ValueError(
            f"chunk.labels must have shape ({rows},), one number for each example, got "
            f"{labels.shape}; give classes as integers, not as one-hot vectors"
        )
    present = np.arange(rows) < length
    problems = np.zeros(rows, np.uint8)
    if chunk.problems is not None:
        if not np.isin(chunk.problems, range(1 + len(PROBLEMS))).all():
            raise ValueError(
                f"chunk.problems must be integers in [0, {len(PROBLEMS)}], got "
                f"{validation.shown(chunk.problems)}"
            )
        problems[:] = chunk.problems
    if features.shape[1:] != expected.shape:
        problems[:] = WRONG_WIDTH
        features = np.zeros((rows, *expected.shape), expected.dtype)
    with np.errstate(over="ignore"):  # too large for the dtype: not finite
        features = features.astype(expected.dtype, copy=False)
    checks = [
        ("features", lambda: np.isfinite(features).reshape(rows, -1).all(1)),
        ("label", lambda: _fitting_labels(labels, expected.num_classes)),
    ]
    for problem, fits in checks:
        wrong = ~fits() & (problems == FITS)
        problems[wrong] = 1 + PROBLEMS.index(problem)
    if chunk.times is not None:
        time, in_order = _times_in_order(chunk.times, time, present & (problems == FITS))
        problems[~in_order & (problems == FITS)] = _TIME
    problems[~present] = FITS
    _refuse(chunk, problems, expected, position)
    valid = present & (problems == FITS)
    if expected.reactions["time"] == "count":
        valid |= problems == _TIME
    if not valid.all():
        features = np.where(valid.reshape(-1, *[1] * (features.ndim - 1)), features, 0)
        labels = np.where(valid.reshape(-1, *[1] * (labels.ndim - 1)), labels, 0)
    return Rows(
        features.astype(expected.dtype, copy=False),
        labels.astype(expected.dtype if expected.num_classes is None else np.int32, copy=False),
        valid,
        np.bincount(problems, minlength=1 + len(PROBLEMS))[1:].astype(np.int32),
        time,
    )


def _numbers(name: str, value: Any) -> np.ndarray:
    """Returns an array of real numbers with an axis of rows."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"chunk.{name} must be an array, got a traced one; run checks it on the host, and is "
            "to be called outside of jax.jit"
        )
    array, fits = np.zeros(()), False
    try:
        array = np.asarray(value)
        if array.dtype.kind in "OSU":
            array = array.astype(np.float64)
        fits = jnp.issubdtype(array.dtype, np.number) or array.dtype == bool
    except (TypeError, ValueError, OverflowError):
        pass
    if not fits or np.iscomplexobj(array) or not array.ndim:
        raise ValueError(
            f"chunk.{name} must be an array of real numbers with an axis of rows, got "
            f"{validation.shown(value)}; jd.streaming.chunks(examples, length) marks examples "
            "that are not numbers"
        )
    return array


def _fitting_labels(labels: np.ndarray, num_classes: int | None) -> np.ndarray:
    rows = len(labels)
    finite: np.ndarray = np.isfinite(labels)
    if num_classes is not None:
        finite &= (labels >= 0) & (labels < num_classes) & (labels == np.floor(labels))
    return np.all(finite.reshape(rows, -1), axis=1)


def _times_in_order(times: Any, time: int, counts: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns the latest time, and bool[n], True where a time is in order.

    `counts` is bool[n], True for rows whose times later times are compared with.
    """
    keys, finite = to_time_keys(times)
    latest = np.maximum(np.maximum.accumulate(np.where(finite & counts, keys, START)), time)
    before = np.concatenate([[time], latest[:-1]])
    return int(latest[-1]), finite & (keys >= before)


def to_time_keys(times: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns times as i64[n] in the same order, and bool[n], True where they are finite.

    Numbers of all types are compared as float64: a chunk of integers may follow one of floats.
    """
    array = np.asarray(times)
    if array.dtype.kind in "OSU":
        array = parse_times(array.tolist())
    if array.dtype.kind == "M":
        return array.astype("datetime64[ns]").view(np.int64), ~np.isnat(array)
    array = array.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    bits = array.view(np.int64)
    return np.where(bits < 0, START - bits - 1, bits), np.isfinite(array)


def _refuse(
    chunk: Chunk, problems: np.ndarray, expected: Expected, position: Callable[[], int | None]
) -> None:
    refused = [1 + i for i, name in enumerate(PROBLEMS) if expected.reactions[name] == "raise"]
    rows = np.flatnonzero(np.isin(problems, refused))
    if not len(rows):
        return
    row = int(rows[0])
    problem = PROBLEMS[problems[row] - 1]
    classes = expected.num_classes
    text = _MESSAGES[problem].format(
        shape=expected.shape,
        features=validation.shown(np.asarray(chunk.features)[row]),
        labels="finite numbers" if classes is None else f"integers in [0, {classes})",
        label=np.asarray(chunk.labels)[row],
        time=None if chunk.times is None else np.asarray(chunk.times)[row],
    )
    before = position()
    place = "" if before is None else f"example {before + row} of the stream, "
    raise InvalidExampleError(
        f"{text} at {place}row {row} of its chunk; "
        f"invalid={{{problem!r}: 'skip'}} skips and counts such examples"
    )


def time_words(time: int) -> np.ndarray:
    """Returns a time key as u32[2], for a state of 32-bit arrays."""
    return np.array([time], np.int64).view(np.uint32).copy()


def time_from_words(words: Any) -> int:
    """Returns the time key of two words."""
    return int(np.asarray(words, np.uint32).view(np.int64)[0])
