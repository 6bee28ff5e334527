"""Settings of the medical study."""

import dataclasses
from typing import ClassVar, Literal

from experiments import methods
from experiments.data import files

Model = Literal["mlp", "cnn", "resnet"]

STEPS = {
    "breast_cancer": {"smoke": 400, "small": 400, "full": 400},
    "pneumoniamnist": {"smoke": 150, "small": 150, "full": 3_680},
}
"""Steps of a training; smoke runs end after a few of them."""

BATCH_SIZES = {"breast_cancer": 32, "pneumoniamnist": 128}
MODELS: dict[str, tuple[Model, ...]] = {
    "breast_cancer": ("mlp",),
    "pneumoniamnist": ("cnn", "resnet", "mlp"),
}
"""The models of each data set, the default first."""


@dataclasses.dataclass(frozen=True)
class Settings(methods.Settings):
    """Settings of the medical study.

    The data is PneumoniaMNIST if its folder is given, otherwise the breast cancer set that is
    bundled with scikit-learn.
    """

    may_change: ClassVar = methods.Settings.may_change
    data: Literal["breast_cancer", "pneumoniamnist"] | None = None
    """Data set; by default pneumoniamnist if the folder of the data files is given, otherwise
    breast_cancer."""
    model: Model | None = None
    """Model: mlp for breast_cancer; cnn (the default; at scale full, resnet), resnet (ResNet-20) or
    mlp for pneumoniamnist."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is None:  # a resumed run keeps its data
            name = "pneumoniamnist" if files.has_folder(self.data_dir) else "breast_cancer"
            object.__setattr__(self, "data", name)
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
        models = MODELS[self.data_name]
        larger = "resnet" if self.scale == "full" and "resnet" in models else models[0]
        return self.model or larger

    @property
    def steps(self) -> int:
        """Steps of a training."""
        return STEPS[self.data_name][self.scale]
