"""Files of outcomes: one `.npz` per series, which NumPy alone can read.

An outcome is a NamedTuple. Its fields are numbers, arrays, None, mappings of these by name, or
NamedTuples of these. The file has the arrays as `arr_0`, `arr_1`, ..., and as `structure` the
fields in JSON, where the number i refers to `arr_i`.
"""

import contextlib
import json
import reprlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runner.log import numbered
from experiments.runner.run_folder import file_name


class SeriesError(Exception):
    """A series that a study describes wrongly; the message is one line that names the series."""


def check_arguments(name: str, outcome_type: Any, compute: Any) -> None:
    """Raises SeriesError if the type is not a NamedTuple class or `compute` is not a function."""
    if not _is_named_tuple(outcome_type):
        shown = getattr(outcome_type, "__name__", reprlib.repr(outcome_type))
        raise SeriesError(f"series {name!r}: outcome_type must be a NamedTuple class, got {shown}")
    if not callable(compute):
        raise SeriesError(
            f"series {name!r}: compute must be a function without arguments, "
            f"got {type(compute).__name__}"
        )


def check_outcome(name: str, outcome_type: Any, outcome: Any) -> None:
    """Raises SeriesError if the outcome does not have the type."""
    if not isinstance(outcome, outcome_type):
        raise SeriesError(
            f"series {name!r} must return {outcome_type.__name__}, got {type(outcome).__name__}"
        )


def to_numpy(value: Any, where: str = "the outcome") -> Any:
    """Returns the outcome with NumPy arrays in place of numbers and arrays.

    Args:
      value: the outcome.
      where: its name in errors.

    Raises:
      SeriesError: a value is not a number or an array, or a mapping's key is not a string.
    """
    if value is None:
        return None
    if _is_named_tuple(type(value)):
        return type(value)(**to_numpy(value._asdict(), where))
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise SeriesError(f"names in {where} must be strings, got {wrong[0]!r}")
        return {name: to_numpy(each, f"field {name} of {where}") for name, each in value.items()}
    array = None
    with contextlib.suppress(ValueError):  # lists of unequal lengths
        array = np.asarray(value)
    if array is None or array.dtype.kind in "OSU":
        raise SeriesError(f"{where} must be a number or an array, got {reprlib.repr(value)}")
    return array


def write_outcome(path: Path, outcome: Any, *, series: str = "", code: str = "") -> None:
    """Writes the result of `to_numpy` to the file, completely or not at all.

    Args:
      path: path of the file.
      outcome: the outcome.
      series: name of the series.
      code: digest of the study's file; empty without one.
    """
    arrays: list[np.ndarray] = []

    def structure(value: Any) -> Any:
        if value is None:
            return None
        if _is_named_tuple(type(value)):
            value = value._asdict()
        if isinstance(value, Mapping):
            return {name: structure(each) for name, each in value.items()}
        arrays.append(value)
        return len(arrays) - 1

    fields = json.dumps(structure(outcome))
    dtypes = json.dumps([array.dtype.name for array in arrays])
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            *arrays,
            structure=np.array(fields),
            dtypes=np.array(dtypes),
            origin=np.array(json.dumps([series, code])),
        )
    partial.replace(path)


def saved_series(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of each saved series and the digest of the study's file that computed it.

    The digest is empty if the study had no file, or if an earlier version saved the series; the
    name is the file's name then. Damaged files are skipped, and so are those that were set aside.

    Args:
      folder: folder of the outcomes.
    """
    for path in sorted(folder.glob("*.npz")):
        name = code = ""
        with (
            contextlib.suppress(Exception),  # a damaged archive fails in many ways
            path.open("rb") as file,
            np.load(file, allow_pickle=False) as content,
        ):
            name = path.stem
            if "origin" in content:
                name, code = json.loads(str(content["origin"]))
        if name and path.stem == file_name(name):
            yield name, code


def read_outcome(path: Path, outcome_type: Any) -> Any:
    """Returns the outcome in the file, or None if the file is missing or unusable.

    A file is unusable if it is damaged or its fields differ from the type's fields. It is renamed
    to `name.1.npz`, or the next free number. The reason is printed to standard error.

    Args:
      path: path of the file.
      outcome_type: NamedTuple type of the outcome.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "outcome.npz"
      >>> class Outcome(typing.NamedTuple):
      ...     losses: np.ndarray
      ...     steps: int
      >>> write_outcome(path, to_numpy(Outcome(np.array([2.0, 1.0]), 10)))
      >>> read_outcome(path, Outcome)
      Outcome(losses=array([2., 1.]), steps=array(10))
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            dtypes = json.loads(str(content["dtypes"]))
            # NumPy loads dtypes that it does not have, such as bfloat16, as bytes.
            arrays = [content[f"arr_{i}"].view(dtype) for i, dtype in enumerate(dtypes)]
            return _build(json.loads(str(content["structure"])), outcome_type, arrays)
    except FileNotFoundError:
        return None
    except _MismatchError as mismatch:
        problem = f"does not fit {outcome_type.__name__}: {mismatch}"
    except Exception as error:  # a damaged archive fails in many ways
        problem = f"is damaged ({error})"
    kept = path.rename(numbered(path))
    print(f"{path} {problem}; it is computed again, and kept as {kept.name}", file=sys.stderr)
    return None


class _MismatchError(Exception):
    """The fields in the file differ from the type's fields; the message says how."""


def _build(structure: Any, hint: Any, arrays: list[np.ndarray], name: str = "outcome") -> Any:
    """Returns the value of type `hint` that the structure describes."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if structure is None:
            return None
        hint = next((part for part in typing.get_args(hint) if part is not type(None)), Any)
    is_tuple, is_mapping = _is_named_tuple(hint), _is_mapping(hint)
    if isinstance(structure, dict) != (is_tuple or is_mapping):
        raise _MismatchError(f"the type of {name} differs")
    if is_tuple:
        hints = typing.get_type_hints(hint)
        if differing := sorted({*hints} ^ {*structure}):
            raise _MismatchError(f"one of them lacks {', '.join(differing)}")
        return hint(**{key: _build(structure[key], hints[key], arrays, key) for key in hints})
    if is_mapping:
        each = (*typing.get_args(hint), Any, Any)[1]
        return {key: _build(value, each, arrays, key) for key, value in structure.items()}
    return None if structure is None else arrays[structure]


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _is_mapping(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)
