"""Compiled chunks of steps: many steps per call, data on the device, one compilation.

A study provides one function that advances the carried state by a chunk of steps, for example
a `lax.scan` over an epoch. It is compiled before the clock starts, its carry is donated, and
metrics are copied to the host once per chunk.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np

import jaxdescent as jd
from experiments.runner.mesh import Mesh


class Program:
    """A function that computes a chunk of steps, compiled once.

    Args:
      advance: called as `advance(carry, feed, *constants)`; returns `(carry, metrics)`.
      carry: example of the carry, as arrays or shapes.
      steps_per_chunk: number of steps in a chunk.
      feed: example of the input of a chunk; by default the chunk's number.
      constants: arrays passed to every chunk, for example a data set. Arrays that `advance`
        closes over are constants of the compiled program instead, which compiles slowly.
      mesh: divides the work among devices. The carry's leaves have shardings on it, and a chunk is
        fed what `Batches` yields.

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
        mesh: Mesh | None = None,
    ):
        self.steps_per_chunk = steps_per_chunk
        # Arrays with a sharding cannot be used inside of a `shard_map` over agents.
        self._constants = constants
        if not mesh or mesh.size("agents") == 1:
            self._constants = jax.device_put(constants, mesh and mesh.replicated)
        self._mesh, out_shardings = mesh, None
        if mesh:
            carried = jax.tree.map(lambda leaf: leaf.sharding, carry)
            out_shardings = carried, mesh.replicated
        self._jitted = jax.jit(advance, donate_argnums=0, out_shardings=out_shardings)
        self._shapes = jax.eval_shape(lambda *arguments: arguments, carry, feed, *constants)
        began = time.perf_counter()
        lowered = self._jitted.lower(carry, self._placed(feed), *self._constants)
        self._compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, carry: Any, feed: Any) -> tuple[Any, Any, float]:
        """Returns the carry after a chunk, its metrics as NumPy arrays, and its seconds.

        The given carry is donated.
        """
        began = time.perf_counter()
        carry, metrics = self._compiled(carry, self._placed(feed), *self._constants)
        metrics = jax.device_get(metrics)
        return carry, metrics, time.perf_counter() - began

    def _placed(self, feed: Any) -> Any:
        """Returns the feed on the devices of the mesh; the number of a chunk as it is."""
        if self._mesh is None or not np.ndim(jax.tree.leaves(feed)[0]):
            return feed
        return jax.device_put(feed, self._mesh.feed)

    @cached_property
    def flops(self) -> jd.footprint.Flops:
        """FLOPs of a chunk."""
        return jd.footprint.flops(self._jitted, *self._shapes)
