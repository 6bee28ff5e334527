"""Random data sets of scikit-learn's generators, of any size.

Each function takes the number of examples `n`, a `noise` and a `seed`. The parts are in the order
of generation: three fifths for training, a fifth for validation and a fifth for test.
"""

import math
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import datasets

from experiments.data.dataset import Dataset, Split, parts_in_order


def moons(n: int = 1000, *, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Generates two interleaving half circles.

    Inputs f32[n, 2], targets i32[n], 0 or 1.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of each coordinate.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> data = moons(100)
      >>> data.train.inputs.shape, data.test.targets.shape
      ((60, 2), (20,))
    """
    _check(n, noise, seed)
    drawn = datasets.make_moons(n, noise=noise, random_state=seed)
    return _dataset("moons", drawn, 2)


def circles(n: int = 1000, *, noise: float = 0.05, factor: float = 0.5, seed: int = 0) -> Dataset:
    """Generates a circle inside a circle.

    Inputs f32[n, 2], targets i32[n]: 0 outside, 1 inside.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of each coordinate.
      factor: the inner circle's radius over the outer one's, in [0, 1).
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> circles(100, noise=0.0).train.inputs.shape
      (60, 2)
    """
    _check(n, noise, seed)
    if not 0 <= factor < 1:
        raise ValueError(f"factor must be in [0, 1), got {factor!r}")
    drawn = datasets.make_circles(n, noise=noise, factor=factor, random_state=seed)
    return _dataset("circles", drawn, 2)


def blobs(
    n: int = 1000, *, noise: float = 1.0, features: int = 2, classes: int = 3, seed: int = 0
) -> Dataset:
    """Generates Gaussian clouds around random centers in [-10, 10].

    Inputs f32[n, features], targets i32[n].

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of each cloud.
      features: dimensions, 1 or more.
      classes: clouds, 2 or more.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> blobs(100, features=5).train.inputs.shape
      (60, 5)
    """
    _check(n, noise, seed)
    _at_least("features", features, 1)
    _at_least("classes", classes, 2)
    drawn: Any = datasets.make_blobs(
        n, n_features=features, centers=classes, cluster_std=noise, random_state=seed
    )
    return _dataset("blobs", drawn[:2], classes)


def gaussian_quantiles(
    n: int = 1000, *, noise: float = 1.0, features: int = 2, classes: int = 3, seed: int = 0
) -> Dataset:
    """Generates a Gaussian cloud, divided into nested shells with equally many examples.

    Inputs f32[n, features], targets i32[n], from the inside out.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the cloud.
      features: dimensions, 1 or more.
      classes: shells, in [2, n].
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> gaussian_quantiles(100, classes=4).classes
      4
    """
    _check(n, noise, seed)
    _at_least("features", features, 1)
    _at_least("classes", classes, 2)
    if classes > n:
        raise ValueError(f"classes must be in [2, n], got {classes!r} for n={n!r}")
    drawn = datasets.make_gaussian_quantiles(
        cov=noise**2, n_samples=n, n_features=features, n_classes=classes, random_state=seed
    )
    return _dataset("gaussian_quantiles", drawn, classes)


def classification(
    n: int = 1000, *, noise: float = 0.01, features: int = 20, classes: int = 2, seed: int = 0
) -> Dataset:
    """Generates clouds at corners of a hypercube, with noise features and noisy labels.

    Inputs f32[n, features], targets i32[n]. At least a tenth of the features are informative, and
    enough for one corner per class; the other features are noise.

    Source: I. Guyon, "Design of experiments for the NIPS 2003 variable selection benchmark",
    2003.

    Args:
      n: the number of examples, 10 or more.
      noise: the share of labels that are replaced by random labels, in [0, 1].
      features: dimensions, enough for 2**features corners, one for each class.
      classes: 2 or more.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> classification(100, classes=3).train.inputs.shape
      (60, 20)
    """
    _check(n, noise, seed)
    if noise > 1:
        raise ValueError(f"noise must be in [0, 1], got {noise!r}")
    _at_least("classes", classes, 2)
    needed = math.ceil(math.log2(classes))
    _at_least("features", features, needed)
    drawn: Any = datasets.make_classification(
        n,
        features,
        n_informative=max(needed, features // 10),
        n_redundant=0,
        n_classes=classes,
        n_clusters_per_class=1,
        flip_y=noise,
        random_state=seed,
    )
    return _dataset("classification", drawn, classes)


def friedman1(n: int = 1000, *, noise: float = 1.0, features: int = 10, seed: int = 0) -> Dataset:
    """Generates 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5, with irrelevant features.

    Inputs f32[n, features], uniform on [0, 1]; targets f32[n, 1].

    Source: J. H. Friedman, "Multivariate Adaptive Regression Splines", Annals of Statistics
    19(1), 1991.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of the targets.
      features: 5 or more.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> friedman1(100).train.targets.shape
      (60, 1)
    """
    _check(n, noise, seed)
    _at_least("features", features, 5)
    drawn = datasets.make_friedman1(n, features, noise=noise, random_state=seed)
    return _dataset("friedman1", drawn, 0)


def friedman2(n: int = 1000, *, noise: float = 1.0, seed: int = 0) -> Dataset:
    """Generates the impedance of a circuit, sqrt(x1^2 + (x2 x3 - 1 / (x2 x4))^2).

    Inputs f32[n, 4] (resistance in ohm, frequency in radians per second, inductance in henry,
    capacitance in farad), targets f32[n, 1] in ohm.

    Source: J. H. Friedman, "Multivariate Adaptive Regression Splines", Annals of Statistics
    19(1), 1991.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of the targets.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> friedman2(100).train.inputs.shape
      (60, 4)
    """
    _check(n, noise, seed)
    return _dataset("friedman2", datasets.make_friedman2(n, noise=noise, random_state=seed), 0)


def friedman3(n: int = 1000, *, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Generates the phase of a circuit, arctan((x2 x3 - 1 / (x2 x4)) / x1).

    Inputs f32[n, 4] as for `friedman2`, targets f32[n, 1] in radians.

    Source: J. H. Friedman, "Multivariate Adaptive Regression Splines", Annals of Statistics
    19(1), 1991.

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of the targets.
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> friedman3(100).train.inputs.shape
      (60, 4)
    """
    _check(n, noise, seed)
    return _dataset("friedman3", datasets.make_friedman3(n, noise=noise, random_state=seed), 0)


def regression(
    n: int = 1000,
    *,
    noise: float = 1.0,
    features: int = 20,
    informative: int = 10,
    seed: int = 0,
) -> Dataset:
    """Generates a linear function of some of the features.

    Inputs f32[n, features], standard normal; targets f32[n, 1].

    Args:
      n: the number of examples, 10 or more.
      noise: standard deviation of the noise of the targets.
      features: 1 or more.
      informative: the number of features with an effect, in [1, features].
      seed: the generator's seed, in [0, 2**32 - 1].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> regression(100).train.inputs.shape
      (60, 20)
    """
    _check(n, noise, seed)
    _at_least("features", features, 1)
    _at_least("informative", informative, 1)
    if informative > features:
        raise ValueError(f"informative must be in [1, features], got {informative!r}")
    drawn: Any = datasets.make_regression(
        n, features, n_informative=informative, noise=noise, random_state=seed
    )
    return _dataset("regression", drawn, 0)


def _check(n: int, noise: float, seed: int) -> None:
    _at_least("n", n, 10)
    if isinstance(noise, bool) or not 0 <= noise < math.inf:
        raise ValueError(f"noise must be in [0, inf), got {noise!r}")
    _at_least("seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"seed must be in [0, 2**32 - 1], got {seed!r}")


def _at_least(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be an integer in [{low}, inf), got {value!r}")


def _dataset(name: str, drawn: tuple[np.ndarray, np.ndarray], classes: int) -> Dataset:
    inputs, targets = drawn
    targets = targets.astype(np.int32) if classes else targets.astype(np.float32)[:, None]
    everything = Split(inputs.astype(np.float32), targets)
    slices = parts_in_order(len(inputs), validation=0.2, test=0.2)
    train, validation, test = (
        Split(everything.inputs[part], everything.targets[part]) for part in slices
    )
    source = f"scikit-learn's generator make_{name} (BSD-3-Clause)"
    return Dataset.from_parts(name, (train, validation, test), classes, source)
