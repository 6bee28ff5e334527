"""Training on one task after another, compiled once for all tasks."""

import functools
import itertools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.studies.plasticity.methods import DRAW, METHODS, MethodName
from experiments.studies.plasticity.settings import Change, Settings
from experiments.studies.plasticity.tasks import Images, draw_order, inputs_at

HIDDEN = 100
PROBE = 256
"""Images at which the activations are measured after each task."""
MOST_TASKS = 10
"""Tasks of one call of the compiled program, at most."""


class Course(NamedTuple):
    """Results of a method on all tasks, for several networks.

    Attributes:
      accuracy: f32[tasks, seeds], mean online accuracy of each task.
      at_average: f32[tasks, seeds], the same at the average that `jd.self_tuning` keeps; equal to
        `accuracy` for other methods.
      dormant: f32[tasks, seeds], share of hidden units that are silent after each task.
      rank: f32[tasks, seeds], effective rank of the last hidden activations after each task.
      replaced: i32[seeds], number of units replaced.
    """

    accuracy: np.ndarray
    at_average: np.ndarray
    dormant: np.ndarray
    rank: np.ndarray
    replaced: np.ndarray


def init(key: jax.Array, pixels: int) -> list[dict[str, jax.Array]]:
    """Draws a network of two hidden layers with 100 units each."""
    shapes = itertools.pairwise((pixels, HIDDEN, HIDDEN, 10))
    return [
        {"kernel": DRAW(key, shape, jnp.float32), "bias": jnp.zeros(shape[1])}
        for key, shape in zip(jax.random.split(key, 3), shapes, strict=True)
    ]


def forward(params: Any, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the logits and the activations of the hidden layers."""
    hidden = []
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        hidden.append(x)
    return x @ params[-1]["kernel"] + params[-1]["bias"], hidden


def train(
    settings: Settings,
    images: Images,
    change: Change,
    method: MethodName,
    title: str,
    progress: runner.Progress,
) -> Course:
    """Trains several networks by one method on all tasks."""
    begin, chunk = _programs(method, settings.batch_size)
    pixels, labels = jnp.asarray(images.pixels), jnp.asarray(images.labels)
    keys = jax.random.split(jax.random.key(settings.seed), settings.num_seeds)
    carry, gradual = begin(keys, pixels), jnp.asarray(change == "gradual")
    records = []
    count = max(n for n in range(1, MOST_TASKS + 1) if settings.num_tasks % n == 0)
    for first in range(0, settings.num_tasks, count):
        began = time.monotonic()
        carry, record = chunk(carry, jnp.arange(first, first + count), gradual, pixels, labels)
        record = [np.asarray(x).T for x in record]
        records.append(record)
        steps = count * (settings.images // settings.batch_size)
        rate = steps / (time.monotonic() - began)
        progress.advance(
            title, steps=steps, loss=1 - float(record[0][-1].mean()), steps_per_second=rate
        )
    measured = [np.concatenate(parts) for parts in zip(*records, strict=True)]
    return Course(*measured, replaced=_replaced(carry[1], settings.num_seeds))


def _replaced(state: Any, seeds: int) -> np.ndarray:
    if isinstance(state, jd.streaming.ContinualBackpropState):
        return np.sum([layer.replaced for layer in state.layers], axis=0)
    if isinstance(state, jd.streaming.RedoState):
        return np.asarray(state.replaced).sum(-1)
    return np.zeros(seeds, int)


@functools.cache
def _programs(method: MethodName, batch_size: int) -> Any:
    """Returns compiled functions that draw the networks and that train them on several tasks.

    Both return the carry: parameters, optimizer state and key, each for all networks.
    """
    row = METHODS[method]
    is_averaged = method.startswith("self_tuning")
    # The states hold keys of their own; the transformation itself is the same for all networks.
    tx = row.make(jax.random.key(0))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def begin(key: jax.Array, pixels: jax.Array) -> Any:
        init_key, method_key, key = jax.random.split(key, 3)
        params = init(init_key, pixels.shape[1])
        return params, row.make(method_key).init(params), key

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(
        carry: Any, tasks: jax.Array, gradual: jax.Array, pixels: jax.Array, labels: jax.Array
    ) -> Any:
        def one_network(carry: Any) -> Any:
            return jax.lax.scan(
                lambda carry, task: run_task(carry, task, gradual, pixels, labels), carry, tasks
            )

        return jax.vmap(one_network)(carry)

    def run_task(
        carry: Any, task: jax.Array, gradual: jax.Array, pixels: jax.Array, labels: jax.Array
    ) -> Any:
        params, state, key = carry
        images, width = pixels.shape
        order = draw_order(key, task + 1, gradual, images, width, batch_size)
        if row.new_task is not None:
            new_key = jax.random.fold_in(jax.random.fold_in(key, 2**20), task)
            changed = row.new_task(new_key, params, state)
            params, state = jax.tree.map(
                lambda new, old: jnp.where(task > 0, new, old), changed, (params, state)
            )
        steps = len(order.examples)

        def step(carry: Any, number: jax.Array) -> Any:
            params, state = carry
            chosen = order.examples[number]
            x, y = pixels[chosen][:, inputs_at(order, number / steps)], labels[chosen]

            def loss(params: Any) -> Any:
                logits, hidden = forward(params, x)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                return jnp.mean(losses), (logits, hidden)

            (value, (logits, hidden)), grads = jax.value_and_grad(loss, has_aux=True)(params)
            accuracy = jnp.mean(jnp.argmax(logits, -1) == y)
            at_average = accuracy
            if is_averaged:
                averaged, _ = forward(jd.averaged_params(state, params), x)
                at_average = jnp.mean(jnp.argmax(averaged, -1) == y)
            extra = {"activations": hidden} if row.takes_activations else {}
            if is_averaged:
                extra["value"] = value
            updates, state = tx.update(grads, state, params, **extra)
            return (optax.apply_updates(params, updates), state), (accuracy, at_average)

        (params, state), accuracies = jax.lax.scan(step, (params, state), jnp.arange(steps))
        seen = pixels[:PROBE][:, inputs_at(order, jnp.float32(1))]
        hidden = forward(params, seen)[1]
        dormant = jnp.concatenate([jd.streaming.dormant_units(h) for h in hidden])
        record = (*map(jnp.mean, accuracies), jnp.mean(dormant))
        return (params, state, key), (*record, jd.streaming.effective_rank(hidden[-1]))

    return begin, chunk
