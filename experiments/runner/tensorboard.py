"""The metrics for TensorBoard, by tensorboardX, which needs no TensorFlow.

What a resumed run logs again is there twice, with the same values at the same steps.
"""

from pathlib import Path
from typing import Any

import numpy as np


class TensorBoard:
    """Writes each record's numbers as scalars named `line/metric`, at its step.

    A metric of several seeds is written as its mean.

    Args:
      folder: for the event files.

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
        line, step = record.get("line", ""), record.get("step", 0)
        for name, value in record.items():
            if name in ("line", "step") or isinstance(value, (str, dict)) or value is None:
                continue
            numbers = np.asarray(value, float)  # null, which stands for not finite, becomes nan
            self._writer.add_scalar(f"{line}/{name}", numbers.mean(), step)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
