"""Test-then-train on windows of a series, several networks side by side."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner
from experiments.models.gru import GRU
from experiments.studies.chaotic_series.methods import METHODS, MethodName, rate_of, with_rate
from experiments.studies.chaotic_series.settings import Settings
from experiments.studies.chaotic_series.streams import WINDOW, StreamName, windows_of

CHUNKS = 10
"""Calls of the compiled program per training."""


class Key(NamedTuple):
    """Names of a training; `start` is the initial or fixed learning rate, None for the method's."""

    stream: StreamName
    method: MethodName
    start: float | None


class Course(NamedTuple):
    """Results of a training of several networks.

    Attributes:
      losses: f32[steps, seeds], half the mean squared error of each batch before it trains.
      at_average: f32[steps, seeds], the same at the average that `jd.self_tuning` keeps; equal to
        `losses` for other methods.
      rates: f32[steps, seeds], the learning rate of each step; of several, the geometric mean.
    """

    losses: np.ndarray
    at_average: np.ndarray
    rates: np.ndarray


class Forecaster(nnx.Module):
    """A GRU and a linear layer: windows f32[batch, time] to the next points f32[batch]."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.gru = GRU(1, width, rngs=rngs)
        self.head = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, windows: jax.Array) -> jax.Array:
        """Returns the forecasts of a batch of windows."""
        return self.head(self.gru(windows[..., None])[1])[..., 0]


def train(settings: Settings, key: Key, title: str, progress: runner.Progress) -> Course:
    """Trains networks on a stream; networks and windows are the same for all methods."""
    begin, chunk = _programs(key.method, settings.width, settings.batch_size)
    windows = windows_of(key.stream, settings.steps)
    series, count = jnp.asarray(windows.series), jnp.asarray(windows.count)
    params, state, keys = begin(jax.random.split(jax.random.key(settings.seed), settings.seeds))
    if key.start is not None:
        state = with_rate(state, key.start)
    carry, records = (params, state, keys), []
    for numbers in np.array_split(np.arange(settings.steps), CHUNKS):
        began = time.monotonic()
        carry, record = chunk(carry, numbers, windows.first[numbers], series, count)
        records.append([np.asarray(each).T for each in record])
        speed = len(numbers) / (time.monotonic() - began)
        loss = float(np.median(records[-1][0]))
        progress.advance(title, steps=len(numbers), loss=loss, steps_per_second=speed)
    return Course(*(np.concatenate(parts) for parts in zip(*records, strict=True)))


@functools.cache
def _programs(method: MethodName, width: int, batch_size: int) -> Any:
    """Returns compiled functions that draw the networks, and that train them for some steps."""
    row = METHODS[method]
    tx = optax.with_extra_args_support(row.make())
    graph = nnx.graphdef(Forecaster(width, nnx.Rngs(0)))

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        forecasts = nnx.merge(graph, params)(batch[:, :WINDOW])
        return jnp.mean((forecasts - batch[:, WINDOW]) ** 2) / 2

    @jax.jit
    @jax.vmap
    def begin(key: jax.Array) -> Any:
        for_params, for_windows = jax.random.split(key)
        params = nnx.state(Forecaster(width, nnx.Rngs(for_params)), nnx.Param)
        return params, tx.init(params), for_windows

    @functools.partial(jax.jit, donate_argnums=0)
    @functools.partial(jax.vmap, in_axes=(0, None, None, None, None))
    def chunk(
        carry: Any, numbers: jax.Array, first: jax.Array, series: jax.Array, count: jax.Array
    ) -> Any:
        params, state, key = carry

        def step(carry: Any, row_of_step: Any) -> Any:
            params, state = carry
            number, first = row_of_step
            drawn = jax.random.randint(jax.random.fold_in(key, number), (batch_size,), 0, count)
            batch = series[(first + drawn)[:, None] + jnp.arange(WINDOW + 1)]
            value, grads = jax.value_and_grad(loss)(params, batch)
            at_average = value
            if row.is_averaged:
                at_average = loss(jd.averaged_params(state, params), batch)
            record = value, at_average, rate_of(state)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), record

        (params, state), record = jax.lax.scan(step, (params, state), (numbers, first))
        return (params, state, key), record

    return begin, chunk
