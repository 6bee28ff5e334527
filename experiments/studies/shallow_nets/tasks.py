"""Twenty small classification and regression tasks.

The data sets bundled with scikit-learn are split into three fifths for training, one fifth for
validation and one fifth for testing. The generated ones have 1,000 training, 2,000 validation
and 2,000 test examples. Splits and generated data never change.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets

EXAMPLES = 5_000  # of each generated data set
TRAINING_EXAMPLES = 1_000
SEED = 2025  # of the generated data and of the splits

Arrays = Mapping[str, np.ndarray]


class TabularTask(NamedTuple):
    """A task with its data.

    Attributes:
      name: the name in tables.
      classes: the number of classes; 0 for regression.
      train, validation, test: "x", f32[n, features], and "y", i32[n] labels or f32[n, outputs]
        targets. Features and targets are standardized by the training examples.
    """

    name: str
    classes: int
    train: Arrays
    validation: Arrays
    test: Arrays

    @property
    def outputs(self) -> int:
        """The number of outputs of a network."""
        return self.classes or self.train["y"].shape[1]


CLASSIFICATION: Mapping[str, Callable[[], Any]] = {
    "iris": partial(datasets.load_iris, return_X_y=True),
    "wine": partial(datasets.load_wine, return_X_y=True),
    "breast cancer": partial(datasets.load_breast_cancer, return_X_y=True),
    "digits": partial(datasets.load_digits, return_X_y=True),
    "moons": partial(datasets.make_moons, EXAMPLES, noise=0.25, random_state=SEED),
    "circles": partial(datasets.make_circles, EXAMPLES, noise=0.15, factor=0.5, random_state=SEED),
    "blobs": partial(
        datasets.make_blobs, EXAMPLES, n_features=4, centers=6, cluster_std=3.0, random_state=SEED
    ),
    "shells": partial(
        datasets.make_gaussian_quantiles,
        n_samples=EXAMPLES,
        n_features=5,
        n_classes=3,
        random_state=SEED,
    ),
    "Hastie": partial(datasets.make_hastie_10_2, EXAMPLES, random_state=SEED),
    "clusters": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=20,
        n_informative=8,
        n_clusters_per_class=4,
        random_state=SEED,
    ),
    "clusters of 4": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=10,
        n_informative=6,
        n_classes=4,
        random_state=SEED,
    ),
    "rare class": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=12,
        n_informative=5,
        weights=(0.9,),
        flip_y=0.02,
        random_state=SEED,
    ),
}

REGRESSION: Mapping[str, Callable[[], Any]] = {
    "diabetes": partial(datasets.load_diabetes, return_X_y=True),
    "Linnerud": partial(datasets.load_linnerud, return_X_y=True),
    "Friedman 1": partial(datasets.make_friedman1, EXAMPLES, noise=1.0, random_state=SEED),
    "Friedman 2": partial(datasets.make_friedman2, EXAMPLES, noise=50.0, random_state=SEED),
    "Friedman 3": partial(datasets.make_friedman3, EXAMPLES, noise=0.1, random_state=SEED),
    "sparse": partial(datasets.make_sparse_uncorrelated, EXAMPLES, random_state=SEED),
    "S curve": partial(datasets.make_s_curve, EXAMPLES, noise=0.1, random_state=SEED),
    "Swiss roll": partial(datasets.make_swiss_roll, EXAMPLES, noise=0.5, random_state=SEED),
}

TASK_NAMES = (*CLASSIFICATION, *REGRESSION)


def load_task(name: str) -> TabularTask:
    """Loads a task by its name.

    Example:
      >>> iris = load_task("iris")
      >>> iris.classes, [len(part["y"]) for part in (iris.train, iris.validation, iris.test)]
      (3, [90, 30, 30])
    """
    is_classification = name in CLASSIFICATION
    x, y = (CLASSIFICATION if is_classification else REGRESSION)[name]()
    order = np.random.default_rng(SEED).permutation(len(x))
    end = TRAINING_EXAMPLES if len(x) == EXAMPLES else 3 * len(x) // 5
    parts = np.split(order, [end, (end + len(x)) // 2])
    classes = 0
    if is_classification:
        labels, y = np.unique(y, return_inverse=True)
        classes, y = len(labels), y.astype(np.int32)
    else:
        y = standardize(y.reshape(len(x), -1), parts[0])
    x = standardize(x, parts[0])
    train, validation, test = ({"x": x[part], "y": y[part]} for part in parts)
    return TabularTask(name, classes, train, validation, test)


def standardize(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scales each column to mean 0 and deviation 1 on some rows; constant columns become 0."""
    mean, deviation = x[rows].mean(0), x[rows].std(0)
    scaled = (x - mean) / np.where(deviation > 0, deviation, 1.0)
    return np.where(deviation > 0, scaled, 0.0).astype(np.float32)
