"""The published example's network and training: 784-128-10, tanh after both layers.

As in the package's README, pixels are in [0, 1], weights have the distribution of
`torch.nn.Linear`, examples are shuffled in each epoch, and the last batch has the remaining ones.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import runner
from experiments.data import Split
from experiments.studies.gdtuo_table.published import Published


class ImageTask(NamedTuple):
    """Images with labels, and the network and batches for them.

    Attributes:
      name: of the data set.
      train: inputs [n, pixels] and labels `i32[n]`.
      test: the same.
      scale: the divisor of pixels.
      hidden: units of the hidden layer.
      batch_size: examples per step.
      source: of the data.
    """

    name: str
    train: Split
    test: Split
    scale: float
    hidden: int
    batch_size: int
    source: str

    @property
    def steps(self) -> int:
        """The number of steps per epoch; the last batch may be smaller."""
        return -(-len(self.train.targets) // self.batch_size)

    def digest(self) -> str:
        """Returns the SHA-256 of all examples."""
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _last_network(network: Any, state: Any) -> Any:
    del state
    return network


class TableRow(NamedTuple):
    """One row of the table: an optimizer, and the paper's numbers for it.

    Attributes:
      name: in tables and logs.
      program: rows with the same value share a compiled program; they differ only in the numbers
        of the optimizer's initial state.
      make_optimizer: Called as `make_optimizer()`; its update takes the loss as `value=`.
      get_learned: Called as `get_learned(state)`; returns the bottom rule's hyperparameters.
      learns: True if the hyperparameters are learned.
      published: the paper's error; `None` if the paper has no such row, or on other data.
      paper_learned: the hyperparameters that the paper's tower learned, or `None`.
      get_tested: Called as `get_tested(network, state)`; returns the network to test.
    """

    name: str
    program: str
    make_optimizer: Callable[[], optax.GradientTransformation]
    get_learned: Callable[[Any], dict[str, jax.Array]]
    learns: bool = False
    published: Published | None = None
    paper_learned: Mapping[str, float] | None = None
    get_tested: Callable[[Any, Any], Any] = _last_network


class EpochHistory(NamedTuple):
    """The history of a row, with `e` epochs and `s` seeds.

    Attributes:
      losses: `f32[e, s]`, mean training loss of each epoch.
      errors: `f32[e, s]`, test error after each epoch in percent.
      learned: names to `f32[e, s]`, the bottom rule's hyperparameters after each epoch.
    """

    losses: np.ndarray
    errors: np.ndarray
    learned: Mapping[str, np.ndarray]

    def learned_after(self, epoch: int) -> dict[str, float]:
        """Returns the means over seeds after an epoch, counted from 0."""
        return {name: float(values[epoch].mean()) for name, values in self.learned.items()}


RowHistories = list[tuple[TableRow, EpochHistory]]


def init_params(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Draws weights and biases like `torch.nn.Linear`, uniformly within 1 / sqrt(inputs)."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        key, *keys = jax.random.split(key, 3)
        bound = inputs**-0.5
        uniform = partial(jax.random.uniform, minval=-bound, maxval=bound)
        layers.append({"w": uniform(keys[0], (inputs, outputs)), "b": uniform(keys[1], (outputs,))})
    return layers


def logits(network: Any, images: jax.Array) -> jax.Array:
    """Returns the network's logits, which are outputs of tanh too."""
    for layer in network:
        images = jnp.tanh(images @ layer["w"] + layer["b"])
    return images


def make_epoch(task: ImageTask, row: TableRow, keys: jax.Array) -> Callable[..., Any]:
    """Returns a function that trains for one epoch, with a different order for each seed.

    Args:
      task: the data.
      row: the optimizer.
      keys: the random key of each seed, for the orders.

    Returns:
      A function called as `epoch((networks, states), number, train, test)` with the number of the
      epoch. It returns the new networks and states, and `(losses, test errors in percent,
      hyperparameters)`, each `f32[seeds]`.
    """
    count, size, steps = len(task.train.targets), task.batch_size, task.steps
    tx = optax.with_extra_args_support(row.make_optimizer())
    # The last batch is padded with examples of weight 0.
    weights = (jnp.arange(steps * size) < count).astype(jnp.float32).reshape(steps, size)

    def scaled(images: jax.Array) -> jax.Array:
        return images.astype(jnp.float32) / task.scale

    def loss(network: Any, images: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
        each = optax.softmax_cross_entropy_with_integer_labels(logits(network, images), labels)
        return jnp.sum(each * weight) / jnp.sum(weight)

    def one_seed(network: Any, state: Any, key: jax.Array, train: Split, test: Split) -> Any:
        order = jnp.pad(jax.random.permutation(key, count), (0, steps * size - count))

        def step(carry: Any, inputs: Any) -> Any:
            network, state = carry
            batch, weight = inputs
            value, grads = jax.value_and_grad(loss)(
                network, scaled(train.inputs[batch]), train.targets[batch], weight
            )
            updates, state = tx.update(grads, state, network, value=value)
            return (optax.apply_updates(network, updates), state), value

        (network, state), losses = jax.lax.scan(
            step, (network, state), (order.reshape(steps, size), weights)
        )
        outputs = logits(row.get_tested(network, state), scaled(test.inputs))
        wrong = outputs.argmax(-1) != test.targets
        return (network, state), (losses.mean(), 100 * wrong.mean(), row.get_learned(state))

    def epoch(carry: Any, number: jax.Array, train: Split, test: Split) -> Any:
        orders = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        network, state = carry
        return jax.vmap(one_seed, in_axes=(0, 0, 0, None, None))(
            network, state, orders, train, test
        )

    return epoch


class RowTraining:
    """Trains rows, all from the same networks.

    Args:
      run: the run of the study.
      task: the data.
      seeds: networks trained in parallel.
      epochs: the number of epochs.
      progress: counts the steps.
    """

    def __init__(
        self,
        run: runner.Run,
        task: ImageTask,
        seeds: int,
        epochs: int,
        progress: runner.Progress,
    ):
        self._run, self._task, self._epochs, self._progress = run, task, epochs, progress
        self._keys = jax.random.split(jax.random.key(run.settings.seed), seeds)
        sizes = (task.train.inputs.shape[1], task.hidden, 10)
        self._networks = jax.vmap(lambda key: init_params(key, sizes))(self._keys)
        self._data = jax.device_put((task.train, task.test))
        self._programs: dict[str, runner.Program] = {}

    def __call__(self, row: TableRow) -> EpochHistory:
        """Trains a row."""
        return self._run.series(
            row.name,
            EpochHistory,
            partial(self._compute, row),
            progress=self._progress,
            steps=self._epochs * self._task.steps,
        )

    def _compute(self, row: TableRow) -> EpochHistory:
        states = jax.vmap(row.make_optimizer().init)(self._networks)
        carry = jax.tree.map(jnp.copy, (self._networks, states))
        program = self._program(row, carry)
        loop = runner.Loop(
            self._run, row.name, program, carry, chunks=self._epochs, progress=self._progress
        )
        for chunk in loop:
            losses, errors, learned = chunk.metrics
            loop.log(loss=losses, test_error=errors, **learned)
        history = self._run.log.read(row.name)

        def column(name: str) -> np.ndarray:
            return np.array([record[name] for record in history], np.float32)

        names = row.get_learned(jax.tree.map(lambda leaf: leaf[0], loop.carry[1]))
        return EpochHistory(
            column("loss"), column("test_error"), {name: column(name) for name in names}
        )

    def _program(self, row: TableRow, carry: Any) -> runner.Program:
        if row.program not in self._programs:
            epoch = make_epoch(self._task, row, self._keys)
            self._programs[row.program] = runner.Program(
                epoch, carry, steps_per_chunk=self._task.steps, constants=self._data
            )
        return self._programs[row.program]
