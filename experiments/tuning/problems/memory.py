"""Sequences whose answer depends on distant inputs, for recurrent networks.

Sources: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997
(adding, and recall after distractors); K. Cho et al. 2014, arXiv:1406.1078 (GRU).
"""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem
from experiments.tuning.problems.networks import cross_entropy

HELD_OUT = 256  # sequences
ADDED = 2e-3  # to the squared error of sums, whose variance is 1/6


def adding(length: int = 30, width: int = 20, batch_size: int = 16) -> Problem:
    """Returns the sum of two marked numbers of a sequence, one in each half, for a GRU.

    The score is the squared error on 256 held-out sequences plus 0.002, so that the ratio of two
    scores is near 1 where both networks have learned the task.
    """

    def draw(key: jax.Array, count: int) -> Any:
        numbers, first, second = jax.random.split(key, 3)
        values = jax.random.uniform(numbers, (count, length))
        half = length // 2
        marks = jax.nn.one_hot(jax.random.randint(first, (count,), 0, half), length)
        marks += jax.nn.one_hot(jax.random.randint(second, (count,), half, length), length)
        return jnp.stack([values, marks], -1), (values * marks).sum(1)

    def init(key: jax.Array) -> Any:
        return _init_recurrent(key, 2, width, 3, 1)

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, moment
        return draw(key, batch_size), env

    def loss(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean((_gru(params, x)[:, 0] - y) ** 2)

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return loss(params, draw(jax.random.key(6), HELD_OUT)) + ADDED

    return Problem(init, observe, loss, score)


def recall(length: int = 12, symbols: int = 4, width: int = 16, batch_size: int = 16) -> Problem:
    """Returns recall of the first symbol of a sequence after random symbols, for an LSTM.

    The score is the cross entropy on 256 held-out sequences plus 0.02.
    """

    def draw(key: jax.Array, count: int) -> Any:
        sequences = jax.random.randint(key, (count, length), 0, symbols)
        return jax.nn.one_hot(sequences, symbols), sequences[:, 0]

    def init(key: jax.Array) -> Any:
        params = _init_recurrent(key, symbols, width, 4, symbols)
        return {**params, "bias": params["bias"].at[width : 2 * width].set(1.0)}  # forget gate

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, moment
        return draw(key, batch_size), env

    def loss(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        return cross_entropy(_lstm(params, x), y)

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return loss(params, draw(jax.random.key(7), HELD_OUT)) + 0.02

    return Problem(init, observe, loss, score)


def _init_recurrent(key: jax.Array, inputs: int, width: int, gates: int, outputs: int) -> Any:
    keys = jax.random.split(key, 3)
    return {
        "input": 0.5 * jax.random.normal(keys[0], (inputs, gates * width)),
        "hidden": width**-0.5 * jax.random.normal(keys[1], (width, gates * width)),
        "bias": jnp.zeros(gates * width),
        "output": width**-0.5 * jax.random.normal(keys[2], (width, outputs)),
        "output_bias": jnp.zeros(outputs),
    }


def _gru(params: Any, x: jax.Array) -> jax.Array:
    """Maps f32[batch, time, inputs] to the outputs after the last time step."""
    width = len(params["hidden"])

    def cell(h: jax.Array, from_input: jax.Array) -> Any:
        from_hidden = h @ params["hidden"]
        gates = jax.nn.sigmoid(from_input[:, : 2 * width] + from_hidden[:, : 2 * width])
        reset, keep = jnp.split(gates, 2, axis=1)
        new = jnp.tanh(from_input[:, 2 * width :] + reset * from_hidden[:, 2 * width :])
        return keep * h + (1 - keep) * new, None

    inputs = (x @ params["input"] + params["bias"]).swapaxes(0, 1)
    h, _ = jax.lax.scan(cell, jnp.zeros((len(x), width)), inputs)
    return h @ params["output"] + params["output_bias"]


def _lstm(params: Any, x: jax.Array) -> jax.Array:
    """Maps f32[batch, time, inputs] to the outputs after the last time step."""
    width = len(params["hidden"])

    def cell(carry: Any, from_input: jax.Array) -> Any:
        h, c = carry
        write, keep, read, new = jnp.split(from_input + h @ params["hidden"], 4, axis=1)
        c = jax.nn.sigmoid(keep) * c + jax.nn.sigmoid(write) * jnp.tanh(new)
        return (jax.nn.sigmoid(read) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), width))
    inputs = (x @ params["input"] + params["bias"]).swapaxes(0, 1)
    (h, _), _ = jax.lax.scan(cell, (zeros, zeros), inputs)
    return h @ params["output"] + params["output_bias"]
