"""The tasks: pneumonia on chest X-rays of 28 x 28 pixels, and malignant breast masses.

The published results on PneumoniaMNIST are of J. Yang et al., "MedMNIST v2", Scientific Data 10,
2023. Accuracies are at a probability of 1/2.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments import tasks
from experiments.studies.medical.settings import Settings

MODELS = {
    "mlp": tasks.ModelConfig("mlp", width=32),
    "cnn": tasks.ModelConfig("cnn"),
    "resnet": tasks.ModelConfig("resnet", depth=20),
}


class Published(NamedTuple):
    """A published result on the test part; `None` where no number is published."""

    method: str
    auc: float | None
    accuracy: float


class Diagnosis(NamedTuple):
    """A classification with two classes, one of which is a disease.

    Attributes:
      task: the task, with unweighted cross entropy.
      name: of the data, in tables.
      title: the disease and the examples in words.
      classes: the names of the two classes, in the order of the labels.
      positive: the number of the disease's class.
      published: published results.
    """

    task: tasks.Task
    name: str
    title: str
    classes: tuple[str, str]
    positive: int
    published: tuple[Published, ...] = ()

    @property
    def disease(self) -> str:
        """The name of the positive class."""
        return self.classes[self.positive]

    @property
    def healthy(self) -> str:
        """The name of the other class."""
        return self.classes[1 - self.positive]

    def labels(self, part: tasks.Part) -> np.ndarray:
        """Returns bool[n], True for the disease."""
        return part.arrays.targets == self.positive


NAMES = {"breast_cancer": "breast cancer", "pneumoniamnist": "PneumoniaMNIST"}
TITLES = {
    "breast_cancer": "malignant breast masses from 30 measurements of their cells",
    "pneumoniamnist": "pneumonia on chest X-rays of 28 x 28 pixels",
}
CLASSES: dict[str, tuple[str, str]] = {
    "breast_cancer": ("malignant", "benign"),
    "pneumoniamnist": ("normal", "pneumonia"),
}
POSITIVE = {"breast_cancer": 0, "pneumoniamnist": 1}
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "breast_cancer": (),
    "pneumoniamnist": (
        Published("ResNet-18, 28 pixels", 0.944, 0.854),
        Published("ResNet-50, 224 pixels", None, 0.884),
        Published("Google AutoML Vision", None, 0.946),
    ),
}


@lru_cache(1)  # called by the check and by the run
def load(settings: Settings) -> Diagnosis:
    """Loads the data and returns the task of the settings.

    Raises:
      DataError: the data is missing or invalid.

    Example:
      >>> found = load(Settings(data="breast_cancer"))
      >>> found.disease, int(found.labels(found.task.test).sum())
      ('malignant', 42)
    """
    name, model = settings.data_name, MODELS[settings.model_name]
    task = tasks.load(name, model, data_dir=settings.data_dir)
    return Diagnosis(
        task, NAMES[name], TITLES[name], CLASSES[name], POSITIVE[name], PUBLISHED[name]
    )
