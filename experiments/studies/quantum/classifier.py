"""A circuit that classifies: data are encoded again in every layer, as angles of rotations.

    angle of qubit w in layer l = scale[l, w] x[w mod 2] + shift[l, w],   then a rotation around Z
    loss = mean of (<Z_0> - y)^2,  y = +1 or -1;   class = sign of <Z_0>

The natural gradient uses the mean of the circuit's metric over examples. Beside the circuit stands
scikit-learn's logistic regression on the same two features.

Source: A. Perez-Salinas, A. Cervera-Lierta, E. Gil-Fuster, J. I. Latorre 2020, arXiv:1907.02085.
"""

import functools
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

import jaxdescent as jd
from experiments import runner
from experiments.studies.quantum.parts import Part

QUBITS, LAYERS = 4, 3
DataName = Literal["breast cancer", "moons"]
DATA: tuple[DataName, ...] = ("breast cancer", "moons")
MethodName = Literal["adam", "natural_gradient", "self_tuning", "logistic"]
TITLES: dict[MethodName, str] = {
    "adam": "Adam",
    "natural_gradient": "natural gradient",
    "self_tuning": "self-tuning Adam",
    "logistic": "logistic regression",
}
RATES: dict[MethodName, tuple[float, ...]] = {
    "adam": (0.01, 0.03, 0.1, 0.3),
    "natural_gradient": (0.03, 0.1, 0.3, 1.0),
    "self_tuning": (float("nan"),),
}
METRIC_EXAMPLES = 32
TRAINING, VALIDATION = 200, 100
EXAMPLES = 569
"""Of breast cancer; moons have as many, so that one program serves both."""


class Size(NamedTuple):
    """Size of the task.

    Attributes:
      steps: number of steps with all training examples.
      seeds: number of splits of the data and of starts.
      rates: number of learning rates.
      data: the data sets.
      methods: methods to train by.
    """

    steps: int
    seeds: int
    rates: int
    data: tuple[DataName, ...] = DATA
    methods: tuple[MethodName, ...] = tuple(TITLES)


SIZES = {
    "smoke": Size(3, 2, 1, ("moons",), ("adam", "logistic")),
    "small": Size(200, 5, 4),
    "full": Size(1_000, 20, 4),
}


class Accuracies(NamedTuple):
    """Results of a method, f[seeds].

    Attributes:
      test: share of test examples classified correctly.
      validation: the same for validation examples.
      loss: training loss at the end.
      learning_rate: f[], the best learning rate by the mean accuracy on validation examples.
    """

    test: np.ndarray
    validation: np.ndarray
    loss: np.ndarray
    learning_rate: float


class Split(NamedTuple):
    """Three parts of a data set, standardized by the first: pairs of f[examples, 2] and +-1."""

    training: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def run(size: Size, run: runner.Run) -> Part:
    """Trains by every method on every data set."""
    found: dict[tuple[DataName, MethodName], Accuracies] = {}
    with runner.Progress(total=len(size.data) * len(size.methods)) as progress:
        for data in size.data:
            for method in size.methods:
                found[data, method] = run.series(
                    f"classifier, {TITLES[method]}, {data}",
                    Accuracies,
                    partial(train, data, method, size),
                    progress=progress,
                    steps=1,
                )
    return report(size, found)


def load(name: DataName, seed: int) -> Split:
    """Returns a random split of a data set with two features."""
    if name == "breast cancer":
        features, labels = datasets.load_breast_cancer(return_X_y=True)
        features = features[:, :2]  # mean radius, mean texture
    else:
        features, labels = datasets.make_moons(EXAMPLES, noise=0.2, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    features, labels = features[order], 2.0 * labels[order] - 1
    mean, deviation = features[:TRAINING].mean(0), features[:TRAINING].std(0)
    features = (features - mean) / deviation
    ends = (0, TRAINING, TRAINING + VALIDATION, len(labels))
    parts = [(features[a:b], labels[a:b]) for a, b in itertools.pairwise(ends)]
    return Split(*parts)


def circuit() -> jd.quantum.Circuit:
    """Returns the circuit, called with parameters and an example x, f[2]."""
    gates = jd.quantum.gates

    def angle(layer: int, wire: int) -> Callable[[Any, Any], Any]:
        return lambda params, x: (
            params["scale"][layer, wire] * x[wire % 2] + params["shift"][layer, wire]
        )

    return jd.quantum.Circuit(
        QUBITS,
        [
            [
                [gates.ry(angle(layer, wire), wire) for wire in range(QUBITS)],
                [gates.rz(gates.param("phase", layer, wire), wire) for wire in range(QUBITS)],
                [gates.cnot(wire, (wire + 1) % QUBITS) for wire in range(QUBITS)],
            ]
            for layer in range(LAYERS)
        ],
    )


def start(seed: int) -> dict[str, jax.Array]:
    """Returns initial parameters: scales around 1, shifts and phases around 0."""
    names = ("scale", "shift", "phase")
    keys = jax.random.split(jax.random.key(seed), len(names))
    noise = {
        name: 0.3 * jax.random.normal(key, (LAYERS, QUBITS), jnp.float32)
        for name, key in zip(names, keys, strict=True)
    }
    return noise | {"scale": 1 + noise["scale"]}


def train(name: DataName, method: MethodName, size: Size) -> Accuracies:
    """Trains with every learning rate on every split."""
    splits = [load(name, seed) for seed in range(size.seeds)]
    if method == "logistic":
        return _regression(splits)
    fit = _compiled(method, size.steps)
    stacked = [
        tuple(jnp.asarray(np.stack(x), jnp.float32) for x in zip(*pairs, strict=True))
        for pairs in zip(*splits, strict=True)
    ]
    starts = jax.tree.map(lambda *x: jnp.stack(x), *map(start, range(size.seeds)))
    found = []
    for rate in RATES[method][-size.rates :]:
        loss, *accuracies = fit(jnp.float32(rate), starts, stacked)
        validation, test = map(np.asarray, accuracies)
        found.append(Accuracies(test, validation, np.asarray(loss), rate))
    return max(found, key=lambda each: each.validation.mean())


@functools.cache
def _compiled(method: MethodName, steps: int) -> Any:
    """Returns the training on all splits, compiled once for all rates and data sets."""
    return jax.jit(jax.vmap(partial(_fit, method, steps), in_axes=(None, 0, 0)))


def _fit(method: MethodName, steps: int, rate: Any, params: Any, parts: Any) -> Any:
    """Returns the training loss and the accuracies on validation and test examples."""
    turned = circuit()
    expectation = turned.expectation(jd.quantum.pauli_sum({"Z0": 1.0}, num_qubits=QUBITS))
    outputs = jax.vmap(expectation, in_axes=(None, 0))
    (examples, labels), *others = parts

    def loss(params: Any) -> jax.Array:
        return jnp.mean((outputs(params, examples) - labels) ** 2)

    def metric(params: Any) -> jax.Array:
        some = examples[:METRIC_EXAMPLES]
        return jnp.mean(jax.vmap(lambda x: jd.quantum.metric(turned, params, x))(some), 0)

    tx: Any = optax.with_extra_args_support(optax.adam(rate))
    if method == "natural_gradient":
        tx = jd.quantum.quantum_natural_gradient(metric, rate)
    elif method == "self_tuning":
        tx = jd.self_tuning(optax.adam)

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    if method == "self_tuning":
        params = jd.averaged_params(state, params)
    return loss(params), *[jnp.mean(outputs(params, x) * y > 0) for x, y in others]


def _regression(splits: list[Split]) -> Accuracies:
    """Returns the accuracies of logistic regression; its loss is not comparable."""
    rows = []
    for training, validation, test in splits:
        model = LogisticRegression().fit(*training)
        rows.append((model.score(*test), model.score(*validation), np.nan))
    test, validation, loss = np.array(rows).T
    return Accuracies(test, validation, loss, float("nan"))


def report(size: Size, found: dict[tuple[DataName, MethodName], Accuracies]) -> Part:
    """Returns the table, the verdict and the notes."""
    rows, values = [], {}
    for (data, method), each in found.items():
        tried = RATES.get(method, ())[-size.rates :]
        has_rate = len(RATES.get(method, ())) > 1
        rows.append(
            (
                data,
                TITLES[method],
                f"{each.learning_rate:g}" if has_rate else "-",
                f"{100 * each.test.mean():.1f} ± {100 * each.test.std():.1f}",
                f"{100 * each.validation.mean():.1f}",
                "-" if method == "logistic" else f"{each.loss.mean():.3f}",
                f"{size.steps * len(tried):,}" if tried else "-",
            )
        )
        values[f"classifier, {data}, {method}"] = {
            "test": each.test.tolist(),
            "validation": each.validation.tolist(),
            "loss": each.loss.tolist(),
        }
    columns = (
        "data", "method", "learning rate", "test accuracy %", "validation %", "training loss",
        "steps, all rates",
    )  # fmt: skip
    title = f"A classifier of {QUBITS} qubits and {3 * LAYERS * QUBITS} parameters"
    notes = [
        f"Classifier: {LAYERS} layers, each of which encodes both features again; mean squared "
        f"error of <Z0>, exact values, {size.steps} steps with all {TRAINING} training examples; "
        f"means over {size.seeds} splits, ± is the standard deviation. The learning rate is the "
        f"one with the highest accuracy on {VALIDATION} validation examples, of "
        + "; ".join(
            ", ".join(f"{rate:g}" for rate in RATES[method][-size.rates :]) + f" ({TITLES[method]})"
            for method in ("adam", "natural_gradient")
        )
        + f". The natural gradient takes the metric of {METRIC_EXAMPLES} of the training examples. "
        "Self-tuning is evaluated at the average of the parameters. Breast cancer: mean radius and "
        "mean texture only. Moons: as many points, with noise 0.2.",
    ]
    return Part(runner.Table(columns, rows, title), notes, values, _verdict(found))


def _verdict(found: dict[tuple[DataName, MethodName], Accuracies]) -> str:
    phrases = []
    for data in dict.fromkeys(name for name, _ in found):
        accuracies = {
            method: 100 * each.test.mean() for (name, method), each in found.items() if name == data
        }
        phrases.append(
            f"on {data} "
            + ", ".join(f"{TITLES[name]} {value:.1f}%" for name, value in accuracies.items())
        )
    return f"The circuit as a classifier, test accuracy: {'; '.join(phrases)}."
