"""Time and memory of a plane: 51 x 51 points, an MLP of a million parameters, 1,000 examples.

    python -m experiments.benchmarks.landscape

Compares `jd.landscape.plane` one point at a time, the default on a CPU, and in batches of points
with a Python loop over a compiled loss and with one `jax.vmap` over all timed points. One plane is
timed as a whole. The other rows are the best of three runs over a subset of its points. Memory is
XLA's temporary allocation, which excludes arguments. The benchmark asserts that another center,
other directions and other data do not recompile.
"""

import functools
import inspect
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.runner.report import table
from jaxdescent.landscape import points

SIZES = (784, 640, 640, 128, 10)
EXAMPLES, SIDE, SUBSET = 1_000, 51, 96
TARGET = 60.0  # seconds, on two cores
BUDGETS = (2, 4, 16)  # points in a batch


def loss(params: Any, batch: Any) -> jax.Array:
    """Returns the mean cross entropy."""
    x, labels = batch
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = x @ last["kernel"] + last["bias"]
    return jnp.mean(jd.losses.cross_entropy(logits, labels))


def network(seed: int) -> Any:
    """Returns the parameters of an MLP, about one million numbers."""
    draw = np.random.default_rng(seed)
    return [
        {
            "kernel": jnp.asarray(draw.normal(size=(m, n)) / np.sqrt(m), jnp.float32),
            "bias": jnp.zeros(n),
        }
        for m, n in pairwise(SIZES)
    ]


def data(seed: int) -> Any:
    """Returns random examples with labels."""
    draw = np.random.default_rng(seed)
    inputs = jnp.asarray(draw.normal(size=(EXAMPLES, SIZES[0])), jnp.float32)
    return inputs, jnp.asarray(draw.integers(0, SIZES[-1], EXAMPLES), jnp.int32)


def seconds(call: Callable[[], Any]) -> float:
    """Returns the seconds that a call takes until its results are ready."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def temporary_bytes(lowered: Any) -> int:
    """Returns the bytes of a program's temporary buffers."""
    return lowered.compile().memory_analysis().temp_size_in_bytes


def in_python(params: Any, directions: Any, batch: Any, weights: np.ndarray) -> list[jax.Array]:
    """Computes the losses in a Python loop over a compiled loss."""
    return [_one(params, directions, batch, w) for w in weights]


@jax.jit
def _one(params: Any, directions: Any, batch: Any, weights: jax.Array) -> jax.Array:
    return loss(points.combination([params, *directions], weights), batch)


@jax.jit
def at_once(params: Any, directions: Any, batch: Any, weights: jax.Array) -> jax.Array:
    """Computes the losses with one vmap."""
    return jax.vmap(_one, (None, None, None, 0))(params, directions, batch, weights)


def main() -> None:
    """Prints one row per method."""
    params, batch = network(0), data(1)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(
        f"{jax.devices()[0].device_kind}; {count:,} parameters, {EXAMPLES:,} examples, "
        f"{SIDE} x {SIDE} points"
    )
    directions = jd.landscape.random_directions(jax.random.key(0), params)
    arguments = params, directions, batch
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **named: Any) -> None:
        del duration_secs
        if event.endswith("backend_compile_duration"):
            compiled.append(str(named))

    jax.monitoring.register_event_duration_secs_listener(listen)
    first = seconds(lambda: jd.landscape.plane(loss, *arguments).values)
    moved = network(2), jd.landscape.random_directions(jax.random.key(1), params), data(3)
    x, busy, before = np.linspace(-2, 2, SIDE), time.process_time(), len(compiled)
    whole = seconds(lambda: jd.landscape.plane(loss, *moved, x=x).values)
    busy = time.process_time() - busy
    if len(compiled) > before:
        raise AssertionError(f"another center was recompiled: {compiled[before:]}")
    verdict = "met" if whole <= TARGET else "MISSED"
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"whole plane: {whole:.1f} s ({busy:.1f} s of CPU; load of the machine {load} on "
        f"{os.cpu_count()} cores), with its one compile {first:.1f} s; {TARGET:g} s is {verdict}"
    )

    side = np.linspace(-1, 1, SIDE)
    grid = [axis.ravel() for axis in np.meshgrid(side, side)]
    weights = np.stack([np.ones(SIDE**2), *grid], axis=1).astype(np.float32)
    subset = weights[:: SIDE**2 // SUBSET][:SUBSET]
    wanted = np.asarray(in_python(*arguments, subset))
    size = points.peak_bytes(loss, params, batch)
    methods: list[tuple[str, Callable[[], Any], Any]] = []
    for many in (1, *BUDGETS):
        chosen = points.chunk_size(loss, params, batch, SUBSET, many * size)
        given = (params, *directions), jnp.asarray(subset), batch
        options = {"loss_fn": loss, "chunk": chosen}
        call = functools.partial(points._losses_of_sums, *given, **options)
        function = functools.partial(inspect.unwrap(points._losses_of_sums), **options)
        program = jax.jit(function).lower(*given)
        methods.append((f"plane, {chosen} in a batch", call, program))
    methods.append(
        ("Python loop", lambda: in_python(*arguments, subset), _one.lower(*arguments, subset[0]))
    )
    methods.append(
        ("one vmap", lambda: at_once(*arguments, subset), at_once.lower(*arguments, subset))
    )
    rows = []
    for name, call, program in methods:
        differs = np.max(np.abs(np.asarray(call()) - wanted))
        took = min(seconds(call) for _ in range(3)) / SUBSET
        temporary = temporary_bytes(program) / 2**20
        rows.append(
            (
                name,
                f"{1e3 * took:.1f}",
                f"{SIDE**2 * took:.0f}",
                f"{temporary:.1f}",
                f"{differs:.0e}",
            )
        )
    print(table(("method", "ms per point", "s per plane", "MiB", "difference"), rows))
    everything = temporary_bytes(at_once.lower(*arguments, weights))
    print(f"One vmap over all {SIDE**2:,} points would allocate {everything / 2**30:.1f} GiB.")
    print(
        f"A point counts as {size / 2**20:.1f} MiB of a memory budget, an estimate before fusion."
    )


if __name__ == "__main__":
    main()
