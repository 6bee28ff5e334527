"""Settings of the table, and the data set that they select."""

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from experiments import runner
from experiments.data import Split, digits, files, mnist
from experiments.studies.gdtuo_table.training import ImageTask

EPOCHS = {"smoke": 1, "small": 30, "full": 30}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the table.

    The data is scikit-learn's digits at smoke and MNIST at full. At small it is MNIST if its
    folder is given, otherwise the digits.
    """

    may_change: ClassVar = (*runner.Settings.may_change, "data_dir")
    least: ClassVar = {**runner.Settings.least, "seeds": 2}
    data_dir: Path | None = None
    """Folder of MNIST's files; by default the environment variable JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained in parallel."""


@lru_cache(1)  # called by the check and by the run
def load_task(settings: Settings) -> ImageTask:
    """Loads the data set of the settings.

    Raises:
      DataError: a file is missing.
    """
    has_folder = files.has_folder(settings.data_dir)
    if settings.scale == "full" or (settings.scale == "small" and has_folder):
        data = mnist.load(settings.data_dir)
        scale, hidden, batch_size = 255.0, 128, 256
    else:
        data = digits.load()
        scale, hidden, batch_size = 1.0, 32, 32
    parts = zip(data.train, data.validation, strict=True)
    train = _flatten(Split(*map(np.concatenate, parts)))
    test = _flatten(data.test)
    return ImageTask(data.name, train, test, scale, hidden, batch_size, data.source)


def _flatten(part: Split) -> Split:
    return Split(part.inputs.reshape(len(part.inputs), -1), part.targets)
