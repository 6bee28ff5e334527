"""Settings of the landscape study."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from experiments import runner
from experiments.runner.run_folder import newest_run

POINTS = {"smoke": 5, "small": 31, "full": 51}
EXAMPLES = {"smoke": 64, "small": 1_000, "full": 5_000}
SUBSPACE = {"smoke": 4, "small": 20, "full": 100}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the landscape study. The saved run may have moved when a run is resumed."""

    may_change: ClassVar = (*runner.Settings.may_change, "saved", "data_dir")
    least: ClassVar = {**runner.Settings.least, "points": 2, "examples": 1}
    saved: tyro.conf.Positional[Path] = Path("last")
    """Folder of a run of train, or last for the newest run under --runs."""
    points: int | None = None
    """Points along each side of a plane; by default 5, 31 or 51, depending on the scale."""
    examples: int | None = None
    """Training examples in each loss; by default at most 64, 1,000 or 5,000."""
    statistics: Literal["batch", "running"] = "batch"
    """Batch normalization: batch recomputes it at each point, running uses the last averages."""
    data_dir: Path | None = None
    """Folder of the data files; by default the folder that the run used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.saved == Path("last"):
            object.__setattr__(self, "saved", newest_run(self.runs, "train"))
