"""The time of convolutions by matrix products and by XLA, inside of a loop and outside.

    python -m experiments.benchmarks.convolution

Gradient steps of networks of images of 32 x 32 pixels, 128 in a batch: a call per step, and one
call of a loop over steps. The four ways take turns in one process. The table has the medians of the
CPU time of a step, relative to a call per step of XLA's convolution, which is least disturbed by
other processes.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
from flax import nnx

from experiments.models import cnn, resnet
from experiments.models.convolution import convolve
from experiments.runner.report import table

BATCH, STEPS, TURNS = 128, 2, 3
NETWORKS: dict[str, Callable[[], nnx.Module]] = {
    "small network": lambda: cnn.CNN((32, 32, 3), rngs=nnx.Rngs(0)),
    "ResNet-8": lambda: resnet.ResNet(8, rngs=nnx.Rngs(0)),
}


def main() -> None:
    """Prints the table."""
    rows = []
    for name, build in NETWORKS.items():
        ways = {
            "XLA": _steps(build, jax.lax.conv_general_dilated, loop=False),
            "XLA, in a loop": _steps(build, jax.lax.conv_general_dilated, loop=True),
            "products": _steps(build, convolve, loop=False),
            "products, in a loop": _steps(build, convolve, loop=True),
        }
        turns = [{way: run() for way, run in ways.items()} for _ in range(TURNS)]
        for way in ways:
            ratio = statistics.median(turn[way] / turn["XLA"] for turn in turns)
            rows.append([name, way, f"{ratio:.2f}"])
    print(table(("network", "convolutions", "CPU time of a step"), rows))
    print(f"Medians of {TURNS} turns, relative to XLA with a call per step.")


def _steps(build: Callable[[], nnx.Module], convolution: Any, *, loop: bool) -> Callable[[], float]:
    """Returns a function that takes `STEPS` compiled steps; returns their CPU time."""
    images = np.random.default_rng(0).normal(size=(BATCH, 32, 32, 3)).astype(np.float32)
    labels = np.arange(BATCH) % 10
    patch = mock.patch.object
    with patch(cnn, "convolve", convolution), patch(resnet, "convolve", convolution):
        graph, params, state = nnx.split(build(), nnx.Param, ...)

    def loss(params: Any) -> jax.Array:
        logits = nnx.merge(graph, params, state, copy=True)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(params: Any) -> Any:
        return optax.tree.add_scale(params, -0.01, jax.grad(loss)(params))

    def steps(params: Any) -> Any:
        return jax.lax.fori_loop(0, STEPS, lambda _, params: step(params), params)

    compiled = jax.jit(steps if loop else step).lower(params).compile()

    def run() -> float:
        current, began = params, time.process_time()
        for _ in range(1 if loop else STEPS):
            current = compiled(current)
        jax.block_until_ready(current)
        return time.process_time() - began

    run()
    return run


if __name__ == "__main__":
    main()
