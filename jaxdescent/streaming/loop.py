"""The compiled test-then-train loop: predict, score, and only then learn, example by example.

    prediction_t = predict(params, x_t)                      scored against y_t
    params      <- params + update(gradient at (x_t, y_t))

In order: the scaler's statistics before the example transform x_t for the prediction; the
statistics after it, for training. The detector receives the loss of the prediction, and its alarm
goes to the same update as `drift=`. With a label delay of k, the update is on example t - k, whose
label has just arrived, and the detector receives the loss of the prediction that was made then.

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
from jaxdescent.numerics import widest_float
from jaxdescent.streaming import counts, loop_steps
from jaxdescent.streaming.examples import (
    START,
    Expected,
    check_chunk,
    reactions_to,
    time_from_words,
    time_words,
)
from jaxdescent.streaming.loop_state import Batches, Delayed, LoopState, Record, Settings, Skipped
from jaxdescent.streaming.metrics import Metric
from jaxdescent.streaming.scaler import Scaler
from jaxdescent.streaming.sources import PROBLEMS, Chunk, feature_shape


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
        prediction, or a tuple of it and activations, without learning.
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
    has_activations: bool = False,
    batch_size: int = 1,
    label_delay: int = 0,
    invalid: str | Mapping[str, str] = "skip",
) -> OnlineLoop:
    """Returns a loop that tests a model on each example of a stream, and then trains it.

    Args:
      predict: Called as `predict(params, x)` with the features of one example; returns its
        prediction, or a tuple of it and activations if `has_activations` is True.
      loss: Called as `loss(prediction, y)`; returns a scalar.
      optimizer: a transformation. Its update also receives `value=`, the loss; with
        `gradient_of="loss"` also `grad=`, the gradient, and `value_fn=`, the loss as a function of
        the parameters, as `ader(surrogate=False)` and optax's line searches need; and the keywords
        that the arguments below name.
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
      has_activations: True if `predict` returns `(prediction, activations)`, with an array
        f[..., units] for each hidden layer. The optimizer's update receives them as
        `activations=`, of the examples to train on, as `redo` and `continual_backprop` need, with
        an axis of the batch in front if `batch_size` is above 1. In a batch with skipped examples
        or padding, the activations of the other examples are repeated in their places.
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
    validation.boolean("has_activations", has_activations)
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
    settings = Settings(
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
        has_activations,
        batch_size,
        label_delay // batch_size,
    )
    return _loop_of(settings, reactions_to(invalid))


def _loop_of(settings: Settings, reactions: Mapping[str, str]) -> OnlineLoop:
    advance = jax.jit(
        lambda state, batches: loop_steps.advance(settings, state, batches), donate_argnums=0
    )
    read = jax.jit(lambda states: loop_steps.metric_values(settings, states))

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


def _init(settings: Settings, params: Any) -> LoopState:
    validation.check_floating("params", params)
    dtype = widest_float(params)
    params = validation.arrays("params", params)
    x = jnp.zeros(settings.shape, dtype)
    label_dtype = dtype if settings.num_classes is None else jnp.int32
    with validation.tracing("predict"):
        prediction = jax.eval_shape(settings.predict, params, x)
    if settings.has_activations:
        if not isinstance(prediction, tuple) or len(prediction) != 2:
            raise TypeError(
                "predict, with has_activations=True, must return a tuple (prediction, "
                f"activations), got {validation.shown(prediction)}"
            )
        prediction, _ = prediction
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
        counts.zero(),
        () if settings.detector is None else jnp.zeros((), bool),
        jnp.asarray(time_words(START)),
    )
    # A buffer can be donated once, and the caller keeps their buffers. A weak type would compile
    # a second program.
    return jax.tree.map(jnp.copy, validation.arrays("the initial state", state))


def _without_batch_axis(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] if settings.batch_size == 1 else shape


def _checked_batches(
    settings: Settings, expected: Expected, state: LoopState, chunk: Any
) -> Batches:
    """Checks a chunk on the host, and moves its batches with valid rows to the front."""
    if not isinstance(chunk, Chunk):
        if not isinstance(chunk, tuple) or not 2 <= len(chunk) <= len(Chunk._fields):
            raise TypeError(
                "chunk must be a Chunk or a tuple (features, labels), got "
                f"{validation.shown(chunk)}"
            )
        chunk = Chunk(*chunk)
    size = settings.batch_size
    if chunk.times is not None and not validation.is_concrete(state.time):
        raise TypeError(
            "chunk.times must be None where states are batched by jax.vmap, since times are "
            "checked on the host"
        )
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
    return Batches(
        features, labels, valid[order] & present, order, np.int32(count), checked.problems, words
    )


def _position(state: LoopState, expected: Expected) -> int | None:
    """Returns the number of rows of the stream so far; None in many states at once."""
    if not validation.is_concrete(state.examples.low):
        return None
    left_out = [n for n in PROBLEMS if expected.reactions[n] != "count"]
    return int(state.examples) + sum(int(getattr(state.skipped, name)) for name in left_out)
