"""Time and memory of low-rank evolution strategies on a network of a million parameters.

    python -m experiments.benchmarks.low_rank

Each way estimates one gradient of a perceptron of 784-896-320-10 units on a batch of 32 examples,
from N samples in chunks of 64.

    in factors      `jd.estimators.low_rank_es`, rank 1
    every matrix    the same estimator, but the matrices of all samples of a chunk are computed
    one by one      the same in chunks of two samples, whose losses are computed in turn
    Gaussian        `jd.estimators.smoothed`, which draws and stores all samples (N = 64 only)
    one network     the loss of N x 32 examples at the parameters: the cost without perturbations

The first way can take less time than the last. Its samples see the same examples, so that they
share the product of the first layer.

Every turn runs all ways, in rotating order. The tables show the median CPU time of a way and the
median over turns of its ratio to the first way, and the memory that XLA allocates in units of the
parameters: arguments, outputs and temporaries.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table

SIZES, BATCH, SIGMA = (784, 896, 320, 10), 32, 0.01
CHUNK, SMALL_CHUNK = 64, 8
SAMPLES, MEMORY_SAMPLES, TURNS = (64, 128, 256), (64, 1024, 16384), 5
KEY = jax.random.key(0)


def network() -> Any:
    """Returns the parameters of a perceptron."""
    keys = jax.random.split(KEY, len(SIZES) - 1)
    return [
        {"w": jax.random.normal(key, (m, n)) / np.sqrt(m), "b": jnp.zeros(n)}
        for key, (m, n) in zip(keys, itertools.pairwise(SIZES), strict=True)
    ]


def loss(params: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the cross entropy of f[n, 784] and labels i32[n]."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    logits = x @ params[-1]["w"] + params[-1]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def loss_of_matrices(params: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the loss; its first operation on the parameters does not keep them in factors."""
    return loss(jax.lax.optimization_barrier(params), x, labels)


def batch(size: int) -> tuple[jax.Array, jax.Array]:
    """Returns random examples."""
    return jax.random.normal(KEY, (size, SIZES[0])), jnp.arange(size) % SIZES[-1]


def compiled(estimator: jd.estimators.Estimator, function: Callable[..., Any]) -> Any:
    """Returns a compiled estimate of a gradient."""
    step = jax.jit(estimator.value_and_grad(function))
    return step.lower(network(), *batch(BATCH), key=KEY).compile()


def low_rank(num_samples: int, chunk_size: int = CHUNK) -> jd.estimators.Estimator:
    """Returns the estimator of the benchmark."""
    return jd.estimators.low_rank_es(SIGMA, num_samples, chunk_size=chunk_size)


def seconds(run: Callable[[], Any]) -> float:
    """Returns the CPU time of a call."""
    began = time.process_time()
    jax.block_until_ready(run())
    return time.process_time() - began


def ways(num_samples: int) -> dict[str, Callable[[], Any]]:
    """Returns compiled functions without arguments."""
    in_turn = jax.custom_batching.sequential_vmap(loss_of_matrices)
    params, few, many = network(), batch(BATCH), batch(BATCH * num_samples)
    programs = {
        "in factors": compiled(low_rank(num_samples), loss),
        "every matrix": compiled(low_rank(num_samples), loss_of_matrices),
        "one by one": compiled(low_rank(num_samples, 2), in_turn),
    }
    if num_samples == SAMPLES[0]:
        smoothed = jd.estimators.smoothed(SIGMA, num_samples)
        programs["Gaussian"] = compiled(smoothed, loss)
    forward = jax.jit(loss).lower(params, *many).compile()
    estimates = {
        name: lambda program=program: program(params, *few, key=KEY)
        for name, program in programs.items()
    }
    return estimates | {"one network": lambda: forward(params, *many)}


def time_table() -> str:
    """Returns the table of times."""
    rows = []
    for num_samples in SAMPLES:
        runs = ways(num_samples)
        names = list(runs)
        for name in names:
            seconds(runs[name])
        turns = []
        for turn in range(TURNS):
            start = turn % len(names)
            order = names[start:] + names[:start]
            turns.append({name: seconds(runs[name]) for name in order})
        for name in names:
            median = statistics.median(turn[name] for turn in turns)
            ratio = statistics.median(turn[name] / turn[names[0]] for turn in turns)
            rows.append((f"{num_samples}", name, f"{1000 * median:.0f}", f"{ratio:.2f}"))
    return table(("samples", "way", "CPU milliseconds", "relative to the first"), rows)


def memory_table() -> str:
    """Returns the table of memory."""
    one_copy = sum(x.nbytes for x in jax.tree.leaves(network()))
    rows = []
    cases = ((loss, SMALL_CHUNK), (loss, CHUNK), (loss_of_matrices, CHUNK))
    for num_samples, (function, chunk) in itertools.product(MEMORY_SAMPLES, cases):
        analysis: Any = compiled(low_rank(num_samples, chunk), function).memory_analysis()
        sizes = (
            analysis.argument_size_in_bytes,
            analysis.output_size_in_bytes,
            analysis.temp_size_in_bytes,
        )
        way = "in factors" if function is loss else "every matrix"
        rows.append(
            (f"{num_samples}", f"{chunk}", way, *(f"{size / one_copy:.2f}" for size in sizes))
        )
    return table(("samples", "chunk", "way", "arguments", "outputs", "temporaries"), rows)


def main() -> None:
    """Prints both tables."""
    count = sum(x.size for x in jax.tree.leaves(network()))
    device = jax.devices()[0].device_kind
    print(f"{device}; {count:,} parameters, batch of {BATCH}, chunks of {CHUNK}")
    print(time_table())
    print("Memory, in copies of the parameters")
    print(memory_table())


if __name__ == "__main__":
    main()
