"""Stepping in compiled chunks: many steps a call, data on the device, one compile.

A study gives one function that takes the carried state through a whole chunk (a
`lax.scan`, an epoch, say). It is compiled before the clock starts, its carry is donated,
and metrics come to the host once a chunk.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax


class Chunk(NamedTuple):
    """What came out of a chunk.

    Attributes:
      carry: the state after it; given back to the next chunk, it must not be kept.
      metrics: numpy arrays, as the study's function returned them.
      steps: the number of steps up to here.
      steps_per_second: of this chunk, host work between chunks not counted.
    """

    carry: Any
    metrics: Any
    steps: int
    steps_per_second: float


class Program:
    """A chunk's function, compiled once and run from any number of starts.

    Args:
      advance: from `(carry, index)` to `(carry, metrics)`; `index` is the chunk's number.
      carry: an example of the carry, arrays or shapes.
      steps_per_chunk: how many steps `advance` takes.
    """

    def __init__(self, advance: Callable[..., Any], carry: Any, *, steps_per_chunk: int):
        began = time.perf_counter()
        self._compiled = jax.jit(advance, donate_argnums=0).lower(carry, 0).compile()
        self.compile_seconds = time.perf_counter() - began
        self.steps_per_chunk = steps_per_chunk

    def run(self, carry: Any, chunks: int) -> Iterator[Chunk]:
        """Runs the chunks one by one; the carry is given up to the program."""
        for index in range(chunks):
            began = time.perf_counter()
            carry, metrics = self._compiled(carry, index)
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - began
            steps = (index + 1) * self.steps_per_chunk
            yield Chunk(carry, metrics, steps, self.steps_per_chunk / seconds)
