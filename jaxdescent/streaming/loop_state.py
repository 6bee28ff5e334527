"""State, results and settings of an online loop, which its face and its steps share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxdescent.streaming import counts
from jaxdescent.streaming.metrics import Metric
from jaxdescent.streaming.scaler import Scaler


class Skipped(NamedTuple):
    """Numbers of examples with a problem; each counts once, for the first problem found.

    Attributes:
      width: features of another shape.
      features: features that are not finite.
      label: labels that are not finite, or not a class.
      time: time stamps out of order.
    """

    width: counts.Count
    features: counts.Count
    label: counts.Count
    time: counts.Count


class Delayed(NamedTuple):
    """Examples whose labels have not arrived.

    Attributes:
      filled: i32[], number of batches that wait.
      features: f[delay, ...], the latest batch last.
      labels: [delay, ...].
      weights: f[delay, batch_size], 0 for rows to leave out.
      signals: f[delay], what the detector will receive, at index step mod delay.
      step: i32[], number of batches so far, mod delay.
    """

    filled: jax.Array
    features: jax.Array
    labels: jax.Array
    weights: jax.Array
    signals: jax.Array
    step: jax.Array


class LoopState(NamedTuple):
    """State of an online loop.

    Attributes:
      params: the parameters.
      opt_state: state of the optimizer.
      scaler: state of the scaler, or ().
      detector: state of the detector, or ().
      metrics: states of the metrics, by name.
      delayed: examples whose labels have not arrived, or ().
      examples: number of examples that were tested.
      skipped: numbers of examples with a problem.
      rejected: number of updates that were not made because the parameters would not be finite.
      nonfinite: number of examples that were tested with a loss that is not finite.
      alarms: number of alarms of the detector.
      pending: bool[], True if the update that received the last alarm was not made; the next one
        receives it again. () without a detector.
      time: u32[2], the latest time stamp.
    """

    params: Any
    opt_state: Any
    scaler: Any
    detector: Any
    metrics: dict[str, Any]
    delayed: Any
    examples: counts.Count
    skipped: Skipped
    rejected: counts.Count
    nonfinite: counts.Count
    alarms: counts.Count
    pending: Any
    time: jax.Array


class Record(NamedTuple):
    """Results of a chunk of n rows, in the order of the stream.

    Attributes:
      valid: bool[n], True for examples that were tested; False for skipped ones and padding.
      predictions: f[n, ...], before training on the example; NaN where not valid.
      losses: f[n], of the predictions; NaN where not valid.
      drift: bool[n], True where the detector gave an alarm.
      warning: bool[n], True where the detector gave a warning.
      metrics: value of each metric after the chunk, by name.
    """

    valid: jax.Array
    predictions: jax.Array
    losses: jax.Array
    drift: jax.Array
    warning: jax.Array
    metrics: dict[str, jax.Array]


class Settings(NamedTuple):
    """Checked settings of a loop; `delay` is in batches."""

    predict: Callable[..., Any]
    loss: Callable[..., Any]
    optimizer: optax.GradientTransformationExtraArgs
    shape: tuple[int, ...]
    num_classes: int | None
    metrics: dict[str, Metric]
    scaler: Scaler | None
    detector: Any
    signal: Callable[..., Any]
    evaluate_at: Callable[..., Any] | None
    gradient_of: str
    has_activations: bool
    batch_size: int
    delay: int

    @property
    def tests_apart(self) -> bool:
        """True if the prediction and the update use different features or parameters."""
        return self.scaler is not None or self.delay > 0 or self.evaluate_at is not None

    def tested_params(self, opt_state: Any, params: Any) -> Any:
        """Returns the parameters for predictions."""
        return params if self.evaluate_at is None else self.evaluate_at(opt_state, params)

    def over_batch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Maps a function of one example over a batch, unless a batch is one example."""
        return function if self.batch_size == 1 else jax.vmap(function)

    def output(self, params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        """Returns the prediction for one example, and its activations or ()."""
        output = self.predict(params, x)
        return output if self.has_activations else (output, ())

    def outputs(self, params: Any, features: jax.Array) -> tuple[jax.Array, Any]:
        """Returns the predictions for a batch, and their activations or ()."""
        return self.over_batch(lambda x: self.output(params, x))(features)


class Batches(NamedTuple):
    """The batches of a chunk with at least one valid row, moved to the front; b batches.

    Attributes:
      features: f[b, ...] or f[b, batch_size, ...].
      labels: [b, ...] or [b, batch_size, ...].
      valid: bool[b, batch_size].
      order: i32[b], index of the batch in the chunk.
      count: i32[], number of batches; the others are padding.
      problems: i32[4], numbers of rows with a problem.
      time: u32[2], the latest time stamp; None without time stamps.
    """

    features: Any
    labels: Any
    valid: Any
    order: Any
    count: Any
    problems: Any
    time: Any
