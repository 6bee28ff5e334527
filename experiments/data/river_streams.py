"""The streams that the package river bundles, as arrays.

Phishing: 1,250 web sites with nine features, and whether they are phishing sites. Bananas: 5,300
points in the plane, of two classes that no line separates.

Sources: R. Mohammad, F. Thabtah, L. McCluskey, UCI "Website Phishing", 2014; the "banana" set of
G. Raetsch's benchmark, as on OpenML; both as distributed with river (J. Montiel et al. 2021).
"""

from typing import NamedTuple

import numpy as np

from jaxdescent import extras

NAMES = {"phishing": "Phishing", "bananas": "Bananas"}
"""The streams, and the names of their classes in river."""


class Stream(NamedTuple):
    """A stream of labeled examples in chronological order.

    Attributes:
      features: f32[n, features].
      labels: i32[n].
      num_classes: number of classes.
    """

    features: np.ndarray
    labels: np.ndarray
    num_classes: int


def load(name: str) -> Stream:
    """Loads a stream that river bundles.

    Args:
      name: one of `NAMES`.

    Raises:
      MissingPackageError: river is not installed; the message is one line.
    """
    data_sets = extras.require("river.datasets", "river")
    examples = [*getattr(data_sets, NAMES[name])()]
    features = np.array([[*map(float, x.values())] for x, _ in examples], np.float32)
    labels = np.array([int(y) for _, y in examples], np.int32)
    return Stream(features, labels, int(labels.max()) + 1)
