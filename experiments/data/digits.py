"""The handwritten digits that scikit-learn bundles: 1,797 real scans of 8 x 8 pixels.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998; scikit-learn carries the test part.
"""

from typing import Any

import numpy as np
from sklearn import datasets

from experiments.data import tables
from experiments.data.dataset import Dataset, Split

SOURCE = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998; UCI Machine "
    "Learning Repository, CC BY 4.0; bundled with scikit-learn)"
)


def load() -> Dataset:
    """Loads the digits in three fixed random parts, stratified by class.

    Inputs are f32[n, 64] from 0 to 1, row by row; targets i32[n] from 0 to 9. All pixels share one
    mean and one standard deviation, since some are always 0.

    Example:
      >>> data = load()
      >>> [len(part.targets) for part in (data.train, data.validation, data.test)]
      [1078, 359, 360]
      >>> data.train.inputs.shape, data.classes
      ((1078, 64), 10)
    """
    bundled: Any = datasets.load_digits()
    everything = Split((bundled.data / 16).astype(np.float32), bundled.target.astype(np.int32))
    parts = tables.parts_at_random(everything, validation=359, test=360)
    return Dataset.from_parts("digits", parts, 10, SOURCE, per_feature=False)
