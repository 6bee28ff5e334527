"""Speed and accuracy of `jd.streaming.online_loop` beside river's, on the same streams in one run.

    flag=xla_cpu_small_while_loop_byte_threshold=16384
    XLA_FLAGS=--xla_backend_extra_options=$flag python -m experiments.benchmarks.streams

The flag lets XLA compile loops that touch up to 16 kB in an iteration into one function. Without it
the limit is 1 kB, which SGD stays below and FTRL does not.

Each model is logistic regression on standardized features, tested on each example before it is
trained on it. Scores, accuracies or F1, are of one pass through the stream. For its speed our loop
gets the stream repeatedly, 131,072 examples with one optimizer step for each, in chunks of 16,384,
since a pass through 1,250 examples takes a millisecond. Both run in turns of alternating order, in
one process; each has its shortest time. Other processes on the machine disturb CPU time less than
wall time. Our times include the checks of the examples on the host and the metrics; river's include
its metric.
"""

import time
from collections.abc import Callable, Hashable, Iterable
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
      name: of the optimizer, for the table.
      stream: name of the stream.
      ours: Called as `ours()`; returns the transformation for the weights.
      theirs: Called as `theirs(river.optim)`; returns river's optimizer.
      score: "accuracy" or "f1".
      published: the score to reach.
    """

    name: str
    stream: str
    ours: Callable[[], optax.GradientTransformation]
    theirs: Callable[[Any], Any]
    score: str
    published: str

    @classmethod
    def sgd(cls, stream: str, learning_rate: float, published: str) -> "Case":
        """Returns SGD with a learning rate."""
        return cls(
            f"SGD({learning_rate:g})",
            stream,
            lambda: optax.sgd(learning_rate),
            lambda optim: optim.SGD(learning_rate),
            "accuracy",
            published,
        )


CASES = [
    Case.sgd("phishing", 0.005, "88.72%"),
    Case.sgd("phishing", 0.01, "89.28%"),
    Case.sgd("bananas", 0.005, "54.32%"),
    Case(
        "FTRL, river's",
        "phishing",
        lambda: jd.streaming.ftrl_proximal(0.05, l2=1.0, river_compatible=True),
        lambda optim: optim.FTRLProximal(),
        "f1",
        "87.56%",
    ),
]


def main() -> None:
    """Prints one row per model."""
    print(f"{jax.devices()[0].device_kind}; river {extras.require('river', 'river').__version__}")
    rows = []
    for case in CASES:
        stream = river_streams.load(case.stream)
        loop = make_loop(stream, case)
        ours = score(loop, stream)
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
                f"{case.stream}, {case.name}, {case.score}",
                f"{100 * ours:.2f}%",
                f"{100 * theirs:.2f}%",
                case.published,
                *(f"{rate / 1e3:,.0f}" for name in programs for rate in rates[name]),
            )
        )
    columns = ("model", "ours", "river", "published", "ours, k/s", "by CPU time", "river, k/s")
    print(table((*columns, "by CPU time"), rows))


def make_loop(stream: river_streams.Stream, case: Case) -> jd.streaming.OnlineLoop:
    """Returns our logistic regression."""
    optimizers: dict[Hashable, optax.GradientTransformation] = {
        "weights": case.ours(),
        "intercept": optax.sgd(INTERCEPT_RATE),
    }
    return jd.streaming.online_loop(
        lambda params, x: x @ params["weights"] + params["intercept"],
        optax.sigmoid_binary_cross_entropy,
        optax.partition(optimizers, {name: name for name in optimizers}),
        features=stream.features.shape[1],
        num_classes=stream.num_classes,
        metrics={"score": getattr(jd.streaming, case.score)()},
        scaler=jd.streaming.standard_scaler(),
    )


def run(loop: jd.streaming.OnlineLoop, stream: river_streams.Stream, chunk: int) -> tuple[Any, int]:
    """Runs our loop from the start; returns the state and the number of examples."""
    width = stream.features.shape[1]
    state = loop.init({"weights": jnp.zeros(width), "intercept": jnp.zeros(())})
    for each in jd.streaming.chunks((stream.features, stream.labels), chunk):
        state, _ = loop.run(state, each)
    return jax.block_until_ready(state), len(stream.labels)


def score(loop: jd.streaming.OnlineLoop, stream: river_streams.Stream) -> float:
    """Returns our score after one pass."""
    state, _ = run(loop, stream, len(stream.labels))
    return float(loop.values(state)["score"])


def repeat(stream: river_streams.Stream, examples: int) -> river_streams.Stream:
    """Returns the stream again and again, up to a number of examples."""
    rows = np.arange(examples) % len(stream.labels)
    return stream._replace(features=stream.features[rows], labels=stream.labels[rows])


def run_river(case: Case) -> tuple[float, int]:
    """Runs river's loop; returns its score and the number of examples."""
    linear_model, optim, preprocessing, metrics, datasets = (
        extras.require(f"river.{name}", "river")
        for name in ("linear_model", "optim", "preprocessing", "metrics", "datasets")
    )
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(
        case.theirs(optim), intercept_lr=INTERCEPT_RATE
    )
    metric, count = {"accuracy": metrics.Accuracy, "f1": metrics.F1}[case.score](), 0
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
