"""A series: values that follow one another in time."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Series(NamedTuple):
    """Values that follow one another in time.

    Attributes:
      name: what the series is called.
      values: f32[t, columns].
      columns: the name of each column.
      times: datetime64[D][t], ever later.
      file: the file that the values are from, for messages.
      source: a citation and a license, in one line.
    """

    name: str
    values: np.ndarray
    columns: tuple[str, ...]
    times: np.ndarray
    file: Path
    source: str
