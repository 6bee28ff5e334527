"""Settings of the quickstart."""

import dataclasses
import os
from pathlib import Path
from typing import ClassVar

from experiments import runner

_HALF_DECADES = (*(float(f"{m}e{e}") for e in range(-8, 2) for m in (1, 3)), 1e2)
STARTS = {"smoke": (1e-8, 1e-3, 1e2), "small": _HALF_DECADES, "full": _HALF_DECADES}
EPOCHS = {"smoke": 2, "small": 40, "full": 200}
BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the quickstart."""

    may_change: ClassVar = (*runner.Settings.may_change, "populations", "picture")
    least: ClassVar = {**runner.Settings.least, "populations": 1}
    seeds: int = 3
    """Networks trained from each initial learning rate, in parallel."""
    populations: int = 5
    """Populations, each with its own initial parameters and learning rates."""
    picture: Path | None = None
    """Another file for the figure, a .png in a folder that exists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        path = self.picture
        if path and (path.suffix != ".png" or not os.access(path.parent, os.W_OK)):
            raise ValueError(f"--picture must be a .png in a writable folder, got {path}")
