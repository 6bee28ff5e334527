"""Fine-tuning: all weights, or only low-rank changes of them.

The change of a weight W is A B with A random and B = 0 at the start, so that training starts at W.

Source: E. Hu et al. 2021, "LoRA", arXiv:2106.09685.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem
from experiments.tuning.problems import digits
from experiments.tuning.problems.networks import (
    apply_layers,
    cross_entropy,
    init_layers,
    train,
)

PRETRAINING_STEPS = 300


def low_rank_regression(size: int = 16, rank: int = 2, batch_size: int = 32) -> Problem:
    """Returns a linear map of 16 features that differs from the known one by a map of rank 1.

    The targets have noise of standard deviation 0.1. The score is the expected squared error of an
    output, at least 0.01.
    """
    noise = 0.1
    keys = jax.random.split(jax.random.key(8), 3)
    known = jax.random.normal(keys[0], (size, size)) / 4
    left, right = (jax.random.normal(key, (size,)) for key in keys[1:])
    change = jnp.outer(left, right) / 4

    def init(key: jax.Array) -> Any:
        return {"A": jax.random.normal(key, (size, rank)) / 4, "B": jnp.zeros((rank, size))}

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, moment
        for_inputs, for_noise = jax.random.split(key)
        x = jax.random.normal(for_inputs, (batch_size, size))
        error = noise * jax.random.normal(for_noise, (batch_size, size))
        return (x, x @ (known + change) + error), env

    def loss(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean((x @ (known + params["A"] @ params["B"]) - y) ** 2)

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return jnp.sum((params["A"] @ params["B"] - change) ** 2) / size + noise**2

    return Problem(init, observe, loss, score)


def rotated_digits(rank: int = 4, batch_size: int = 8) -> Problem:
    """Returns low-rank changes of a digit classifier, for digits that are turned by 90 degrees.

    The MLP 64-64-10 is trained on upright digits first. Biases are trained too. The score is the
    cross entropy on the held-out examples.
    """
    upright, _ = digits.load()
    turned, held_out = digits.load(quarter_turns=1)
    first, second = jax.random.split(jax.random.key(9))
    layers = _train_on(upright, init_layers(first, (64, 64, 10)), second)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, len(layers))
        return [
            {
                "A": len(w) ** -0.5 * jax.random.normal(k, (len(w), rank)),
                "B": jnp.zeros((rank, w.shape[1])),
                "bias": bias,
            }
            for k, (w, bias) in zip(keys, layers, strict=True)
        ]

    def loss(params: Any, batch: Any) -> jax.Array:
        changed = [
            (w + p["A"] @ p["B"], p["bias"]) for p, (w, _) in zip(params, layers, strict=True)
        ]
        return cross_entropy(apply_layers(changed, batch[0]), batch[1])

    return _classification(init, loss, turned, held_out, batch_size)


def new_digits(batch_size: int = 16) -> Problem:
    """Returns a classifier of the digits 5 to 9 that was trained on the digits 0 to 4.

    Each network of the MLP 64-64-5 has a training of its own before, and then a new last layer.
    The score is the cross entropy on the held-out examples.
    """
    old, _ = digits.load(classes=range(5))
    new, held_out = digits.load(classes=range(5, 10))

    def init(key: jax.Array) -> Any:
        first, second, head = jax.random.split(key, 3)
        trained = _train_on(old, init_layers(first, (64, 64, 5)), second)
        return [*trained[:-1], *init_layers(head, (64, 5))]

    def loss(params: Any, batch: Any) -> jax.Array:
        return cross_entropy(apply_layers(params, batch[0]), batch[1])

    return _classification(init, loss, new, held_out, batch_size)


def _classification(init: Any, loss: Any, examples: Any, held_out: Any, batch_size: int) -> Problem:
    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, moment
        return _draw(examples, key, batch_size), env

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return loss(params, held_out)

    return Problem(init, observe, loss, score)


def _draw(examples: Any, key: jax.Array, count: int) -> Any:
    x, y = examples
    chosen = jax.random.randint(key, (count,), 0, len(y))
    return x[chosen], y[chosen]


def _train_on(examples: Any, layers: Any, key: jax.Array) -> Any:
    def loss(layers: Any, key: jax.Array) -> jax.Array:
        x, y = _draw(examples, key, 32)
        return cross_entropy(apply_layers(layers, x), y)

    return jax.jit(partial(train, loss, steps=PRETRAINING_STEPS))(layers, key=key)
