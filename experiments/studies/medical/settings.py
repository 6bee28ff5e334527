"""Settings of the medical study."""

import dataclasses
import os
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from experiments import runner
from experiments.data import files

Model = Literal["mlp", "cnn", "resnet"]
EVALUATIONS = 20


class Length(NamedTuple):
    """Length of a training.

    Attributes:
      steps: optimizer steps, a multiple of the number of evaluations.
      evaluations: the number of evaluations on the validation part.
    """

    steps: int
    evaluations: int = EVALUATIONS

    @property
    def every(self) -> int:
        """The number of steps between two evaluations."""
        return self.steps // self.evaluations


LENGTHS = {
    "breast_cancer": {"smoke": Length(40, 4), "small": Length(2_000), "full": Length(2_000)},
    "pneumoniamnist": {"smoke": Length(6, 2), "small": Length(740), "full": Length(3_680)},
}
"""Full trainings on PneumoniaMNIST have the published length: 100 epochs of batches of 128."""

BATCH_SIZES = {"breast_cancer": 32, "pneumoniamnist": 128}
MODELS: dict[str, tuple[Model, ...]] = {
    "breast_cancer": ("mlp",),
    "pneumoniamnist": ("cnn", "resnet", "mlp"),
}
"""The models of each data set, the default first."""


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the medical study.

    The data is PneumoniaMNIST if its folder is given, otherwise the breast cancer set that is
    bundled with scikit-learn.
    """

    may_change: ClassVar = (*runner.Settings.may_change, "data_dir")
    data: Literal["breast_cancer", "pneumoniamnist"] | None = None
    """Data set; by default pneumoniamnist if the folder of the data files is given, otherwise
    breast_cancer."""
    data_dir: Path | None = None
    """Folder of pneumoniamnist.npz; by default the environment variable JAXDESCENT_DATA."""
    model: Model | None = None
    """Model: mlp for breast_cancer; cnn (the default), resnet (ResNet-20) or mlp for
    pneumoniamnist."""

    def __post_init__(self) -> None:
        super().__post_init__()
        has_folder = self.data_dir is not None or bool(os.environ.get(files.VARIABLE))
        if self.data is None:  # a resumed run keeps its data
            object.__setattr__(self, "data", "pneumoniamnist" if has_folder else "breast_cancer")
        models = MODELS[self.data_name]
        if self.model is not None and self.model not in models:
            raise ValueError(
                f"--model must be {' or '.join(models)} with {self.data}, got {self.model}"
            )

    @property
    def data_name(self) -> str:
        """The name of the data set."""
        return str(self.data)

    @property
    def model_name(self) -> Model:
        """The name of the model."""
        return self.model or MODELS[self.data_name][0]

    @property
    def length(self) -> Length:
        """The length of a training."""
        return LENGTHS[self.data_name][self.scale]
