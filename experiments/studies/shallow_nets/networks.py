"""Networks with one hidden layer, their losses, optimizer and averaged parameters.

A network can be evaluated at a running average of its parameters (`Averaged`; B. Polyak, A.
Juditsky 1992, here with exponential weights), which removes the noise of the last steps.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from experiments.studies.shallow_nets.tasks import TabularTask

HIDDEN_UNITS = 32


def init_networks(key: jax.Array, inputs: int, outputs: int, agents: int) -> dict[str, jax.Array]:
    """Draws initial parameters with a leading axis of agents."""
    first, second = jax.random.split(key)

    def draw(key: jax.Array, rows: int, columns: int) -> jax.Array:
        normal = jax.random.normal(key, (agents, rows, columns))
        return normal / np.sqrt(rows).astype(np.float32)

    return {
        "a": draw(first, inputs, HIDDEN_UNITS),
        "b": jnp.zeros((agents, HIDDEN_UNITS)),
        "c": draw(second, HIDDEN_UNITS, outputs),
        "d": jnp.zeros((agents, outputs)),
    }


def apply_network(params: Any, x: jax.Array) -> jax.Array:
    """Returns the outputs f32[n, outputs] of a tanh network."""
    return jnp.tanh(x @ params["a"] + params["b"]) @ params["c"] + params["d"]


def cross_entropy(params: Any, batch: Any) -> jax.Array:
    """Returns the mean cross entropy in nats."""
    logits = apply_network(params, batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


def squared_error(params: Any, batch: Any) -> jax.Array:
    """Returns the mean squared error in units of the targets' training variance."""
    return jnp.mean((apply_network(params, batch["x"]) - batch["y"]) ** 2)


def loss_of(task: TabularTask) -> Callable[[Any, Any], jax.Array]:
    """Returns the mean loss of a task, called as `loss(params, batch)`."""
    return cross_entropy if task.classes else squared_error


class Averaged(NamedTuple):
    """Running average of the parameters, the model state for `jd.fit`.

    Attributes:
      mean: the average, like the parameters.
      decay: f32[], in [0, 1), the weight of the previous average; 0 keeps the last parameters.
      steps: f32[], the number of averaged parameters. All weigh the same until there are
        1 / (1 - decay) of them.
    """

    mean: Any
    decay: jax.Array
    steps: jax.Array

    @staticmethod
    def init(params: Any, decay: float) -> "Averaged":
        """Returns the averages of agents at their initial parameters."""
        agents = len(jax.tree.leaves(params)[0])
        return Averaged(params, jnp.full(agents, decay, jnp.float32), jnp.zeros(agents))

    def update(self, params: Any) -> "Averaged":
        """Returns the average with these parameters added."""
        weight = jnp.maximum(1 - self.decay, 1 / (self.steps + 1))
        mean = jax.tree.map(lambda mean, x: mean + weight * (x - mean), self.mean, params)
        return Averaged(mean, self.decay, self.steps + 1)


class AveragedLoss(NamedTuple):
    """Loss functions for `jd.fit` whose model state is an `Averaged`.

    Attributes:
      train: called as `train(params, batch, model_state)`; returns the loss and the new state.
      evaluate: called as `evaluate(params, examples, model_state)`; returns the loss at the
        average.
    """

    train: Callable[..., Any]
    evaluate: Callable[..., jax.Array]


@cache
def averaged_loss(loss: Callable[[Any, Any], jax.Array]) -> AveragedLoss:
    """Returns the same object for the same loss, so that compiled programs are reused."""

    def train(params: Any, batch: Any, model_state: Averaged) -> Any:
        return loss(params, batch), {"model_state": model_state.update(params)}

    def evaluate(_params: Any, examples: Any, model_state: Averaged) -> jax.Array:
        return loss(model_state.mean, examples)

    return AveragedLoss(train, evaluate)


def adam(learning_rate: Any, steps: Any, decays: Any) -> optax.GradientTransformation:
    """Adam with the learning rate of `cosine_or_constant`."""
    return optax.adam(cosine_or_constant(learning_rate, steps, decays))


def cosine_or_constant(learning_rate: Any, steps: Any, decays: Any) -> optax.Schedule:
    """Returns cosine decay to 0 over the steps if `decays` is 1, a constant if it is 0."""

    def schedule(count: ArrayLike) -> ArrayLike:
        progress = jnp.minimum(count / steps, 1.0)
        return learning_rate * (1 - decays * (1 - jnp.cos(jnp.pi * progress)) / 2)

    return schedule
