"""Twenty small tasks of classification and regression, and networks of one hidden layer.

Sets that scikit-learn bundles, in three fifths to train on, a fifth to choose by and a fifth that
nothing is chosen by; and draws of its generators, with 1,000, 2,000 and 2,000 examples of each
kind, since there they cost nothing. The parts are the same for ever.

A network may be valued at a running mean of the parameters that its training passes through
(`Averaged`; B. Polyak, A. Juditsky 1992, here with exponential weights), free of the steps' noise.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

HIDDEN = 32
EXAMPLES = 5_000  # that a generator is asked for
TRAINING = 1_000  # of them
SEED = 2025  # of the generators and of the parts

Arrays = Mapping[str, np.ndarray]


class Task(NamedTuple):
    """A task in its parts.

    Attributes:
      name: in tables.
      classes: how many; 0 for regression.
      train, validation, test: "x", f32[n, features], standardized by the training part; and "y",
        i32[n] or f32[n, outputs], standardized too.
    """

    name: str
    classes: int
    train: Arrays
    validation: Arrays
    test: Arrays

    @property
    def outputs(self) -> int:
        """Of a network."""
        return self.classes or self.train["y"].shape[1]

    @property
    def loss(self) -> Callable[[Any, Any], jax.Array]:
        """The mean loss of a network on examples."""
        return cross_entropy if self.classes else squared_error


CLASSIFICATION: Mapping[str, Callable[[], Any]] = {
    "iris": partial(datasets.load_iris, return_X_y=True),
    "wine": partial(datasets.load_wine, return_X_y=True),
    "breast cancer": partial(datasets.load_breast_cancer, return_X_y=True),
    "digits": partial(datasets.load_digits, return_X_y=True),
    "moons": partial(datasets.make_moons, EXAMPLES, noise=0.25, random_state=SEED),
    "circles": partial(datasets.make_circles, EXAMPLES, noise=0.15, factor=0.5, random_state=SEED),
    "blobs": partial(
        datasets.make_blobs, EXAMPLES, n_features=4, centers=6, cluster_std=3.0, random_state=SEED
    ),
    "shells": partial(
        datasets.make_gaussian_quantiles,
        n_samples=EXAMPLES,
        n_features=5,
        n_classes=3,
        random_state=SEED,
    ),
    "Hastie": partial(datasets.make_hastie_10_2, EXAMPLES, random_state=SEED),
    "clusters": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=20,
        n_informative=8,
        n_clusters_per_class=4,
        random_state=SEED,
    ),
    "clusters of 4": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=10,
        n_informative=6,
        n_classes=4,
        random_state=SEED,
    ),
    "rare class": partial(
        datasets.make_classification,
        EXAMPLES,
        n_features=12,
        n_informative=5,
        weights=(0.9,),
        flip_y=0.02,
        random_state=SEED,
    ),
}

REGRESSION: Mapping[str, Callable[[], Any]] = {
    "diabetes": partial(datasets.load_diabetes, return_X_y=True),
    "Linnerud": partial(datasets.load_linnerud, return_X_y=True),
    "Friedman 1": partial(datasets.make_friedman1, EXAMPLES, noise=1.0, random_state=SEED),
    "Friedman 2": partial(datasets.make_friedman2, EXAMPLES, noise=50.0, random_state=SEED),
    "Friedman 3": partial(datasets.make_friedman3, EXAMPLES, noise=0.1, random_state=SEED),
    "sparse": partial(datasets.make_sparse_uncorrelated, EXAMPLES, random_state=SEED),
    "S curve": partial(datasets.make_s_curve, EXAMPLES, noise=0.1, random_state=SEED),
    "Swiss roll": partial(datasets.make_swiss_roll, EXAMPLES, noise=0.5, random_state=SEED),
}

NAMES = (*CLASSIFICATION, *REGRESSION)


def task(name: str) -> Task:
    """A task by its name.

    Example:
      >>> iris = task("iris")
      >>> iris.classes, [len(part["y"]) for part in (iris.train, iris.validation, iris.test)]
      (3, [90, 30, 30])
    """
    classes = name in CLASSIFICATION
    x, y = (CLASSIFICATION if classes else REGRESSION)[name]()
    order = np.random.default_rng(SEED).permutation(len(x))
    first = TRAINING if len(x) == EXAMPLES else 3 * len(x) // 5
    parts = np.split(order, [first, (first + len(x)) // 2])
    found = []
    if classes:
        found, y = np.unique(y, return_inverse=True)
        y = y.astype(np.int32)
    else:
        y = standardized(y.reshape(len(x), -1), parts[0])
    x = standardized(x, parts[0])
    train, validation, test = ({"x": x[part], "y": y[part]} for part in parts)
    return Task(name, len(found), train, validation, test)


def standardized(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1 in those rows; what is constant there is 0."""
    mean, deviation = x[rows].mean(0), x[rows].std(0)
    scaled = (x - mean) / np.where(deviation > 0, deviation, 1.0)
    return np.where(deviation > 0, scaled, 0.0).astype(np.float32)


def starts(key: jax.Array, inputs: int, outputs: int, agents: int) -> dict[str, jax.Array]:
    """Networks of one hidden layer, with a leading axis of agents."""
    first, second = jax.random.split(key)
    draw = lambda key, rows, columns: (
        jax.random.normal(key, (agents, rows, columns)) / np.sqrt(rows).astype(np.float32)
    )
    return {
        "a": draw(first, inputs, HIDDEN),
        "b": jnp.zeros((agents, HIDDEN)),
        "c": draw(second, HIDDEN, outputs),
        "d": jnp.zeros((agents, outputs)),
    }


def outputs(params: Any, x: jax.Array) -> jax.Array:
    """Of a network of tanh, f32[n, outputs]."""
    return jnp.tanh(x @ params["a"] + params["b"]) @ params["c"] + params["d"]


def cross_entropy(params: Any, batch: Any) -> jax.Array:
    """The mean cross entropy, in nats."""
    logits = outputs(params, batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


def squared_error(params: Any, batch: Any) -> jax.Array:
    """The mean squared error, in variances of the training part."""
    return jnp.mean((outputs(params, batch["x"]) - batch["y"]) ** 2)


class Averaged(NamedTuple):
    """A running mean of parameters, as `jd.fit`'s model state.

    Attributes:
      mean: like the parameters.
      memory: f32[], in [0, 1), of the mean; with 0 it is the last parameters.
      steps: f32[], that are in it. Until they are 1 / (1 - memory), all weigh the same.
    """

    mean: Any
    memory: jax.Array
    steps: jax.Array

    @staticmethod
    def of(starts: Any, memory: float) -> "Averaged":
        """Of agents at their starts."""
        agents = len(jax.tree.leaves(starts)[0])
        return Averaged(starts, jnp.full(agents, memory, jnp.float32), jnp.zeros(agents))

    def after(self, params: Any) -> "Averaged":
        """With these in it."""
        weight = jnp.maximum(1 - self.memory, 1 / (self.steps + 1))
        mean = jax.tree.map(lambda mean, x: mean + weight * (x - mean), self.mean, params)
        return Averaged(mean, self.memory, self.steps + 1)


class Averaging(NamedTuple):
    """A loss for `jd.fit` whose model state is an `Averaged`.

    Attributes:
      train: from (params, batch, model_state) to the loss and the state after.
      value: from (params, examples, model_state) to the loss at the mean.
    """

    train: Callable[..., Any]
    value: Callable[..., jax.Array]


@cache
def averaging(loss: Callable[[Any, Any], jax.Array]) -> Averaging:
    """The same object for the same loss: what is compiled for it stays."""

    def train(params: Any, batch: Any, model_state: Averaged) -> Any:
        return loss(params, batch), {"model_state": model_state.after(params)}

    def value(_params: Any, examples: Any, model_state: Averaged) -> jax.Array:
        return loss(model_state.mean, examples)

    return Averaging(train, value)


def adam(learning_rate: Any, steps: Any, falls: Any) -> optax.GradientTransformation:
    """Adam at the rate of `falling`."""
    return optax.adam(falling(learning_rate, steps, falls))


def falling(learning_rate: Any, steps: Any, falls: Any) -> optax.Schedule:
    """A constant rate, or where `falls` is 1 one that falls to 0 as a cosine over the steps."""
    share = lambda count: jnp.minimum(count / steps, 1.0)
    return lambda count: learning_rate * (1 - falls * (1 - jnp.cos(jnp.pi * share(count))) / 2)
