"""The streams of the study, a registry. A new task joins by one row.

    x_t, y_{t-1}, ..., y_{t-lag}    the features of every row        y_t    the label

Labels before the first one are 0 as features.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from experiments import data
from experiments.data import river_streams

if TYPE_CHECKING:
    from experiments.studies.streaming.settings import Settings

Stream = river_streams.Stream


class Task(NamedTuple):
    """A stream of the registry.

    Attributes:
      title: a name and a description.
      load: Called as `load(settings)`; returns a `Stream`.
      needs_files: whether the stream is read from the folder of data files.
      published: accuracies of others, by name, with their sources.
    """

    title: str
    load: Callable[["Settings"], Stream]
    needs_files: bool = False
    published: Mapping[str, float] = {}


def _elec2(settings: "Settings") -> Stream:
    whole = cast(data.Dataset, data.load("elec2", settings.data_dir)).whole()
    return Stream(whole.inputs, whole.targets, 2)


def _of_river(name: str) -> Callable[["Settings"], Stream]:
    return lambda _: river_streams.load(name)


GENERATED = 10_000
"""Examples of a generated stream."""


def _generated(name: str) -> Callable[["Settings"], Stream]:
    return lambda settings: river_streams.generate(name, settings.most_examples or GENERATED)


TASKS: dict[str, Task] = {
    "phishing": Task(
        "web sites: 1,250 examples of 9 features",
        _of_river("phishing"),
        published={"river, logistic regression": 0.8928},
    ),
    "bananas": Task(
        "points in the plane: 5,300 examples of 2 features",
        _of_river("bananas"),
        published={"river, logistic regression, SGD(.005)": 0.5432},
    ),
    "sea": Task(
        f"SEA, four limits in turn: {GENERATED:,} examples of 3 features", _generated("sea")
    ),
    "agrawal": Task(
        f"loans, four rules in turn: {GENERATED:,} examples of 9 features", _generated("agrawal")
    ),
    "hyperplane": Task(
        f"a hyperplane that turns: {GENERATED:,} examples of 10 features",
        _generated("hyperplane"),
    ),
    "elec2": Task(
        "electricity prices: 45,312 examples of 8 features",
        _elec2,
        needs_files=True,
        published={"river, ALMA": 0.9064},
    ),
}


def load(settings: "Settings", name: str) -> Stream:
    """Loads a stream, with the previous labels that the settings ask for among the features.

    Raises:
      DataError: a file is missing or invalid.
      MissingPackageError: river is not installed.
    """
    stream = TASKS[name].load(settings)
    stream = stream._replace(
        features=with_lagged_labels(stream.features, stream.labels, settings.label_lag)
    )
    most = settings.most_examples
    return stream._replace(features=stream.features[:most], labels=stream.labels[:most])


def with_lagged_labels(features: Any, labels: Any, lag: int) -> np.ndarray:
    """Returns features with the labels of the previous `lag` examples, the latest first.

    Example:
      >>> with_lagged_labels(np.zeros((3, 1)), np.array([1, 0, 1]), 2).tolist()
      [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    shifted = [np.concatenate([np.zeros(k), labels])[: len(labels)] for k in range(1, lag + 1)]
    return np.column_stack([features, *shifted]).astype(np.float32)
