"""Settings of the study of streams."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from experiments import runner
from experiments.data import files
from experiments.studies.streaming.learners import DETECTORS, LEARNERS
from experiments.studies.streaming.tasks import TASKS

SEEDS = {"smoke": 1, "small": 3, "full": 10}
"""Seeds of models with random initial parameters."""
MOST_EXAMPLES = {"smoke": 600, "small": None, "full": None}
"""Examples of a stream; None for all."""


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of streams."""

    may_change: ClassVar = (*runner.Settings.may_change, "tasks", "learners", "data_dir")
    least: ClassVar = {**runner.Settings.least, "label_lag": 0}
    tasks: tuple[str, ...] = ()
    """Streams; by default all, but elec2 only with the folder of data files."""
    learners: tuple[str, ...] = ()
    """Learners; all by default."""
    models: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")
    """Models: logistic regression, and a network with one hidden layer."""
    label_lag: int = 1
    """Number of previous labels among the features of every row; 0 for the features alone."""
    detector: str = "adwin"
    """Detector of drift in the errors; its alarms are drawn, and adam_reset acts on them."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment's JAXDESCENT_DATA."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, given, known in (
            ("tasks", self.tasks, TASKS),
            ("learners", self.learners, LEARNERS),
            ("detector", [self.detector] if self.detector else [], DETECTORS),
        ):
            unknown = [each for each in given if each not in known]
            if unknown:
                raise ValueError(f"--{name} must be among {', '.join(known)}, got {unknown[0]}")
        if not self.tasks:  # a resumed run keeps its tasks
            has_folder = files.has_folder(self.data_dir)
            names = [n for n, task in TASKS.items() if has_folder or not task.needs_files]
            object.__setattr__(self, "tasks", tuple(names))

    @property
    def task_names(self) -> Sequence[str]:
        """The names of the tasks, each once."""
        return list(dict.fromkeys(self.tasks))

    @property
    def learner_names(self) -> Sequence[str]:
        """The names of the learners, each once."""
        return list(dict.fromkeys(self.learners or LEARNERS))

    @property
    def most_examples(self) -> int | None:
        """The number of examples of a stream; None for all."""
        return MOST_EXAMPLES[self.scale]

    def seeds_of(self, model: str) -> Sequence[int]:
        """Returns the seeds of a model; a linear model starts from 0 and needs one."""
        count = 1 if model == "linear" else SEEDS[self.scale]
        return range(self.seed, self.seed + count)
