"""The cost of the runner relative to a bare jitted loop on the same network.

    python -m experiments.benchmarks.runner

Four programs take the same steps with the same network, data and optimizer: a Python loop over
a jitted step and a Python loop over a jitted scan, both written out here with batches drawn
beforehand, and twice `runner.Loop`, with batches through grain, metrics, progress, footprint
and checkpoints at the default interval and every 5 seconds. They take turns in one process,
each for the number of steps that takes the bare loop 20 seconds. The table has the medians over
the turns of the ratios within a turn, of wall time and of CPU time; other processes on the
machine disturb CPU time less. A turn ends with a checkpoint, so that "default" has one every
20 seconds rather than every 60.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from experiments import runner, tasks
from experiments.data.batches import Batches
from experiments.data.dataset import Dataset, Split
from experiments.runner.report import table

TURNS, SECONDS = 4, 20.0
INTERVALS = {"default": runner.Settings.save_every, "every 5 s": 5.0}
TX = optax.adam(1e-3)


class Case(NamedTuple):
    """A network to train: its task, batch size, and steps in a chunk."""

    name: str
    task: tasks.Task
    batch_size: int
    steps_per_chunk: int


def main() -> None:
    """Prints the table."""
    rows = []
    for case in _cases():
        bare_steps, bare_scan = _bare_steps(case), _bare_scan(case)
        managed = {name: _managed(case, interval) for name, interval in INTERVALS.items()}
        chunks = _count_chunks(bare_steps)
        seconds: list[float] = []
        ratios: list[list[float]] = []
        for turn in range(TURNS):
            programs = {"steps": bare_steps, **managed}
            # The order alternates: the first program finds another machine than the second.
            order = [*programs] if turn % 2 else [*reversed(programs)]
            times = {name: programs[name](chunks) for name in order}
            times["scan"] = bare_scan(chunks)
            seconds.append(times["steps"][0])
            ratios.append(
                [
                    ratio
                    for name in INTERVALS
                    for bare in ("steps", "scan")
                    for ratio in times[name] / times[bare]
                ]
            )
        for number, name in enumerate(INTERVALS):
            columns = [*zip(*ratios, strict=True)][4 * number : 4 * number + 4]
            rows.append(
                [
                    case.name,
                    name,
                    f"{chunks * case.steps_per_chunk:,}",
                    f"{min(seconds):.1f}",
                    *(_median(column) for column in columns),
                ]
            )
    head = ("network", "checkpoints", "steps", "seconds", "wall / steps", "CPU / steps")
    print(table((*head, "wall / scan", "CPU / scan"), rows))
    print(f"Medians of {TURNS} turns (least to most).")


def _cases() -> list[Case]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60_000, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, 60_000, np.int32)
    part = Split(images, labels)
    few = Split(images[:500], labels[:500])
    dataset = Dataset.from_parts("noise", (part, few, few), 10, "drawn here")
    mlp = tasks.supervised(dataset, tasks.ModelConfig("mlp"))
    cnn = tasks.supervised(dataset, tasks.ModelConfig("cnn"))
    text = tasks.load("python_topics", tasks.ModelConfig("transformer"))
    return [
        Case("MLP 784-128-10, batch 256", mlp, 256, 200),
        Case("CNN of 35k, 28 x 28, batch 64", cnn, 64, 20),
        Case("transformer 0.1M, batch 16 x 64", text, 16, 10),
    ]


def _count_chunks(bare: Callable[[int], np.ndarray]) -> int:
    """Returns the number of chunks that take `SECONDS`."""
    bare(1)
    chunks = 4
    while (seconds := bare(chunks)[0]) < 2.0:
        chunks *= 2
    return int(chunks * SECONDS * 1.05 / seconds) + 1


def _step(case: Case) -> tuple[Any, Callable[..., Any]]:
    """Returns the initial state and a plain training step."""
    graph, params = nnx.split(case.task.build(nnx.Rngs(0)))

    def loss_of(params: Any, batch: Any) -> jax.Array:
        return case.task.scores(nnx.merge(graph, params), batch, None)["loss"].mean()

    def step(carry: Any, indices: jax.Array, arrays: Any) -> Any:
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, case.task.batch_of(arrays, indices))
        updates, state = TX.update(grads, state)
        return (optax.apply_updates(params, updates), state), loss

    return (params, TX.init(params)), step


def _draw_batches(case: Case, chunks: int) -> np.ndarray:
    shape = chunks, case.steps_per_chunk, case.batch_size
    return np.random.default_rng(0).integers(0, case.task.train.examples, shape, np.int32)


def _bare_steps(case: Case) -> Callable[[int], np.ndarray]:
    start, step = _step(case)
    jitted = jax.jit(step, donate_argnums=0)
    arrays = jax.device_put(case.task.train.arrays)
    jitted(jax.tree.map(jax.numpy.copy, start), _draw_batches(case, 1)[0, 0], arrays)

    def run(chunks: int) -> np.ndarray:
        carry = jax.tree.map(jax.numpy.copy, start)
        batches = _draw_batches(case, chunks).reshape(-1, case.batch_size)
        began = _clock()
        loss = None
        for batch in batches:
            carry, loss = jitted(carry, batch, arrays)
        jax.block_until_ready((carry, loss))
        return _clock() - began

    return run


def _bare_scan(case: Case) -> Callable[[int], np.ndarray]:
    start, step = _step(case)

    def chunk(carry: Any, batches: jax.Array, arrays: Any) -> Any:
        return jax.lax.scan(lambda c, batch: step(c, batch, arrays), carry, batches)

    jitted = jax.jit(chunk, donate_argnums=0)
    arrays = jax.device_put(case.task.train.arrays)
    jitted(jax.tree.map(jax.numpy.copy, start), _draw_batches(case, 1)[0], arrays)

    def run(chunks: int) -> np.ndarray:
        carry = jax.tree.map(jax.numpy.copy, start)
        batches = _draw_batches(case, chunks)
        began = _clock()
        losses = None
        for batch in batches:
            carry, losses = jitted(carry, batch, arrays)
        jax.block_until_ready((carry, losses))
        return _clock() - began

    return run


def _managed(case: Case, save_every: float) -> Callable[[int], np.ndarray]:
    task, steps = case.task, case.steps_per_chunk
    train = runner.trainer(task.build, task.batch_of, task.scores, TX)
    batches = Batches(task.train.examples, case.batch_size, seeds=[0], replacement=task.replacement)
    keys = jax.random.split(jax.random.key(0), 1)
    program = runner.Program(
        train.chunk,
        train.start(keys),
        steps_per_chunk=steps,
        feed=batches.chunk(0, steps),
        constants=(task.train.arrays,),
    )
    _ = program.flops  # counted once, before the clock starts, like the compilation

    def run(chunks: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as runs:
            settings = runner.Settings(runs=Path(runs), save_every=save_every)
            run = runner.Run.start("benchmark", settings)
            state = train.start(keys)
            began = _clock()
            with runner.Progress(total=chunks * steps) as progress:
                loop = runner.Loop(
                    run,
                    "series",
                    program,
                    state,
                    chunks=chunks,
                    batches=batches,
                    progress=progress,
                    save_final=True,
                )
                for chunk in loop:
                    loop.log(loss=chunk.metrics.mean(0))
            seconds = _clock() - began
            run.close()
        return seconds

    return run


def _clock() -> np.ndarray:
    """Returns wall time and CPU time in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def _median(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
