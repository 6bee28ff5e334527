"""Stepping in compiled chunks: many steps a call, data on the device, one compile.

A study gives one function that takes the carried state through a whole chunk (a
`lax.scan`, an epoch, say). It is compiled before the clock starts, its carry is donated,
and metrics come to the host once a chunk.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np

import jaxdescent as jd


class Program:
    """A chunk's function, compiled once and run from any number of starts.

    Args:
      advance: from `(carry, feed, *constants)` to `(carry, metrics)`.
      carry: an example of the carry, arrays or shapes.
      steps_per_chunk: how many steps a chunk has.
      feed: an example of what each chunk is given; by default the chunk's number.
      constants: arrays that every chunk is given, a data set for example. Arrays that
        `advance` closes over instead are folded into the program, which takes long.
      calls: in how many calls of `advance` a chunk is made, each with its share of the feed
        along the first axis; the metrics are put together along theirs. On a CPU, XLA runs
        convolutions several times slower within a loop, so a call for each step is better
        (`experiments.benchmarks.runner`, "scan").

    Example:
      >>> program = Program(lambda x, i, y: (x + y, i), 0.0, steps_per_chunk=1, constants=(2.0,))
      >>> carry, metrics, seconds = program(1.0, 7)
      >>> float(carry), int(metrics)
      (3.0, 7)
    """

    def __init__(
        self,
        advance: Callable[..., Any],
        carry: Any,
        *,
        steps_per_chunk: int,
        feed: Any = 0,
        constants: tuple[Any, ...] = (),
        calls: int = 1,
    ):
        if calls < 1 or steps_per_chunk % calls:
            raise ValueError(f"calls must divide the {steps_per_chunk} steps, got {calls}")
        self.steps_per_chunk, self._calls = steps_per_chunk, calls
        self._constants = jax.device_put(constants)
        self._jitted = jax.jit(advance, donate_argnums=0)
        if calls > 1:
            feed = self._share(feed, 0)
        self._shapes = jax.eval_shape(lambda *arguments: arguments, carry, feed, *constants)
        began = time.perf_counter()
        self._compiled = self._jitted.lower(carry, feed, *self._constants).compile()
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, carry: Any, feed: Any) -> tuple[Any, Any, float]:
        """The carry after a chunk, its metrics as numpy arrays, and the seconds it took.

        The carry that was given is given up.
        """
        began = time.perf_counter()
        if self._calls == 1:
            carry, metrics = self._compiled(carry, feed, *self._constants)
            metrics = jax.device_get(metrics)
        else:
            parts = []
            for call in range(self._calls):
                share = self._share(feed, call)
                carry, part = self._compiled(carry, share, *self._constants)
                parts.append(part)
            parts = jax.device_get(parts)
            metrics = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        return carry, metrics, time.perf_counter() - began

    @cached_property
    def flops(self) -> jd.footprint.Flops:
        """Floating-point operations of a call of `advance`."""
        return jd.footprint.flops(self._jitted, *self._shapes)

    @property
    def steps_per_call(self) -> int:
        """How many steps `advance` takes in a call."""
        return self.steps_per_chunk // self._calls

    def _share(self, feed: Any, call: int) -> Any:
        size = self.steps_per_call
        return jax.tree.map(lambda leaf: leaf[call * size : (call + 1) * size], feed)
