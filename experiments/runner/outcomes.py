"""Files of the outcomes of a study's series: one `.npz` each, which NumPy alone can read.

An outcome is a NamedTuple whose fields are numbers, arrays, None, mappings of these by name, or
NamedTuples of these. The file has the arrays under `arr_0`, `arr_1`, ..., and under
`structure` the JSON of the fields, in which a number stands for the array of that place.
"""

import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def to_numpy(value: Any) -> Any:
    """Returns the outcome with every number and array as a NumPy array.

    Raises:
      TypeError: it holds something else.
    """
    if value is None:
        return None
    if _is_record(type(value)):
        return type(value)(*map(to_numpy, value))
    if isinstance(value, Mapping):
        return {name: to_numpy(each) for name, each in value.items()}
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        raise TypeError(f"an outcome must hold numbers and arrays, got {value!r}")
    return array


def write_outcome(path: Path, outcome: Any) -> None:
    """Writes the outcome's file completely or not at all.

    Args:
      path: the file.
      outcome: as `to_numpy` returns it.
    """
    arrays: list[np.ndarray] = []

    def structure(value: Any) -> Any:
        if value is None:
            return None
        if _is_record(type(value)):
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
        np.savez(file, *arrays, structure=np.array(fields), dtypes=np.array(dtypes))
    partial.replace(path)


def read_outcome(path: Path, outcome_type: Any) -> Any:
    """Returns the outcome in the file, or None if it is missing or unusable.

    An unusable file, one that is damaged or has other fields than the type, is reported on
    standard error.

    Args:
      path: the file.
      outcome_type: the NamedTuple of the outcome.

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
            # NumPy reads a dtype that it does not know, such as bfloat16, as plain bytes.
            arrays = [content[f"arr_{i}"].view(dtype) for i, dtype in enumerate(dtypes)]
            return _typed(json.loads(str(content["structure"])), outcome_type, arrays)
    except FileNotFoundError:
        return None
    except _MismatchError as mismatch:
        problem = f"does not fit {outcome_type.__name__}: {mismatch}"
    except Exception as error:  # a damaged archive fails in many ways
        problem = f"is damaged ({error})"
    print(f"{path} {problem}; it is computed again", file=sys.stderr)
    return None


class _MismatchError(Exception):
    """The file's fields differ from those of the type; the message says how."""


def _typed(structure: Any, hint: Any, arrays: list[np.ndarray], name: str = "it") -> Any:
    """Returns the value of the structure, whose type is `hint`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if structure is None:
            return None
        hint = next((part for part in typing.get_args(hint) if part is not type(None)), Any)
    is_record, is_mapping = _is_record(hint), _is_mapping(hint)
    if isinstance(structure, dict) != (is_record or is_mapping):
        raise _MismatchError(f"{name} has another type")
    if is_record:
        hints = typing.get_type_hints(hint)
        if differing := sorted({*hints} ^ {*structure}):
            raise _MismatchError(f"{', '.join(differing)} missing on one side")
        return hint(**{key: _typed(structure[key], hints[key], arrays, key) for key in hints})
    if is_mapping:
        each = (*typing.get_args(hint), Any, Any)[1]
        return {key: _typed(value, each, arrays, key) for key, value in structure.items()}
    return None if structure is None else arrays[structure]


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _is_mapping(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)
