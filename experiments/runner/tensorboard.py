"""Metrics for TensorBoard, written by tensorboardX, which does not need TensorFlow.

Steps that a resumed run repeats appear twice, with the same values.
"""

from pathlib import Path
from typing import Any

import numpy as np


class TensorBoard:
    """Writes the numbers of each record as scalars named `series/metric`, at its step.

    A metric of several seeds is written as its mean.

    Args:
      folder: of the event files.

    Raises:
      ValueError: tensorboardX is missing.
    """

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, record: dict[str, Any]) -> None:
        """Writes one record."""
        series, step = record.get("series", ""), record.get("step", 0)
        for name, value in record.items():
            if name in ("series", "step") or isinstance(value, (str, dict)) or value is None:
                continue
            numbers = np.asarray(value, float)  # null, which stands for non-finite, becomes nan
            self._writer.add_scalar(f"{series}/{name}", numbers.mean(), step)

    def close(self) -> None:
        """Writes the remaining scalars and closes the file."""
        self._writer.close()
