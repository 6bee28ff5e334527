"""What a vocabulary costs: linear_cross_entropy beside the cross entropy of all logits.

    python -m experiments.benchmarks.linear_head

Value and gradients for features and kernel. Both programs take turns, in alternating order; the
time is the median over the turns of the ratio within a turn, the bytes are XLA's temporaries,
which do not contain arguments and gradients.
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


def compiled(loss: Any, features: jax.Array, kernel: jax.Array, labels: jax.Array) -> Any:
    """Value and gradients, compiled."""
    run = jax.jit(jax.value_and_grad(loss, (0, 1)))
    return run.lower(features, kernel, labels).compile()


def of_logits(features: jax.Array, kernel: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross entropy of logits that are all built."""
    return jd.losses.masked_mean(jd.losses.cross_entropy(features @ kernel, labels))


def seconds(program: Any, arguments: tuple[jax.Array, ...]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - began


def main() -> None:
    """Prints a row for each number of examples."""
    print(f"{jax.devices()[0].device_kind}; vocabulary {VOCABULARY:,}, width {WIDTH}")
    kernel = jax.random.normal(jax.random.key(0), (WIDTH, VOCABULARY)) / np.sqrt(WIDTH)
    rows = []
    for count in EXAMPLES:
        features = jax.random.normal(jax.random.key(1), (count, WIDTH))
        labels = jax.random.randint(jax.random.key(2), (count,), 0, VOCABULARY)
        arguments = features, kernel, labels
        programs = [
            compiled(loss, *arguments) for loss in (of_logits, jd.losses.linear_cross_entropy)
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
    columns = ("examples", "logits s", "time", "logits MiB", "head MiB", "fewer", "differ by")
    print(table(columns, rows))


if __name__ == "__main__":
    main()
