"""A user's arrays: an npz archive of inputs and targets.

    x, y                               divided at random: a fifth for validation, a fifth for test
    x_train, y_train, x_test, y_test   as they are, with `x_validation` and `y_validation`; or else
                                       a fifth of the training part is for validation

`x` has shape [n, features], [n, time, features], [n, height, width, channels] or, in bytes,
[n, height, width]; `y` has shape [n], or [n, values] for regression. Texts, whole numbers and
booleans in `y` are classes, other numbers are values to predict (regression).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.data import tables
from experiments.data.dataset import Dataset, Split, unresolved
from experiments.data.files import File

SUFFIXES = (".npz",)
LEAST_OF_A_CLASS = 3
_TRAIN, _VALIDATION, _TEST = (
    ("x_train", "y_train"),
    ("x_validation", "y_validation"),
    ("x_test", "y_test"),
)
_KEYS = "x and y, or x_train, y_train, x_test and y_test, with x_validation and y_validation if any"


def load(
    path: str | os.PathLike[str],
    *,
    task: Literal["classification", "regression"] | None = None,
) -> Dataset:
    """Loads an archive in three parts; `source` says how it is used.

    Args:
      path: the file, whose name ends in .npz.
      task: "classification" or "regression"; by default the type of `y` decides.

    Raises:
      DataError: the file cannot be read, or an array is missing or unsuitable.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "pictures.npz"
      >>> np.savez(path, x=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) % 2)
      >>> data = load(path)
      >>> data.train.inputs.shape, data.labels
      ((12, 8, 8, 1), ('0', '1'))
    """
    file = File(Path(path).expanduser())
    archive = _arrays(file)
    pairs = [("x", "y")] if "x" in archive else [_TRAIN, _VALIDATION, _TEST]
    pairs = [pair for pair in pairs if pair[0] in archive]
    inputs = [_inputs(file, archive, x) for x, _ in pairs]
    for part, (x, _) in zip(inputs, pairs, strict=True):
        if part.shape[1:] != inputs[0].shape[1:]:
            raise file.error(
                f"{x} must have examples of the shape {inputs[0].shape[1:]} as in {pairs[0][0]}, "
                f"got {part.shape[1:]}"
            )
    for x, y in pairs:
        if archive[y].shape[:1] != archive[x].shape[:1]:
            raise file.error(
                f"{y} must have a row for each of the {len(archive[x])} in {x}, "
                f"got the shape {archive[y].shape}"
            )
    targets, labels, reason = _targets(file, {y: archive[y] for _, y in pairs}, task)
    parts = _parts(file, [Split(*each) for each in zip(inputs, targets, strict=True)], labels)
    kind = "classification" if labels else "regression"
    count = sum(map(len, inputs))
    source = f"the file {file.path.name} of {count} examples: {kind}, as {reason}"
    return Dataset.from_parts(file.path.name.split(".")[0], parts, len(labels), source)._replace(
        labels=labels
    )


def _arrays(file: File) -> Mapping[str, np.ndarray]:
    """Returns the arrays under the keys of one of the two layouts."""
    held = file.keys()
    if "x" in held or "y" in held:
        keys = ["x", "y"]
        wrong = not {*keys} <= held or any(key in held for pair in (_TRAIN, _TEST) for key in pair)
    else:
        keys = [*_TRAIN, *_TEST, *(key for key in _VALIDATION if held & {*_VALIDATION})]
        wrong = not {*keys} <= held
    if wrong:
        raise file.error(
            f"must hold the arrays {_KEYS}; it holds {', '.join(sorted(held)) or 'none'}"
        )
    return file.arrays(keys)


def _inputs(file: File, archive: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """Returns inputs as a data set stores them."""
    array = archive[key]
    if array.dtype.kind not in "buif":
        raise file.error(f"{key} must hold numbers, got the type {array.dtype}")
    if array.dtype == np.uint8 and array.ndim == 3:
        array = array[..., None]
    if not 2 <= array.ndim <= 4 or not array.size:
        raise file.error(
            f"{key} must have shape [n, features], [n, time, features], [n, height, width, "
            f"channels] or, in bytes, [n, height, width], got {array.shape}"
        )
    if array.ndim == 4 and array.shape[1] <= 4 < array.shape[-1]:
        raise file.error(
            f"{key} must have images [n, height, width, channels], got the shape {array.shape}; "
            "move the axis of channels to the end"
        )
    if array.dtype == np.uint8 and array.ndim == 4:
        return array
    converted = _float32(array)
    _check_finite(file, key, converted)
    if key in {"x", "x_train"}:
        _check_resolution(file, key, array)
    return converted


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _check_finite(file: File, key: str, array: np.ndarray) -> None:
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise file.error(
            f"{key} must hold finite numbers in float32, got {array[place]} at {list(place)} "
            f"({len(wrong)} of {array.size} are not finite); fill them in or remove the examples"
        )


def _check_resolution(file: File, key: str, array: np.ndarray) -> None:
    """Refuses features that differ, but that float32 cannot tell apart well."""
    wrong = np.flatnonzero(unresolved(array))
    if len(wrong):
        feature = array.reshape(-1, array.shape[-1])[:, wrong[0]]
        raise file.error(
            f"{key}[..., {wrong[0]}] must have a spread that float32 resolves, got numbers near "
            f"{feature[0]} with the standard deviation {feature.std(dtype=np.float64):.3g}; "
            "subtract an offset, such as the first number"
        )


def _targets(
    file: File, arrays: Mapping[str, np.ndarray], task: str | None
) -> tuple[list[np.ndarray], tuple[str, ...], str]:
    """Returns the targets of each part, the names of the classes and the reason for the task."""
    key, first = next(iter(arrays.items()))
    flat = {y: array[:, 0] if array.shape[1:] == (1,) else array for y, array in arrays.items()}
    if not all(array.dtype.kind in "buifU" for array in arrays.values()):
        raise file.error(f"{key} must hold texts or numbers, got the type {first.dtype}")
    is_text = any(array.dtype.kind == "U" for array in arrays.values())
    is_float = any(array.dtype.kind == "f" for array in arrays.values())
    reason = f"{key} holds {'texts' if is_text else first.dtype.name}"
    if task == "regression" or (is_float and task is None):
        if is_text:
            raise file.error(f"{key} must hold numbers with --task regression, got texts")
        values = {y: _float32(a)[:, None] if a.ndim == 1 else _float32(a) for y, a in flat.items()}
        if first.ndim > 2 or len({value.shape[1:] for value in values.values()}) > 1:
            raise file.error(f"{key} must have shape [n] or [n, values], got {first.shape}")
        for y, value in values.items():
            _check_finite(file, y, value)
        _check_resolution(file, key, flat[key][:, None] if flat[key].ndim == 1 else flat[key])
        return [*values.values()], (), reason
    if any(array.ndim != 1 for array in flat.values()):
        raise file.error(
            f"{key} must have shape [n] for classification, got {first.shape}; give the number of "
            "the class, or choose --task regression"
        )
    if is_float and any((array != np.round(array)).any() for array in flat.values()):
        raise file.error(f"{key} must hold texts or whole numbers with --task classification")
    if is_float and any((abs(array) > 2**53).any() for array in flat.values()):
        raise file.error(f"{key} must hold classes up to 2^53, or give them as integers or texts")
    if is_float:
        flat = {y: array.astype(np.int64) for y, array in flat.items()}
    if not is_text and np.result_type(*flat.values()).kind == "f":  # int64 and uint64
        flat = {y: array.astype(object) for y, array in flat.items()}
    return _classes(file, flat, task, reason)


def _classes(
    file: File, flat: Mapping[str, np.ndarray], task: str | None, reason: str
) -> tuple[list[np.ndarray], tuple[str, ...], str]:
    key, train = next(iter(flat.items()))
    labels, counts = np.unique(train, return_counts=True)
    advice = "" if train.dtype.kind == "U" else "; or predict the number with --task regression"
    if len(labels) < 2:
        raise file.error(f"{key} must have at least two classes, got {labels.tolist()}{advice}")
    least = LEAST_OF_A_CLASS if len(flat) < 3 else 1
    rare = np.flatnonzero(counts < least)
    if len(rare):
        raise file.error(
            f"{key} must have at least {least} examples of each class, got {counts[rare[0]]} of "
            f"{labels.tolist()[rare[0]]!r}; add some or remove it{advice}"
        )
    for y, array in flat.items():
        unknown = np.setdiff1d(array, labels)
        if len(unknown):
            raise file.error(
                f"{y} must have the classes of {key}, got {unknown.tolist()[0]!r}, too"
            )
    reason += "" if task or advice == "" else " (--task regression predicts the number)"
    targets = [np.searchsorted(labels, array).astype(np.int32) for array in flat.values()]
    return targets, tuple(str(label) for label in labels), reason


def _parts(file: File, parts: Sequence[Split], labels: Sequence[str]) -> tuple[Split, Split, Split]:
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    count = len(parts[0].targets)
    fifth, least = -(-count // 5), max(5 * len(labels) - 4, 5)
    if count < least:
        raise file.error(f"must have at least {least} examples to divide, got {count}")
    if len(parts) == 1:
        return tables.parts_at_random(parts[0], fifth, fifth, stratified=bool(labels))
    train, validation = tables.two_parts(parts[0], fifth, stratified=bool(labels))
    return train, validation, parts[1]
