"""A learner's course through a stream, and the rows that need no learner."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.streaming.learners import DETECTORS, LEARNERS
from experiments.studies.streaming.tasks import Stream

POINTS = 100
"""Points of a curve; a stream is divided into as many chunks."""
HIDDEN = 64
LAST_CLASS, MOST_FREQUENT = "last class", "most frequent class so far"


class Course(NamedTuple):
    """Results of one learner on one stream.

    Attributes:
      accuracy: share of examples whose class was predicted before training on them.
      f1: F1 score of class 1; NaN with more than two classes.
      loss: mean loss.
      rejected: number of updates that were not finite.
      nonfinite: number of losses that were not finite; they are left out of `loss`.
      examples: i64[points], number of examples so far.
      recent: f32[points], accuracy over a window.
      learning_rates: f32[points], NaN for learners without a single one.
      alarms: i64[alarms], indices of the examples at which the detector gave an alarm.
    """

    accuracy: float
    f1: float
    loss: float
    rejected: int
    nonfinite: int
    examples: np.ndarray
    recent: np.ndarray
    learning_rates: np.ndarray
    alarms: np.ndarray


def window_of(stream: Stream) -> int:
    """Returns the number of examples in the window of a curve of accuracy."""
    return max(50, len(stream.labels) // 50)


def evaluate(stream: Stream, model: str, learner: str, detector: str, seed: int) -> Course:
    """Runs a learner through a stream.

    Args:
      stream: the stream.
      model: "linear" or "mlp".
      learner: a name of `LEARNERS`.
      detector: a name of `DETECTORS`, or "" for none.
      seed: seed of the initial parameters.
    """
    width, outputs = stream.features.shape[1], 1 if stream.num_classes == 2 else stream.num_classes
    rules, (_, init) = LEARNERS[learner], _MODELS[model]
    loop = _loop(model, learner, detector, width, stream.num_classes, window_of(stream))
    state = loop.init(init(jax.random.key(seed), width, outputs))
    read_rate = jax.jit(rules.learning_rate or (lambda _: jnp.float32(jnp.nan)))
    examples, recent, rates, alarms = [], [], [], []
    length = -(-len(stream.labels) // POINTS)
    for i, chunk in enumerate(jd.streaming.chunks((stream.features, stream.labels), length)):
        state, record = loop.run(state, chunk)
        examples.append(i * length + (chunk.length or length))
        recent.append(record.metrics["recent"])
        rates.append(read_rate(state.opt_state))
        alarms.append(i * length + np.flatnonzero(record.drift))
    values = loop.values(state)
    return Course(
        accuracy=float(values["accuracy"]),
        f1=float(values["f1"]) if outputs == 1 else np.nan,
        loss=float(values["loss"]),
        rejected=int(state.rejected),
        nonfinite=int(state.nonfinite),
        examples=np.array(examples),
        recent=np.array(recent),
        learning_rates=np.array(rates),
        alarms=np.concatenate(alarms),
    )


@functools.lru_cache(maxsize=1)
def _loop(
    model: str, learner: str, detector: str, width: int, num_classes: int, window: int
) -> jd.streaming.OnlineLoop:
    """Returns the loop of all seeds, which compiles once; they follow one another."""
    rules = LEARNERS[learner]
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return jd.streaming.online_loop(
        _MODELS[model][0],
        _binary_loss if num_classes == 2 else cross_entropy,
        rules.make(),
        features=width,
        num_classes=num_classes,
        metrics={
            "accuracy": jd.streaming.accuracy(),
            "recent": jd.streaming.accuracy(window=window),
            "f1": jd.streaming.f1(),
            "loss": jd.streaming.mean_loss(),
        },
        scaler=jd.streaming.standard_scaler(),
        detector=DETECTORS[detector]() if detector else None,
        signal=_error,
        gradient_of=rules.gradient_of,
        evaluate_at=rules.evaluate_at,
    )


def _binary_loss(logit: jax.Array, label: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logit, label.astype(logit.dtype))


def _error(prediction: jax.Array, label: jax.Array) -> jax.Array:
    """Returns 1 for a wrong class and 0 for the right one."""
    predicted = jnp.argmax(prediction, -1) if prediction.ndim else prediction > 0
    return (predicted != label).astype(jnp.float32)


def _linear(params: Any, x: jax.Array) -> jax.Array:
    return _outputs(x @ params["weights"] + params["bias"])


def _mlp(params: Any, x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["hidden"]["weights"] + params["hidden"]["bias"])
    return _linear(params["output"], hidden)


def _outputs(logits: jax.Array) -> jax.Array:
    """Returns a vector of logits, or the only one of two classes as a scalar."""
    return logits[0] if logits.shape == (1,) else logits


def _zeros(_: Any, width: int, outputs: int) -> dict[str, jax.Array]:
    return {"weights": jnp.zeros((width, outputs)), "bias": jnp.zeros(outputs)}


def _draw_mlp(key: Any, width: int, outputs: int) -> dict[str, Any]:
    weights = jax.nn.initializers.he_normal()(key, (width, HIDDEN))
    hidden = {"weights": weights, "bias": jnp.zeros(HIDDEN)}
    return {"hidden": hidden, "output": _zeros(key, HIDDEN, outputs)}


_MODELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "linear": (_linear, _zeros),
    "mlp": (_mlp, _draw_mlp),
}


def baselines(stream: Stream) -> dict[str, float]:
    """Returns the accuracies of the last class and of the most frequent class so far.

    Both predict class 0 before the first label; ties go to the smaller class.
    """
    labels = stream.labels
    last = np.concatenate([[0], labels[:-1]])
    one_hot = np.eye(stream.num_classes, dtype=np.int64)[labels]
    before = np.cumsum(one_hot, axis=0) - one_hot
    return {
        LAST_CLASS: float(np.mean(last == labels)),
        MOST_FREQUENT: float(np.mean(before.argmax(1) == labels)),
    }
