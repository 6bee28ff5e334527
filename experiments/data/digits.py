"""The handwritten digits that scikit-learn bundles: 1,797 real scans of 8 x 8 pixels.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998; scikit-learn carries the test part.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
      images: f32[n, 64], from 0 to 1.
      labels: i32[n], from 0 to 9.
    """

    images: Any
    labels: Any


class Digits(NamedTuple):
    """Training, validation and test images: 1,078, 359 and 360 of them."""

    train: Split
    validation: Split
    test: Split


def load() -> Digits:
    """The digits in three parts, drawn once and for all, each class in proportion.

    Example:
      >>> [len(part.labels) for part in load()]
      [1078, 359, 360]
    """
    bundled: Any = datasets.load_digits()
    everything = Split((bundled.data / 16).astype(np.float32), bundled.target.astype(np.int32))

    def divide(part: Split, held_out: int) -> tuple[Split, Split]:
        pieces = train_test_split(*part, test_size=held_out, random_state=0, stratify=part.labels)
        return Split(pieces[0], pieces[2]), Split(pieces[1], pieces[3])

    rest, test = divide(everything, 360)
    train, validation = divide(rest, 359)
    return Digits(train, validation, test)
