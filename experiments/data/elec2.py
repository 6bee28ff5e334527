"""Elec2: an electricity market by half-hours, and whether the price went up or down.

A stream for online learning: demand and prices drift, and consecutive labels are often equal.

Source: M. Harries, "SPLICE-2 Comparative Evaluation: Electricity Pricing", University of New
South Wales, 1999; the New South Wales market from May 1996 to December 1998.
"""

import os

import numpy as np

from experiments.data import files
from experiments.data.dataset import Dataset, Split, parts_in_order

COLUMNS = (
    "date",
    "day",
    "period",
    "nswprice",
    "nswdemand",
    "vicprice",
    "vicdemand",
    "transfer",
)
LABELS = ("DOWN", "UP")
SOURCE = (
    "Elec2 (M. Harries, 1999; OpenML's data set 'electricity', in the order of time, as CSV "
    "without a header)"
)


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads Elec2 in chronological order, from `elec2.csv` or `elec2.csv.gz`.

    Inputs f32[n, 8]: date, day of the week from 1 to 7, half-hour of the day, price and
    demand in New South Wales and in Victoria, and the transfer between them. The source scaled all
    inputs except the day to [0, 1]. Targets i32[n]: 1 if the price is above its mean over the
    last day (UP), 0 if not (DOWN). The source's date steps back five times; day and half-hour
    determine the order. The parts are the first three fifths, the fourth and the last fifth;
    `whole()` is the stream of 45,312 examples.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.

    Raises:
      DataError: the file is missing or invalid; the message names the line of an invalid row.
    """
    file = files.find(data_dir, "elec2.csv", SOURCE)
    inputs, labels = [], []
    for line, row in file.rows():
        *numbers, label = (text.strip() for text in row)
        if len(numbers) != len(COLUMNS) or label not in LABELS:
            raise file.error(
                f"line {line} must be {len(COLUMNS)} numbers, then UP or DOWN, got "
                f"{len(row)} fields, the last {label!r}"
            )
        inputs.append([file.number(line, text) for text in numbers])
        labels.append(LABELS.index(label))
    if len(labels) < 10:
        raise file.error(f"must hold at least 10 rows, got {len(labels)}")
    stream = Split(np.array(inputs, np.float32), np.array(labels, np.int32))
    slices = parts_in_order(len(labels), validation=0.2, test=0.2)
    train, validation, test = (Split(stream.inputs[part], stream.targets[part]) for part in slices)
    return Dataset.from_parts("elec2", (train, validation, test), 2, SOURCE)
