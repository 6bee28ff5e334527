"""A time series."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Series(NamedTuple):
    """A time series.

    Attributes:
      name: the series's name.
      values: f32[t, columns].
      columns: the names of the columns.
      times: datetime64[D][t], increasing.
      file: the file of the values, for error messages.
      source: a citation and a license, in one line.
    """

    name: str
    values: np.ndarray
    columns: tuple[str, ...]
    times: np.ndarray
    file: Path
    source: str
