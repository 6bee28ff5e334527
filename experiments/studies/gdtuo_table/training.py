"""The published example's network and its training: 784-128-10, tanh after both layers.

As in the package's README, pixels are in [0, 1], weights start as `torch.nn.Linear`'s do,
the order of the examples is drawn anew for each epoch, and its last batch is what is left.
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

from experiments.data import Split
from experiments.studies.gdtuo_table.published import Published


class Task(NamedTuple):
    """What is trained on.

    Attributes:
      name: of the data set.
      train: inputs [n, pixels] and labels i32[n].
      test: the same.
      pixel: what a pixel is divided by.
      hidden: units of the hidden layer.
      batch_size: examples in a step.
      source: where the data is from.
    """

    name: str
    train: Split
    test: Split
    pixel: float
    hidden: int
    batch_size: int
    source: str

    @property
    def steps(self) -> int:
        """How many in an epoch; the last batch may be a smaller one."""
        return -(-len(self.train.targets) // self.batch_size)

    def digest(self) -> str:
        """SHA-256 of all examples."""
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Line(NamedTuple):
    """One line of the table.

    Attributes:
      name: as it is printed.
      structure: lines of one structure differ in the numbers of their state alone, and
        share a compiled program.
      make: the optimizer; `value=` gives it the loss.
      learned: from its state to the bottom rule's values.
      published: the paper's error; None if the paper has no such line, or on other data.
      paper_learned: what the paper's tower learned; likewise.
      judged: from the network and the optimizer's state to the network that is tested.
    """

    name: str
    structure: str
    make: Callable[[], optax.GradientTransformation]
    learned: Callable[[Any], dict[str, jax.Array]]
    published: Published | None = None
    paper_learned: Mapping[str, float] | None = None
    judged: Callable[[Any, Any], Any] = lambda network, _: network


class Outcome(NamedTuple):
    """What a line came to; `s` seeds, `e` epochs.

    Attributes:
      losses: f32[e, s], means over an epoch's training batches.
      errors: f32[e, s], on the test images after each epoch, in percent.
      learned: names to f32[e, s], the bottom rule's values after each epoch.
    """

    losses: np.ndarray
    errors: np.ndarray
    learned: dict[str, np.ndarray]

    def learned_after(self, epoch: int) -> dict[str, float]:
        """The means over seeds after an epoch, counted from 0."""
        return {name: float(values[epoch].mean()) for name, values in self.learned.items()}


Outcomes = list[tuple[Line, Outcome]]


def start(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Weights and biases as `torch.nn.Linear` draws them: uniform within 1 / sqrt(inputs)."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        key, *keys = jax.random.split(key, 3)
        bound = inputs**-0.5
        uniform = partial(jax.random.uniform, minval=-bound, maxval=bound)
        layers.append({"w": uniform(keys[0], (inputs, outputs)), "b": uniform(keys[1], (outputs,))})
    return layers


def logits(network: Any, images: jax.Array) -> jax.Array:
    """The network of the published example: tanh after each layer, the last one too."""
    for layer in network:
        images = jnp.tanh(images @ layer["w"] + layer["b"])
    return images


def epoch(task: Task, line: Line, keys: jax.Array) -> Callable[..., Any]:
    """One pass over the training images in an order of each seed's own, and what came of it.

    Args:
      task: what is trained on.
      line: with which optimizer.
      keys: a key for each seed, for the orders.

    Returns:
      A function from `((networks, states), number of the epoch, train, test)` to the carry and
      `(losses, test errors in percent, learned values)`, each f32[seeds].
    """
    count, size, steps = len(task.train.targets), task.batch_size, task.steps
    tx = optax.with_extra_args_support(line.make())
    # The last batch is filled up with examples that weigh nothing.
    weights = (jnp.arange(steps * size) < count).astype(jnp.float32).reshape(steps, size)
    scaled = lambda images: images.astype(jnp.float32) / task.pixel

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
        outputs = logits(line.judged(network, state), scaled(test.inputs))
        wrong = outputs.argmax(-1) != test.targets
        return (network, state), (losses.mean(), 100 * wrong.mean(), line.learned(state))

    def advance(carry: Any, number: jax.Array, train: Split, test: Split) -> Any:
        orders = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        network, state = carry
        return jax.vmap(one_seed, in_axes=(0, 0, 0, None, None))(
            network, state, orders, train, test
        )

    return advance
