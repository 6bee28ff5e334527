"""Settings of the study of plasticity."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from experiments import runner
from experiments.data import files
from experiments.studies.plasticity.methods import METHODS, MethodName

Change = Literal["abrupt", "gradual"]


class Size(NamedTuple):
    """Size of the study: number of tasks, images of each, and networks per method."""

    tasks: int
    images: int
    seeds: int


SIZES = {
    "smoke": Size(tasks=3, images=160, seeds=2),
    "small": Size(tasks=500, images=1_424, seeds=3),
    "full": Size(tasks=500, images=10_000, seeds=3),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of plasticity."""

    may_change: ClassVar = (*runner.Settings.may_change, "methods", "changes", "data_dir")
    least: ClassVar = {**runner.Settings.least, "num_tasks": 0, "images": 0}
    data: Literal["digits", "mnist"] | None = None
    """Images: digits, or mnist from the folder of data files; by default digits, and at scale full
    mnist if the folder is given."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Methods to train with."""
    changes: tuple[Change, ...] = ("abrupt", "gradual")
    """Variants: the permutation changes between tasks, or pixel by pixel during each task."""
    num_tasks: int = 0
    """Number of tasks; 0 for the scale's."""
    images: int = 0
    """Number of images of each task; 0 for the scale's."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""

    batch_size: ClassVar = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is None:  # a resumed run keeps its data
            large = self.scale == "full" and files.has_folder(self.data_dir)
            object.__setattr__(self, "data", "mnist" if large else "digits")
        size = SIZES[self.scale]
        for name, value in (("num_tasks", size.tasks), ("images", size.images)):
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        if self.images < self.batch_size:
            raise ValueError(
                f"--images must be at least {self.batch_size}, a batch, got {self.images}"
            )

    @property
    def num_seeds(self) -> int:
        """Number of networks per method."""
        return SIZES[self.scale].seeds
