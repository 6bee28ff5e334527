"""Prequential metrics: each example is scored by the prediction before training on it.

    running   sum_i v_i / n                                of all examples
    window    the same over the last `window` examples
    fading    S <- v + a S,  N <- 1 + a N,  S / N          a = `fading`, in (0, 1)

v is 1 for a hit, the loss, or a true positive, false positive or false negative. Running counts are
integers, exact for 2^64 examples; the sum of losses is kept with its rounding error, to twice the
precision. A window's sum is taken anew when it is read, so that it does not drift.

A loss that is not finite is left out of the mean of losses; `LoopState.nonfinite` counts them, and
`LoopState.rejected` the updates on them that were not made. A prediction that is not finite is a
wrong one.

Source: J. Gama, R. Sebastiao, P. P. Rodrigues, "On evaluating stream learning algorithms", Machine
Learning 90 (2013).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.streaming import counts
from jaxdescent.streaming.detectors import compensated


class Outcomes(NamedTuple):
    """The scored examples of a chunk, in the order of the stream.

    Attributes:
      predictions: f[n, ...], made before training on the example.
      labels: [n, ...].
      losses: f[n], of the predictions.
      count: i32[], number of examples; the rows from there on are padding.
    """

    predictions: jax.Array
    labels: jax.Array
    losses: jax.Array
    count: jax.Array


class Metric(NamedTuple):
    """A prequential metric.

    Attributes:
      init: Called as `init()`; returns the state.
      update: Called as `update(state, outcomes)` with `Outcomes`; returns the state after them.
      value: Called as `value(state)`; returns f32[], NaN before the first example.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Outcomes], Any]
    value: Callable[[Any], jax.Array]


def accuracy(*, window: int | None = None, fading: float | None = None) -> Metric:
    """Share of examples whose predicted class is the label.

    The predicted class is the largest entry of a vector of logits or probabilities. A number, or a
    vector of one, is a logit, and predicts class 1 where it is positive, else class 0.

    Args:
      window: number of latest examples; all by default.
      fading: the factor by which older examples count less, in (0, 1).

    Raises:
      ValueError: an argument is out of its range, or both are given.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> metric = jd.streaming.accuracy()
      >>> outcomes = jd.streaming.Outcomes(
      ...     jnp.array([0.3, -0.1, 2.0]), jnp.array([1, 1, 1]), jnp.zeros(3), jnp.int32(2))
      >>> float(metric.value(metric.update(metric.init(), outcomes)))
      0.5
    """

    def events(outcomes: Outcomes) -> jax.Array:
        return (_predicted_classes(outcomes) == outcomes.labels)[:, None]

    return _metric(events, 1, lambda sums, number: sums[0] / number, window, fading)


def mean_loss(*, window: int | None = None, fading: float | None = None) -> Metric:
    """Mean of the losses, without losses that are not finite.

    Args:
      window: number of latest examples; all by default.
      fading: the factor by which older examples count less, in (0, 1).

    Raises:
      ValueError: an argument is out of its range, or both are given.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> metric = jd.streaming.mean_loss(window=2)
      >>> losses = jnp.array([9.0, 1.0, 2.0])
      >>> outcomes = jd.streaming.Outcomes(losses, losses, losses, jnp.int32(3))
      >>> float(metric.value(metric.update(metric.init(), outcomes)))
      1.5
    """

    def terms(outcomes: Outcomes) -> jax.Array:
        return outcomes.losses.astype(jnp.float32)[:, None]

    return _metric(terms, 1, lambda sums, number: sums[0] / number, window, fading, exact=False)


def f1(
    *, positive_class: int = 1, window: int | None = None, fading: float | None = None
) -> Metric:
    """F1 score of a class: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

    It is 0 while there are examples, but no true positives.

    Args:
      positive_class: the class.
      window: number of latest examples; all by default.
      fading: the factor by which older examples count less, in (0, 1).

    Raises:
      ValueError: an argument is out of its range, or both are given.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> metric = jd.streaming.f1()
      >>> outcomes = jd.streaming.Outcomes(
      ...     jnp.array([1.0, 1.0, -1.0]), jnp.array([1, 0, 0]), jnp.zeros(3), jnp.int32(3))
      >>> round(float(metric.value(metric.update(metric.init(), outcomes))), 4)
      0.6667
    """
    positive = validation.integer_in("positive_class", positive_class, 0)

    def events(outcomes: Outcomes) -> jax.Array:
        predicted = _predicted_classes(outcomes) == positive
        actual = outcomes.labels == positive
        return jnp.stack([predicted & actual, predicted & ~actual, ~predicted & actual], 1)

    def value(sums: jax.Array, number: jax.Array) -> jax.Array:
        doubled, errors = 2 * sums[0], sums[1] + sums[2]
        score = doubled / jnp.where(doubled + errors > 0, doubled + errors, 1)
        return jnp.where(number > 0, score, jnp.nan)

    return _metric(events, 3, value, window, fading)


def _predicted_classes(outcomes: Outcomes) -> jax.Array:
    """Returns i32[n], and -1 for a prediction that is not finite."""
    predictions = outcomes.predictions
    if predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    if predictions.ndim == 1:
        classes, finite = (predictions > 0).astype(jnp.int32), jnp.isfinite(predictions)
    else:
        classes = jnp.argmax(predictions, -1).astype(jnp.int32)
        finite = jnp.all(jnp.isfinite(predictions), -1)
    return jnp.where(finite, classes, -1)


def _metric(
    terms_of: Callable[[Outcomes], jax.Array],
    columns: int,
    value: Callable[[jax.Array, jax.Array], jax.Array],
    window: int | None,
    fading: float | None,
    *,
    exact: bool = True,
) -> Metric:
    """Returns a metric whose value is a function of sums of terms, over all or recent examples.

    Args:
      terms_of: returns bool[n, columns] or f32[n, columns] for outcomes.
      columns: number of terms of an example.
      value: Called as `value(sums, number)` with f32[columns] and the number of examples.
      window: see `accuracy`.
      fading: see `accuracy`.
      exact: whether the terms are bool, to be counted.
    """
    if window is not None and fading is not None:
        raise ValueError(
            f"window must be None with a fading factor, got window={window} and fading={fading}"
        )
    if window is not None:
        sums = _window(validation.integer_in("window", window, 1), columns, exact)
    elif fading is not None:
        sums = _fading(validation.number_between("fading", fading, 0, 1), columns)
    else:
        sums = _counting(columns) if exact else _compensated(columns)

    def update(state: Any, outcomes: Outcomes) -> Any:
        return sums.update(state, terms_of(outcomes), outcomes.count)

    def read(state: Any) -> jax.Array:
        return value(*sums.value(state))

    return Metric(sums.init, update, read)


class _Sums(NamedTuple):
    """Sums of terms over examples.

    Attributes:
      init: Called as `init()`; returns the state.
      update: Called as `update(state, terms, count)`; terms from `count` on are padding.
      value: Called as `value(state)`; returns the sums, f32[columns], and the number of examples.
    """

    init: Callable[[], Any]
    update: Callable[[Any, jax.Array, jax.Array], Any]
    value: Callable[[Any], tuple[jax.Array, jax.Array]]


class RunningCounts(NamedTuple):
    """State of a metric over all examples, from integers.

    Attributes:
      examples: number of examples.
      events: number of events of each kind.
    """

    examples: counts.Count
    events: tuple[counts.Count, ...]


def _counting(columns: int) -> _Sums:
    def init() -> RunningCounts:
        return RunningCounts(counts.zero(), tuple(counts.zero() for _ in range(columns)))

    def update(state: RunningCounts, terms: jax.Array, count: jax.Array) -> RunningCounts:
        present = jnp.arange(len(terms)) < count
        found = jnp.sum(terms & present[:, None], axis=0, dtype=jnp.int32)
        events = [counts.add(old, new) for old, new in zip(state.events, found, strict=True)]
        return RunningCounts(counts.add(state.examples, count), tuple(events))

    def value(state: RunningCounts) -> tuple[jax.Array, jax.Array]:
        sums = jnp.stack([counts.to_float(each) for each in state.events])
        return sums, counts.to_float(state.examples)

    return _Sums(init, update, value)


class RunningSums(NamedTuple):
    """State of a metric over all examples, from real numbers.

    Attributes:
      examples: number of finite terms.
      sums: f32[columns].
      errors: f32[columns], what rounding took away from the sums.
    """

    examples: counts.Count
    sums: jax.Array
    errors: jax.Array


def _compensated(columns: int) -> _Sums:
    """Sums in twice the precision (D. E. Knuth's TwoSum)."""

    def init() -> RunningSums:
        return RunningSums(counts.zero(), jnp.zeros(columns), jnp.zeros(columns))

    def update(state: RunningSums, terms: jax.Array, count: jax.Array) -> RunningSums:
        finite = jnp.all(jnp.isfinite(terms), 1)
        terms = jnp.where(finite[:, None], terms, 0)

        def add(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            sums, errors = carry
            total, error = compensated.two_sum(sums, terms[i])
            return compensated.two_sum(total, errors + error)

        sums, errors = jax.lax.fori_loop(0, count, add, (state.sums, state.errors))
        number = jnp.sum(finite & (jnp.arange(len(terms)) < count), dtype=jnp.int32)
        return RunningSums(counts.add(state.examples, number), sums, errors)

    def value(state: RunningSums) -> tuple[jax.Array, jax.Array]:
        return state.sums + state.errors, counts.to_float(state.examples)

    return _Sums(init, update, value)


class FadingSums(NamedTuple):
    """State of a metric with a fading factor.

    Attributes:
      number: f32[], faded number of examples.
      sums: f32[columns], faded sums.
    """

    number: jax.Array
    sums: jax.Array


def _fading(factor: float, columns: int) -> _Sums:
    def init() -> FadingSums:
        return FadingSums(jnp.zeros(()), jnp.zeros(columns))

    def update(state: FadingSums, terms: jax.Array, count: jax.Array) -> FadingSums:
        terms = terms.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(terms), 1)
        terms = jnp.where(finite[:, None], terms, 0)

        def fade(i: jax.Array, state: FadingSums) -> FadingSums:
            kept = jnp.where(finite[i], factor, 1)
            return FadingSums(finite[i] + kept * state.number, terms[i] + kept * state.sums)

        return jax.lax.fori_loop(0, count, fade, state)

    def value(state: FadingSums) -> tuple[jax.Array, jax.Array]:
        return state.sums, state.number

    return _Sums(init, update, value)


class Window(NamedTuple):
    """State of a metric over the latest examples.

    Attributes:
      filled: i32[], number of examples in it.
      terms: bool[window, columns] or f32[window, columns], the latest example last.
    """

    filled: jax.Array
    terms: jax.Array


def _window(length: int, columns: int, exact: bool) -> _Sums:
    def init() -> Window:
        terms = jnp.zeros((length, columns), bool if exact else jnp.float32)
        return Window(jnp.zeros((), jnp.int32), terms)

    def update(state: Window, terms: jax.Array, count: jax.Array) -> Window:
        joined = jnp.concatenate([state.terms, terms])
        latest = jax.lax.dynamic_slice_in_dim(joined, count, length)
        return Window(jnp.minimum(state.filled + count, length), latest)

    def value(state: Window) -> tuple[jax.Array, jax.Array]:
        present = jnp.arange(length) >= length - state.filled
        if exact:
            sums = jnp.sum(state.terms & present[:, None], axis=0, dtype=jnp.int32)
            return sums.astype(jnp.float32), state.filled.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(state.terms), 1) & present
        sums = jnp.sum(jnp.where(finite[:, None], state.terms, 0), axis=0)
        return sums, jnp.sum(finite, dtype=jnp.float32)

    return _Sums(init, update, value)
