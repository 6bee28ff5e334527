"""Speed and accuracy of `jd.streaming.online_loop` beside river's, on the same streams in one run.

    python -m experiments.benchmarks.streams

Each model is logistic regression on standardized features, tested on each example before it is
trained on it. Accuracies are of one pass through the stream. For its speed our loop gets the stream
repeatedly, 131,072 examples with one optimizer step for each, in chunks of 16,384, since a pass
through 1,250 examples takes a millisecond. Both run in turns of alternating order, in one process;
each has its shortest time. Other processes on the machine disturb CPU time less than wall time.
Our times include the checks of the examples on the host and the metrics; river's include its
metric.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.data import river_streams
from experiments.runner.report import table
from jaxdescent import extras

TURNS = 5
EXAMPLES, CHUNK = 2**17, 2**14
INTERCEPT_RATE = 0.01
"""River's learning rate of the intercept, whichever optimizer the weights have."""


class Case(NamedTuple):
    """A model on a stream.

    Attributes:
      stream: name of the stream.
      learning_rate: of SGD for the weights.
      published: the figure to reach.
    """

    stream: str
    learning_rate: float
    published: str


CASES = (
    Case("phishing", 0.005, "88.72%"),
    Case("phishing", 0.01, "89.28%"),
    Case("bananas", 0.005, "54.32%"),
)


def main() -> None:
    """Prints one row per model."""
    print(f"{jax.devices()[0].device_kind}; river {extras.require('river', 'river').__version__}")
    rows = []
    for case in CASES:
        stream = river_streams.load(case.stream)
        loop = make_loop(stream, case.learning_rate)
        ours = accuracy(loop, stream)
        repeated = repeat(stream, EXAMPLES)
        programs: dict[str, Callable[[], int]] = {
            "ours": lambda loop=loop, repeated=repeated: run(loop, repeated, CHUNK)[1],
            "river": lambda case=case: run_river(case)[1],
        }
        theirs, _ = run_river(case)
        run(loop, repeated, CHUNK)  # compiles
        rates = measure(programs)
        rows.append(
            (
                f"{case.stream}, SGD({case.learning_rate:g})",
                f"{100 * ours:.2f}%",
                f"{100 * theirs:.2f}%",
                case.published,
                *(f"{rate / 1e3:,.0f}" for name in programs for rate in rates[name]),
            )
        )
    columns = ("model", "ours", "river", "published", "ours, k/s", "by CPU time", "river, k/s")
    print(table((*columns, "by CPU time"), rows))


def make_loop(stream: river_streams.Stream, learning_rate: float) -> jd.streaming.OnlineLoop:
    """Returns our logistic regression."""
    rates = {"weights": learning_rate, "intercept": INTERCEPT_RATE}
    return jd.streaming.online_loop(
        lambda params, x: x @ params["weights"] + params["intercept"],
        optax.sigmoid_binary_cross_entropy,
        optax.partition(
            {name: optax.sgd(rate) for name, rate in rates.items()}, {name: name for name in rates}
        ),
        features=stream.features.shape[1],
        num_classes=stream.num_classes,
        metrics={"accuracy": jd.streaming.accuracy()},
        scaler=jd.streaming.standard_scaler(),
    )


def run(loop: jd.streaming.OnlineLoop, stream: river_streams.Stream, chunk: int) -> tuple[Any, int]:
    """Runs our loop from the start; returns the state and the number of examples."""
    width = stream.features.shape[1]
    state = loop.init({"weights": jnp.zeros(width), "intercept": jnp.zeros(())})
    for each in jd.streaming.chunks((stream.features, stream.labels), chunk):
        state, _ = loop.run(state, each)
    return jax.block_until_ready(state), len(stream.labels)


def accuracy(loop: jd.streaming.OnlineLoop, stream: river_streams.Stream) -> float:
    """Returns our accuracy after one pass."""
    state, _ = run(loop, stream, len(stream.labels))
    return float(loop.values(state)["accuracy"])


def repeat(stream: river_streams.Stream, examples: int) -> river_streams.Stream:
    """Returns the stream again and again, up to a number of examples."""
    rows = np.arange(examples) % len(stream.labels)
    return stream._replace(features=stream.features[rows], labels=stream.labels[rows])


def run_river(case: Case) -> tuple[float, int]:
    """Runs river's loop; returns its accuracy and the number of examples."""
    linear_model, optim, preprocessing, metrics, datasets = (
        extras.require(f"river.{name}", "river")
        for name in ("linear_model", "optim", "preprocessing", "metrics", "datasets")
    )
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(
        optim.SGD(case.learning_rate), intercept_lr=INTERCEPT_RATE
    )
    metric, count = metrics.Accuracy(), 0
    for x, y in _read(getattr(datasets, river_streams.NAMES[case.stream])):
        metric.update(y, model.predict_one(x))
        model.learn_one(x, y)
        count += 1
    return metric.get(), count


_EXAMPLES: dict[Any, list[Any]] = {}


def _read(data_set: Callable[[], Iterable[Any]]) -> list[Any]:
    """Returns the examples from memory, so that river's time is not of decompression."""
    if data_set not in _EXAMPLES:
        _EXAMPLES[data_set] = [*data_set()]
    return _EXAMPLES[data_set]


def measure(programs: dict[str, Callable[[], int]]) -> dict[str, tuple[float, float]]:
    """Returns the highest examples per second of wall time and of CPU time, by name."""
    best = dict.fromkeys(programs, (0.0, 0.0))
    for turn in range(TURNS):
        for name in programs if turn % 2 else reversed(programs):
            began = time.perf_counter(), time.process_time()
            count = programs[name]()
            spent = time.perf_counter() - began[0], time.process_time() - began[1]
            best[name] = (
                max(best[name][0], count / spent[0]),
                max(best[name][1], count / spent[1]),
            )
    return best


if __name__ == "__main__":
    main()
