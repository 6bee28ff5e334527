"""Time and memory of linear_cross_entropy, compared with the cross entropy of all logits.

    python -m experiments.benchmarks.linear_head

Each program computes the value and the gradients of features and kernel. Every turn runs both
programs, in alternating order. The table shows the median time ratio over the turns, and XLA's
temporary memory, which excludes arguments and gradients.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.runner.report import table

TURNS = 5
VOCABULARY = 50_257  # GPT-2's
WIDTH = 256
EXAMPLES = (1024, 4096, 8192)


def compile_loss(loss: Any, features: jax.Array, kernel: jax.Array, labels: jax.Array) -> Any:
    """Compiles the value and gradients of a loss."""
    run = jax.jit(jax.value_and_grad(loss, (0, 1)))
    return run.lower(features, kernel, labels).compile()


def full_cross_entropy(features: jax.Array, kernel: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the mean cross entropy with all logits in memory."""
    return jd.losses.masked_mean(jd.losses.cross_entropy(features @ kernel, labels))


def seconds(program: Any, arguments: tuple[jax.Array, ...]) -> float:
    """Returns the duration of a call."""
    began = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - began


def main() -> None:
    """Prints one row per number of examples."""
    print(f"{jax.devices()[0].device_kind}; vocabulary {VOCABULARY:,}, width {WIDTH}")
    kernel = jax.random.normal(jax.random.key(0), (WIDTH, VOCABULARY)) / np.sqrt(WIDTH)
    rows = []
    for count in EXAMPLES:
        features = jax.random.normal(jax.random.key(1), (count, WIDTH))
        labels = jax.random.randint(jax.random.key(2), (count,), 0, VOCABULARY)
        arguments = features, kernel, labels
        programs = [
            compile_loss(loss, *arguments)
            for loss in (full_cross_entropy, jd.losses.linear_cross_entropy)
        ]
        found = [program(*arguments) for program in programs]
        differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), *found)
        times = np.empty((TURNS, 2))
        for turn in range(TURNS):
            for i in (0, 1) if turn % 2 else (1, 0):
                times[turn, i] = seconds(programs[i], arguments)
        plain, head = (program.memory_analysis().temp_size_in_bytes for program in programs)
        rows.append(
            (
                f"{count}",
                f"{np.median(times[:, 0]):.2f}",
                f"{np.median(times[:, 1] / times[:, 0]):.2f}",
                f"{plain / 2**20:.0f}",
                f"{head / 2**20:.0f}",
                f"{plain / head:.1f}",
                f"{max(jax.tree.leaves(differences)):.1e}",
            )
        )
    columns = (
        "examples",
        "full logits, s",
        "time ratio",
        "full logits, MiB",
        "chunked, MiB",
        "memory ratio",
        "largest difference",
    )
    print(table(columns, rows))


if __name__ == "__main__":
    main()
