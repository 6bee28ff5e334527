"""A data set: inputs with targets in three parts, and the scale that models see them in.

A model gets `(inputs - mean) / std` in float32, with the mean and the standard deviation of
the training part alone: what is held out tells a model nothing, not even its scale. Arrays
stay on the host as they were stored (images in bytes), so that a batch costs a quarter of
the memory traffic and is scaled where it is used.
"""

import math
from typing import Any, NamedTuple, Self

import numpy as np


class Split(NamedTuple):
    """Inputs with their targets.

    Attributes:
      inputs: [n, ...] as stored: uint8[n, height, width, channels] images,
        f32[n, features] or f32[n, time, features].
      targets: i32[n] labels from 0, or f32[n, values].
    """

    inputs: Any
    targets: Any


class Dataset(NamedTuple):
    """Three parts that share no example, the same on every machine and for every seed.

    Attributes:
      name: what the data set is called.
      train: what is trained on.
      validation: what choices are made by.
      test: what is reported.
      classes: how many labels there are; 0 for regression.
      mean: f32[features or channels], of the training inputs.
      std: the same for the standard deviation; 1 where a feature is constant.
      target_mean: f32[values], of the training targets; 0 for labels.
      target_std: the same for the standard deviation; 1 for labels.
      source: a citation and a license, in one line.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: np.ndarray
    std: np.ndarray
    target_mean: np.ndarray
    target_std: np.ndarray
    source: str

    @classmethod
    def from_parts(
        cls,
        name: str,
        parts: tuple[Split, Split, Split],
        classes: int,
        source: str,
        *,
        per_feature: bool = True,
    ) -> Self:
        """A data set from its training, validation and test part.

        Args:
          name: what it is called.
          parts: training, validation and test.
          classes: how many labels; 0 for regression.
          source: a citation and a license, in one line.
          per_feature: a mean for each entry of the inputs' last axis, rather than one.
        """
        train = parts[0]
        inputs = train.inputs if per_feature else train.inputs[..., None]
        mean, std = moments(inputs)
        target_mean, target_std = np.zeros(1, np.float32), np.ones(1, np.float32)
        if not classes:
            target_mean, target_std = moments(train.targets)
        return cls(name, *parts, classes, mean, std, target_mean, target_std, source)

    def normalized(self, split: Split) -> Split:
        """What a model gets: inputs, and targets that are no labels, at mean 0 and spread 1.

        It takes NumPy or JAX arrays, a whole part or a batch, and works under `jax.jit`.

        Example:
          >>> from experiments.data import tables
          >>> data = tables.diabetes()
          >>> inputs, targets = data.normalized(data.train)
          >>> inputs.shape, str(inputs.dtype), float(abs(targets.mean()).round(5))
          ((264, 10), 'float32', 0.0)
        """
        inputs = (split.inputs.astype(np.float32) - self.mean) / self.std
        if self.classes:
            return Split(inputs, split.targets)
        return Split(inputs, (split.targets - self.target_mean) / self.target_std)

    def whole(self) -> Split:
        """Training, validation and test part one after another, as one.

        For parts that follow each other in time, this is the stream.
        """
        parts = (self.train, self.validation, self.test)
        return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all axes but the last.

    Returns:
      f32[k] and f32[k] for [..., k]. A feature whose spread is lost in float32 beside its
      mean counts as constant, and has a standard deviation of 1.
    """
    # In blocks: images in bytes would grow eightfold as float64.
    axes = tuple(range(values.ndim - 1))
    count = math.prod(values.shape[:-1])
    blocks = [slice(start, start + 1024) for start in range(0, len(values), 1024)]
    sums = [values[block].sum(axes, dtype=np.float64) for block in blocks]
    mean = np.sum(sums, axis=0) / count
    squares = [((values[block] - mean) ** 2).sum(axes) for block in blocks]
    std = np.sqrt(np.sum(squares, axis=0) / count)
    constant = std <= np.finfo(np.float32).eps * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)


def parts_in_order(count: int, validation: float, test: float) -> tuple[slice, slice, slice]:
    """Training, validation and test part of `count` examples, one after another.

    Args:
      count: how many examples.
      validation: the share of the second part, in [0, 1).
      test: the share of the last part, in [0, 1).

    Raises:
      ValueError: a share is out of range, or they leave nothing to train on.

    Example:
      >>> parts_in_order(10, 0.2, 0.2)
      (slice(0, 6, None), slice(6, 8, None), slice(8, 10, None))
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be in [0, 1), got {share!r}")
    if validation + test >= 1:
        raise ValueError(
            f"validation and test must leave something to train on, got {validation!r} and {test!r}"
        )
    # A whole number of examples must stay whole when the shares' sum is rounded.
    first = math.floor(count * (1 - validation - test) + 1e-6)
    second = math.floor(count * (1 - test) + 1e-6)
    return slice(0, first), slice(first, second), slice(second, count)
