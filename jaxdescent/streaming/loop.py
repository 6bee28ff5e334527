"""The compiled test-then-train loop: predict, score, and only then learn, example by example.

    prediction_t = predict(params, x_t)                      scored against y_t
    params      <- params + update(gradient at (x_t, y_t))

In order: the scaler's statistics before the example transform x_t for the prediction; the
statistics after it, for training. The detector receives the loss of the prediction, and its alarm
goes to the same update as `drift=`. With a label delay of k, the update is on example t - k, whose
label has just arrived, and the detector receives the loss of the prediction that was made then.

A chunk is one compiled program of three loops of few operations: the scaler's statistics, which do
not depend on the parameters; predictions and updates; and the sums of the metrics. Everything else,
such as scaling and losses, is computed for all rows of the chunk at once. XLA for CPUs compiles a
loop that touches less than 1 kB in an iteration into one function, which is several times as fast
as the same operations in one larger loop. Rows that are not valid are left out by the number of
iterations, so that no state is selected.

An update after which the parameters are not finite is not made, and counted. A saved
state continues to the bit in chunks of the same length. Chunks of another length are another
program, whose results agree to rounding.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation
from jaxdescent.numerics import all_finite, widest_float
from jaxdescent.streaming import counts
from jaxdescent.streaming.examples import (
    START,
    Expected,
    check_chunk,
    reactions_to,
    time_from_words,
    time_words,
)
from jaxdescent.streaming.metrics import Metric, Outcomes
from jaxdescent.streaming.scaler import Scaler
from jaxdescent.streaming.sources import PROBLEMS, Chunk, feature_shape


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


class OnlineLoop(NamedTuple):
    """A test-then-train loop as functions.

    Attributes:
      init: Called as `init(params)`; returns the state, with copies of the parameters.
      run: Called as `run(state, chunk)` with a `Chunk` or a tuple `(features, labels)`; returns the
        new state and the record of the chunk. The old state's buffers are reused: it cannot be read
        any more. If `run` raises an error, the old state is as it was. `run` is compiled itself; it
        checks the chunk on the host, so that a chunk cannot be an argument of `jax.jit`. States may
        be: `jax.vmap(lambda state: run(state, chunk))(states)` runs many, such as one per seed.
      values: Called as `values(state)`; returns the value of each metric, by name.
      predict: Called as `predict(state, features)` with the features of one example; returns the
        prediction, without learning.
    """

    init: Callable[[Any], LoopState]
    run: Callable[[LoopState, Any], tuple[LoopState, Record]]
    values: Callable[[LoopState], dict[str, jax.Array]]
    predict: Callable[[LoopState, Any], Any]


def online_loop(
    predict: Callable[[Any, jax.Array], jax.Array],
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    features: int | tuple[int, ...],
    num_classes: int | None = None,
    metrics: Mapping[str, Metric] | None = None,
    scaler: Scaler | None = None,
    detector: Any = None,
    signal: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    evaluate_at: Callable[[Any, Any], Any] | None = None,
    gradient_of: Literal["loss", "prediction"] = "loss",
    batch_size: int = 1,
    label_delay: int = 0,
    invalid: str | Mapping[str, str] = "skip",
) -> OnlineLoop:
    """Returns a loop that tests a model on each example of a stream, and then trains it.

    Args:
      predict: Called as `predict(params, x)` with the features of one example; returns its
        prediction.
      loss: Called as `loss(prediction, y)`; returns a scalar.
      optimizer: a transformation. Its update also receives `value=`, the loss, and what the
        arguments below add. It is the update's duty to use them.
      features: shape of the features of an example, or their number.
      num_classes: number of classes. Labels are then int32, and other labels are invalid. None if
        labels are numbers.
      metrics: prequential metrics by name.
      scaler: a preprocessing step that learns online, such as `standard_scaler()`.
      detector: a drift detector. The optimizer's update receives its alarm as `drift=`, bool[].
      signal: Called as `signal(prediction, y)`; returns the detector's input, a scalar. The loss by
        default. Its mean over a batch is taken.
      evaluate_at: Called as `evaluate_at(opt_state, params)`; returns the parameters for
        predictions, such as `jd.averaged_params` for `jd.self_tuning`. By default the parameters
        that train.
      gradient_of: "loss", or "prediction" for optimizers that take the gradient of the prediction,
        a scalar, and `error=`, minus the derivative of the loss by the prediction.
      batch_size: number of examples that are tested with the same parameters, and trained on with
        their mean loss. A chunk has whole batches; only the last chunk of a stream should be
        padded.
      label_delay: number of valid examples between a prediction and the arrival of its label, a
        multiple of `batch_size`. Metrics do not wait. Labels must be single numbers then.
      invalid: reaction to invalid examples: "skip" counts and skips them, "raise" raises
        `InvalidExampleError` before the state is touched. Or a mapping from "width", "features",
        "label" or "time" to one of the two; for "time" also "count", which counts and uses the
        example. "skip" for the others.

    Returns:
      An `OnlineLoop`. `run` compiles once per length of chunks.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, numpy as np, optax, jaxdescent as jd
      >>> x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
      >>> y = (x[:, 0] > x[:, 1]).astype(np.int32)
      >>> loop = jd.streaming.online_loop(
      ...     lambda w, x: x @ w, optax.sigmoid_binary_cross_entropy, optax.sgd(0.1),
      ...     features=3, num_classes=2, metrics={"accuracy": jd.streaming.accuracy()})
      >>> state = loop.init(jnp.zeros(3))
      >>> for chunk in jd.streaming.chunks((x, y), 256):
      ...     state, record = loop.run(state, chunk)
      >>> int(state.examples), float(record.metrics["accuracy"]) > 0.95
      (1000, True)
    """
    for name, function in (
        ("predict", predict),
        ("loss", loss),
        ("signal", signal or loss),
        ("evaluate_at", evaluate_at or loss),
    ):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {validation.shown(function)}")
    if gradient_of not in ("loss", "prediction"):
        raise ValueError(f"gradient_of must be 'loss' or 'prediction', got {gradient_of!r}")
    batch_size = validation.integer_in("batch_size", batch_size, 1)
    label_delay = validation.integer_in("label_delay", label_delay, 0)
    if gradient_of == "prediction" and batch_size > 1:
        raise ValueError(
            f"batch_size must be 1 with gradient_of='prediction', got {batch_size}; an error "
            "belongs to one example"
        )
    if label_delay % batch_size:
        raise ValueError(
            f"label_delay must be a multiple of batch_size={batch_size}, got {label_delay}"
        )
    metrics = {} if metrics is None else metrics
    if not isinstance(metrics, Mapping):
        raise TypeError(
            "metrics must be a mapping of names to metrics, such as "
            f"{{'accuracy': jd.streaming.accuracy()}}, got {validation.shown(metrics)}"
        )
    for name, value, methods in (
        ("detector", detector, ("init", "update")),
        ("scaler", scaler, ("init", "update", "transform")),
        *((f"metrics[{key!r}]", each, Metric._fields) for key, each in metrics.items()),
    ):
        if value is not None and not all(callable(getattr(value, m, None)) for m in methods):
            raise TypeError(
                f"{name} must have the methods {', '.join(methods)}, got {validation.shown(value)}"
            )
    if num_classes is not None:
        num_classes = validation.integer_in("num_classes", num_classes, 2)
    settings = _Settings(
        predict,
        loss,
        validation.transformation("optimizer", optimizer),
        feature_shape(features),
        num_classes,
        dict(metrics),
        scaler,
        detector,
        signal or loss,
        evaluate_at,
        gradient_of,
        batch_size,
        label_delay // batch_size,
    )
    return _loop_of(settings, reactions_to(invalid))


class _Settings(NamedTuple):
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

    def predictions(self, params: Any, features: jax.Array) -> jax.Array:
        """Returns the predictions for a batch."""
        return self.over_batch(lambda x: self.predict(params, x))(features)


class _Batches(NamedTuple):
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


def _loop_of(settings: _Settings, reactions: Mapping[str, str]) -> OnlineLoop:
    advance = jax.jit(lambda state, batches: _advance(settings, state, batches), donate_argnums=0)
    read = jax.jit(lambda states: _values(settings, states))

    def predict(state: LoopState, features: Any) -> Any:
        x = jnp.asarray(features, widest_float(state.params))
        if settings.scaler is not None:
            x = settings.scaler.transform(state.scaler, x)
        return settings.predict(settings.tested_params(state.opt_state, state.params), x)

    def run(state: LoopState, chunk: Any) -> tuple[LoopState, Record]:
        _check_state(state)
        dtype = np.dtype(widest_float(state.params))
        single = settings.num_classes is not None or settings.delay > 0
        expected = Expected(settings.shape, dtype, settings.num_classes, single, reactions)
        return advance(state, _checked_batches(settings, expected, state, chunk))

    return OnlineLoop(
        init=lambda params: _init(settings, params),
        run=run,
        values=lambda state: read(state.metrics),
        predict=predict,
    )


def _check_state(state: Any) -> None:
    if not isinstance(state, LoopState):
        raise TypeError(f"state must be a LoopState, got {validation.shown(state)}")
    if validation.is_concrete(state.time) and getattr(state.time, "is_deleted", bool)():
        raise ValueError(
            "state must be the latest one, whose buffers exist; run(state, chunk) has used this "
            "one before. Copy a state to keep it: jax.tree.map(jnp.copy, state)"
        )


def _init(settings: _Settings, params: Any) -> LoopState:
    validation.check_floating("params", params)
    dtype = widest_float(params)
    params = validation.arrays("params", params)
    x = jnp.zeros(settings.shape, dtype)
    label_dtype = dtype if settings.num_classes is None else jnp.int32
    with validation.tracing("predict"):
        prediction = jax.eval_shape(settings.predict, params, x)
    if settings.gradient_of == "prediction":
        validation.check_scalar("predict, with gradient_of='prediction',", prediction)
    label = jax.ShapeDtypeStruct((), label_dtype)
    if settings.num_classes is not None:  # other labels may be arrays, whose shape is not known
        for name, function in (("loss", settings.loss), ("signal", settings.signal)):
            with validation.tracing(name):
                output = jax.eval_shape(function, prediction, label)
            if name == "loss" or output.shape:  # a signal may be a bool
                validation.check_scalar(name, output)
    delayed: Any = ()
    if settings.delay:
        shape = (settings.delay, settings.batch_size)
        delayed = Delayed(
            jnp.zeros((), jnp.int32),
            jnp.zeros(_without_batch_axis(settings, shape) + settings.shape, dtype),
            jnp.zeros(_without_batch_axis(settings, shape), label_dtype),
            jnp.zeros(shape, bool),
            jnp.zeros(settings.delay if settings.detector is not None else 0, dtype),
            jnp.zeros((), jnp.int32),
        )
    state = LoopState(
        params,
        settings.optimizer.init(params),
        () if settings.scaler is None else settings.scaler.init(x),
        () if settings.detector is None else settings.detector.init(),
        {name: metric.init() for name, metric in settings.metrics.items()},
        delayed,
        counts.zero(),
        Skipped(*(counts.zero() for _ in PROBLEMS)),
        counts.zero(),
        counts.zero(),
        () if settings.detector is None else jnp.zeros((), bool),
        jnp.asarray(time_words(START)),
    )
    # A buffer can be donated once, and the caller keeps their buffers. A weak type would compile
    # a second program.
    return jax.tree.map(jnp.copy, validation.arrays("the initial state", state))


def _without_batch_axis(settings: _Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] if settings.batch_size == 1 else shape


def _checked_batches(
    settings: _Settings, expected: Expected, state: LoopState, chunk: Any
) -> _Batches:
    """Checks a chunk on the host, and moves its batches with valid rows to the front."""
    if not isinstance(chunk, Chunk):
        if not isinstance(chunk, tuple) or not 2 <= len(chunk) <= len(Chunk._fields):
            raise TypeError(
                "chunk must be a Chunk or a tuple (features, labels), got "
                f"{validation.shown(chunk)}"
            )
        chunk = Chunk(*chunk)
    size = settings.batch_size
    time = START if chunk.times is None else time_from_words(state.time)
    checked = check_chunk(chunk, expected, time, lambda: _position(state, expected))
    if len(checked.valid) % size:
        raise ValueError(
            f"chunk must have a multiple of batch_size={size} rows, got {len(checked.valid)}; "
            "choose the length in chunks(source, length) so"
        )
    valid = checked.valid.reshape(-1, size)
    kept = np.flatnonzero(valid.any(1))
    count = len(kept)
    order = np.zeros(len(valid), np.int32)
    order[:count] = kept
    features, labels = checked.features, checked.labels
    if size > 1:
        features = features.reshape(-1, size, *features.shape[1:])
        labels = labels.reshape(-1, size, *labels.shape[1:])
    if 0 < count < len(valid) and kept[-1] >= count:  # gaps
        features, labels = features[order], labels[order]
    words = None if chunk.times is None else time_words(checked.time)
    present = np.arange(len(valid))[:, None] < count
    return _Batches(
        features, labels, valid[order] & present, order, np.int32(count), checked.problems, words
    )


def _position(state: LoopState, expected: Expected) -> int:
    """Returns the number of rows of the stream so far."""
    left_out = [n for n in PROBLEMS if expected.reactions[n] != "count"]
    return int(state.examples) + sum(int(getattr(state.skipped, name)) for name in left_out)


def _advance(settings: _Settings, state: LoopState, batches: _Batches) -> tuple[LoopState, Record]:
    """Tests and trains on the batches of a chunk."""
    scaler, before, after = _scaler_statistics(settings, state.scaler, batches)
    delayed, training = _delayed(settings, state.delayed, batches)
    carry, predictions, drift, warning = _descend(
        settings,
        state,
        batches,
        _scaled(settings, before, batches.features),
        training._replace(features=_scaled(settings, after, training.features)),
    )
    if settings.delay:
        delayed = delayed._replace(signals=carry.signals, step=carry.step)
    losses = jax.vmap(settings.over_batch(settings.loss))(predictions, batches.labels)
    examples = jnp.sum(batches.valid, dtype=jnp.int32)
    outcomes = _outcomes(settings, batches, predictions, losses, examples)
    metrics = {
        name: metric.update(state.metrics[name], outcomes)
        for name, metric in settings.metrics.items()
    }
    new = LoopState(
        carry.params,
        carry.opt_state,
        scaler,
        carry.detector,
        metrics,
        delayed,
        counts.add(state.examples, examples),
        Skipped(*map(counts.add, state.skipped, batches.problems)),
        counts.add(state.rejected, carry.rejected),
        counts.add(state.alarms, jnp.sum(drift, dtype=jnp.int32)),
        carry.pending,
        state.time if batches.time is None else batches.time,
    )
    return new, _record(settings, batches, predictions, losses, drift, warning, metrics)


def _for_each(
    count: jax.Array, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, rows: Any
) -> tuple[Any, Any]:
    """Like `jax.lax.scan` over the first `count` rows; the other outputs are 0."""
    length = len(jax.tree.leaves(rows)[0])

    def row_of(i: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), rows)

    outputs = jax.eval_shape(step, carry, row_of(0))[1]
    outputs = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), outputs)

    def body(i: jax.Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, outputs = state
        carry, new = step(carry, row_of(i))
        outputs = jax.tree.map(
            lambda all_rows, row: jax.lax.dynamic_update_index_in_dim(all_rows, row, i, 0),
            outputs,
            new,
        )
        return carry, outputs

    return jax.lax.fori_loop(0, count, body, (carry, outputs))


def _scaler_statistics(settings: _Settings, state: Any, batches: _Batches) -> tuple[Any, Any, Any]:
    """Returns the scaler's state after the chunk, and before and after each batch, [b, ...]."""
    scaler = settings.scaler
    if scaler is None:
        return (), (), ()

    def learn(state: Any, x: jax.Array) -> tuple[Any, Any]:
        state = scaler.update(state, x)
        return state, state

    rows, number = _valid_rows(settings, batches, batches.features)
    last, after_row = _for_each(number, learn, state, rows)
    after_row = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x]), state, after_row)
    learned = jnp.cumsum(jnp.sum(batches.valid, axis=1, dtype=jnp.int32))
    earlier = jnp.concatenate([jnp.zeros(1, jnp.int32), learned[:-1]])
    if settings.batch_size == 1:
        before = jax.tree.map(lambda x: x[:-1], after_row)
        after = jax.tree.map(lambda x: x[1:], after_row)
    else:
        before = jax.tree.map(lambda x: x[earlier], after_row)
        after = jax.tree.map(lambda x: x[learned], after_row)
    return last, before, after


def _valid_rows(
    settings: _Settings, batches: _Batches, of_batches: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the valid rows, moved to the front, and their number."""
    if settings.batch_size == 1:
        return of_batches, batches.count
    valid = batches.valid.reshape(-1)
    order = jnp.nonzero(valid, size=len(valid), fill_value=0)[0]
    rows = of_batches.reshape(-1, *of_batches.shape[2:])
    return rows[order], jnp.sum(valid, dtype=jnp.int32)


def _scaled(settings: _Settings, statistics: Any, features: jax.Array) -> jax.Array:
    if settings.scaler is None:
        return features
    return jax.vmap(settings.scaler.transform)(statistics, features)


class _Training(NamedTuple):
    """The batches to train on at each step.

    Attributes:
      features: f[b, ...].
      labels: [b, ...].
      weights: bool[b, batch_size], or () without need.
      is_known: bool[b], False while no label has arrived; or ().
    """

    features: jax.Array
    labels: jax.Array
    weights: Any
    is_known: Any


def _delayed(settings: _Settings, old: Any, batches: _Batches) -> tuple[Any, _Training]:
    """Returns the examples that wait after the chunk, and the batches to train on."""
    size, delay = len(batches.valid), settings.delay
    if not delay:
        known = jnp.ones(size, bool)
        return (), _Training(batches.features, batches.labels, batches.valid, known)

    def joined(waiting: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        both = jnp.concatenate([waiting, new])
        return both[:size], jax.lax.dynamic_slice_in_dim(both, batches.count, delay)

    features, waiting_features = joined(old.features, batches.features)
    labels, waiting_labels = joined(old.labels, batches.labels)
    weights, waiting_weights = joined(old.weights, batches.valid)
    known = jnp.arange(size) + old.filled >= delay
    filled = jnp.minimum(old.filled + batches.count, delay)
    waiting = old._replace(
        filled=filled, features=waiting_features, labels=waiting_labels, weights=waiting_weights
    )
    return waiting, _Training(features, labels, weights, known)


class _Carry(NamedTuple):
    """All that a step changes. `rejected` counts in this chunk."""

    params: Any
    opt_state: Any
    detector: Any
    signals: Any
    step: Any
    pending: Any
    rejected: jax.Array


class _Row(NamedTuple):
    """All that a step reads; parts that the settings do not need are ()."""

    tested: Any
    training: _Training
    labels: Any
    valid: Any


def _descend(
    settings: _Settings,
    state: LoopState,
    batches: _Batches,
    tested: jax.Array,
    training: _Training,
) -> tuple[_Carry, jax.Array, jax.Array, jax.Array]:
    """Runs the steps; returns the carry, predictions, alarms and warnings, [b, ...]."""
    rows = _Row((), training, (), ())
    if settings.tests_apart:
        rows = rows._replace(tested=tested)
    if settings.delay and settings.detector is not None:
        rows = rows._replace(labels=batches.labels, valid=batches.valid)
    if not settings.delay:
        rows = rows._replace(training=training._replace(is_known=()))
    if settings.batch_size == 1:
        rows = rows._replace(valid=(), training=rows.training._replace(weights=()))
    carry = _Carry(
        state.params,
        state.opt_state,
        state.detector,
        state.delayed.signals if settings.delay else (),
        state.delayed.step if settings.delay else (),
        state.pending,
        jnp.zeros((), jnp.int32),
    )
    carry, (predictions, drift, warning) = _for_each(
        batches.count, lambda carry, row: _step(settings, carry, row), carry, rows
    )
    if settings.detector is None:
        drift = warning = jnp.zeros(len(batches.valid), bool)
    return carry, predictions, drift, warning


def _step(settings: _Settings, carry: _Carry, row: _Row) -> tuple[_Carry, Any]:
    """Tests one batch, then trains on one batch."""
    training = row.training
    value, predictions, grads, extra = _differentiate(settings, carry.params, training)
    if settings.tests_apart:
        params = settings.tested_params(carry.opt_state, carry.params)
        predictions = settings.predictions(params, row.tested)
    extra["value"] = value
    detector, drift, warning, signals, step = _detect(settings, carry, row, predictions)
    if settings.detector is not None:
        extra["drift"] = drift | carry.pending
    updates, opt_state = settings.optimizer.update(grads, carry.opt_state, carry.params, **extra)
    moved = optax.apply_updates(carry.params, updates)
    accepted = all_finite(moved)  # the sum of finite numbers may overflow
    rejected = ~accepted
    if settings.delay:
        accepted, rejected = accepted & training.is_known, rejected & training.is_known
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(accepted, new, old),
        (moved, opt_state),
        (carry.params, carry.opt_state),
    )
    pending = extra["drift"] & ~accepted if settings.detector is not None else ()
    new = _Carry(params, opt_state, detector, signals, step, pending, carry.rejected + rejected)
    return new, (predictions, drift, warning)


def _differentiate(
    settings: _Settings, params: Any, training: _Training
) -> tuple[jax.Array, jax.Array, Any, dict[str, Any]]:
    """Returns loss, predictions, the gradient that the optimizer takes, and its arguments."""
    if settings.gradient_of == "prediction":
        prediction, grads = jax.value_and_grad(settings.predict)(params, training.features)
        value, slope = jax.value_and_grad(settings.loss)(prediction, training.labels)
        return value, prediction, grads, {"error": -slope}

    def objective(params: Any) -> tuple[jax.Array, jax.Array]:
        predictions = settings.predictions(params, training.features)
        losses = settings.over_batch(settings.loss)(predictions, training.labels)
        return _mean(settings, losses, training.weights), predictions

    (value, predictions), grads = jax.value_and_grad(objective, has_aux=True)(params)
    return value, predictions, grads, {}


def _mean(settings: _Settings, values: jax.Array, valid: Any) -> jax.Array:
    """Returns the mean over the valid rows of a batch."""
    if settings.batch_size == 1:
        return values
    # A product with 0 would keep a NaN of a row to leave out.
    return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)


def _detect(
    settings: _Settings, carry: _Carry, row: _Row, predictions: jax.Array
) -> tuple[Any, Any, Any, Any, Any]:
    """Returns the detector's state, alarm and warning, and the signals that wait for labels."""
    delay = settings.delay
    step = (carry.step + 1) % delay if delay else ()
    if settings.detector is None:
        return (), (), (), carry.signals, step
    labels, valid = row.training.labels, row.training.weights
    if delay:
        labels, valid = row.labels, row.valid
    signals = settings.over_batch(settings.signal)(predictions, labels)
    signal = _mean(settings, signals, valid)
    if not delay:
        detector, detection = settings.detector.update(carry.detector, signal)
        return detector, detection.drift, detection.warning, (), ()
    arrived = jax.lax.dynamic_index_in_dim(carry.signals, carry.step, keepdims=False)
    waiting = jax.lax.dynamic_update_index_in_dim(
        carry.signals, signal.astype(carry.signals.dtype), carry.step, 0
    )
    detector, detection = settings.detector.update(carry.detector, arrived)
    known = row.training.is_known
    detector = jax.tree.map(lambda new, old: jnp.where(known, new, old), detector, carry.detector)
    return detector, detection.drift & known, detection.warning & known, waiting, step


def _outcomes(
    settings: _Settings,
    batches: _Batches,
    predictions: jax.Array,
    losses: jax.Array,
    examples: jax.Array,
) -> Outcomes:
    of_rows = [
        _valid_rows(settings, batches, each)[0] for each in (predictions, batches.labels, losses)
    ]
    return Outcomes(*of_rows, count=examples)


def _record(
    settings: _Settings,
    batches: _Batches,
    predictions: jax.Array,
    losses: jax.Array,
    drift: jax.Array,
    warning: jax.Array,
    metrics: dict[str, Any],
) -> Record:
    """Puts the results of the batches where they are in the chunk."""
    size = len(batches.valid)
    present = jnp.arange(size) < batches.count
    places = jnp.where(present, batches.order, size)

    def place(x: jax.Array, fill: Any) -> jax.Array:
        x = jnp.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, fill)
        return jnp.full_like(x, fill).at[places].set(x, mode="drop")

    valid = place(batches.valid, False).reshape(-1)

    def of_rows(x: jax.Array) -> jax.Array:
        x = place(x, jnp.nan)
        x = x if settings.batch_size == 1 else x.reshape(-1, *x.shape[2:])
        return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan)

    def at_last_row(x: jax.Array) -> jax.Array:
        x = jnp.zeros((size, settings.batch_size), bool).at[:, -1].set(place(x, False))
        return x.reshape(-1)

    return Record(
        valid,
        of_rows(predictions),
        of_rows(losses),
        at_last_row(drift),
        at_last_row(warning),
        _values(settings, metrics),
    )


def _values(settings: _Settings, states: dict[str, Any]) -> dict[str, jax.Array]:
    return {name: metric.value(states[name]) for name, metric in settings.metrics.items()}
