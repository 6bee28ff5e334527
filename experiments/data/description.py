"""Descriptions of data sets in JSON: all that the use of a trained network needs, without examples.

saved = json.dumps(describe(dataset))
empty = from_description(json.loads(saved))    # its parts have no examples
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.data.csv_table import Columns
from experiments.data.dataset import Dataset, Split

_MOMENTS = ("mean", "std", "target_mean", "target_std")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns the argument of `from_description`.

    Example:
      >>> from experiments.data import tables
      >>> empty = from_description(describe(tables.wine()))
      >>> empty.name, empty.train.inputs.shape, empty.classes
      ('wine', (0, 13), 3)
    """
    inputs, targets = dataset.train
    return {
        "name": dataset.name,
        "source": dataset.source,
        "classes": dataset.classes,
        "labels": [*dataset.labels],
        "columns": dataset.columns and dataset.columns._asdict(),
        "inputs": {"shape": [*inputs.shape[1:]], "dtype": inputs.dtype.name},
        "targets": {"shape": [*targets.shape[1:]], "dtype": targets.dtype.name},
        # A float32 number is the same after the way through a float64 number in decimals.
        **{name: getattr(dataset, name).astype(np.float64).tolist() for name in _MOMENTS},
    }


def from_description(saved: Mapping[str, Any]) -> Dataset:
    """Returns a data set without examples."""
    arrays = (
        np.zeros((0, *saved[part]["shape"]), saved[part]["dtype"]) for part in ("inputs", "targets")
    )
    empty, columns = Split(*arrays), saved["columns"]
    return Dataset(
        saved["name"],
        empty,
        empty,
        empty,
        saved["classes"],
        *(np.array(saved[name], np.float32) for name in _MOMENTS),
        source=saved["source"],
        labels=tuple(saved["labels"]),
        columns=columns and Columns(tuple(columns["names"]), tuple(map(tuple, columns["texts"]))),
    )
