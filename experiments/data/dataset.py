"""A data set: inputs and targets in three parts, and their normalization.

A model gets `(inputs - mean) / std` in float32. Mean and standard deviation are computed on the
training part only, so that validation and test data do not affect the model. Arrays stay on the
host as stored (images as bytes) and are normalized on the device, which needs a quarter of the
memory traffic.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from experiments.data.csv_table import Columns


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
    """A data set in three disjoint parts, which are the same on every machine and for every seed.

    Attributes:
      name: the data set's name.
      train: the training part.
      validation: the validation part, for choosing hyperparameters.
      test: the test part, for reported results.
      classes: the number of classes; 0 for regression.
      mean: f32[features or channels], mean of the training inputs.
      std: f32[features or channels], standard deviation of the training inputs; 1 for a constant
        feature.
      target_mean: f32[values], mean of the training targets; 0 for labels.
      target_std: f32[values], standard deviation of the training targets; 1 for labels.
      source: a citation and a license, in one line.
      labels: names of the classes; () if they are only numbered, or for regression.
      columns: the input columns of a user's table; `None` for other data sets.
      advice: sentences about what should be changed in a user's table or in its use.
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
    labels: tuple[str, ...] = ()
    columns: "Columns | None" = None
    advice: tuple[str, ...] = ()

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
        """Creates a data set from its training, validation and test part.

        Args:
          name: the data set's name.
          parts: the training, validation and test part.
          classes: the number of classes; 0 for regression.
          source: a citation and a license, in one line.
          per_feature: whether to normalize each entry of the inputs' last axis separately.
        """
        train = parts[0]
        inputs = train.inputs if per_feature else train.inputs[..., None]
        mean, std = moments(inputs)
        target_mean, target_std = np.zeros(1, np.float32), np.ones(1, np.float32)
        if not classes:
            target_mean, target_std = moments(train.targets)
        return cls(name, *parts, classes, mean, std, target_mean, target_std, source)

    def normalized(self, split: Split) -> Split:
        """Normalizes inputs and regression targets to mean 0 and standard deviation 1.

        Accepts NumPy or JAX arrays of a whole part or a batch, and can be compiled by `jax.jit`.

        Example:
          >>> from experiments.data import tables
          >>> data = tables.diabetes()
          >>> inputs, targets = data.normalized(data.train)
          >>> inputs.shape, str(inputs.dtype), float(abs(targets.mean()).round(5))
          ((264, 10), 'float32', 0.0)
        """
        inputs = self.normalized_inputs(split.inputs)
        if self.classes:
            return Split(inputs, split.targets)
        return Split(inputs, (split.targets - self.target_mean) / self.target_std)

    def normalized_inputs(self, inputs: Any) -> Any:
        """Normalizes inputs to mean 0 and standard deviation 1."""
        return (inputs.astype(np.float32) - self.mean) / self.std

    def whole(self) -> Split:
        """Concatenates the training, validation and test part.

        For consecutive parts of a stream, this is the stream.
        """
        parts = (self.train, self.validation, self.test)
        return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes mean and standard deviation over all axes except the last.

    Returns:
      f32[k] and f32[k] for [..., k]. A feature is constant, with standard deviation 1, if its
      spread is below the float32 resolution of its mean.
    """
    mean, std = _moments(values)
    constant = std <= np.finfo(np.float32).eps * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)


def unresolved(values: np.ndarray) -> np.ndarray:
    """Returns which features float32 would round away, bool[k] for [..., k].

    These are not constant, but float32 has less than 100 numbers in a standard deviation. Near a
    number v they are at most eps |v| apart, with eps = 2^-23.
    """
    axes = tuple(range(values.ndim - 1))
    low, high = values.min(axes), values.max(axes)
    largest = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    std = _moments(values)[1]
    return (low != high) & (std < 100 * np.finfo(np.float32).eps * largest)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes mean and standard deviation over all axes except the last, in float64."""
    # Works in blocks, as bytes need eight times the memory in float64.
    axes = tuple(range(values.ndim - 1))
    count = math.prod(values.shape[:-1])
    blocks = [slice(start, start + 1024) for start in range(0, len(values), 1024)]
    sums = [values[block].sum(axes, dtype=np.float64) for block in blocks]
    mean = np.sum(sums, axis=0) / count
    squares = [((values[block] - mean) ** 2).sum(axes) for block in blocks]
    return mean, np.sqrt(np.sum(squares, axis=0) / count)


def parts_in_order(count: int, validation: float, test: float) -> tuple[slice, slice, slice]:
    """Returns the slices of consecutive training, validation and test parts.

    Args:
      count: the number of examples.
      validation: the share of the second part, in [0, 1).
      test: the share of the last part, in [0, 1).

    Raises:
      ValueError: a share is out of range, or no training examples would remain.

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
    # The offset corrects rounding errors of the shares, if a product is an integer.
    first = math.floor(count * (1 - validation - test) + 1e-6)
    second = math.floor(count * (1 - test) + 1e-6)
    return slice(0, first), slice(first, second), slice(second, count)
