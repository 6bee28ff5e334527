"""What the runner costs beside a bare jitted loop on the same network.

    python -m experiments.benchmarks.runner

Three ways through the same steps of the same network, data and optimizer: a Python loop
over a jitted step and a Python loop over a jitted scan, both written out here with batches
drawn beforehand, and `runner.Loop` with batches through grain, metrics, progress, spending
and a checkpoint every 5 seconds. They take turns in one process, each for as many steps as
fill 20 seconds, and what is printed are medians of the ratios within a turn: of the time
on the wall, and of the processors' time, which what else runs on the machine disturbs less.
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

TURNS, SECONDS, SAVE_EVERY = 4, 20.0, 5.0
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
        stepwise, chunked, managed = _bare_steps(case), _bare_scan(case), _managed(case)
        chunks = _chunks(stepwise)
        ratios = []
        seconds = []
        for turn in range(TURNS):
            # Each is first in every other turn: what runs second finds another machine.
            pair = (stepwise, managed) if turn % 2 else (managed, stepwise)
            taken = {way: way(chunks) for way in pair}
            bare_step, ours = taken[stepwise], taken[managed]
            # A scan of convolutions takes many times as long on a CPU; a few of them will do.
            some = max(1, chunks // 10) if case.task.convolutional else chunks
            bare_scan = chunked(some) * chunks / some
            ratios.append([*(ours / bare_step), *(ours / bare_scan)])
            seconds.append(ours[0])
        rows.append(
            [
                case.name,
                f"{chunks * case.steps_per_chunk:,}",
                f"{min(seconds):.1f}",
                *(_median(each) for each in zip(*ratios, strict=True)),
            ]
        )
    columns = ("network", "steps", "seconds", "wall / steps", "CPU / steps", "wall / scan")
    columns += ("CPU / scan",)
    print(table(columns, rows))
    print(f"Medians of {TURNS} turns (least to most); checkpoints every {SAVE_EVERY:g} s.")


def _cases() -> list[Case]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60_000, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, 60_000, np.int32)
    part = Split(images, labels)
    few = Split(images[:500], labels[:500])
    dataset = Dataset.from_parts("noise", (part, few, few), 10, "drawn here")
    mlp = tasks.supervised(dataset, tasks.Shape("mlp"))
    cnn = tasks.supervised(dataset, tasks.Shape("cnn"))
    text = tasks.load("python_topics", tasks.Shape("transformer"))
    return [
        Case("MLP 784-128-10, batch 256", mlp, 256, 200),
        Case("CNN of 35k, 28 x 28, batch 64", cnn, 64, 20),
        Case("transformer 0.1M, batch 16 x 64", text, 16, 10),
    ]


def _chunks(bare: Callable[[int], np.ndarray]) -> int:
    """As many chunks as fill the seconds."""
    bare(1)
    chunks = 4
    while (seconds := bare(chunks)[0]) < 2.0:
        chunks *= 2
    return int(chunks * SECONDS * 1.05 / seconds) + 1


def _step(case: Case) -> tuple[Any, Callable[..., Any]]:
    """The state, and the step that anybody would write."""
    graph, params = nnx.split(case.task.build(nnx.Rngs(0)))

    def loss_of(params: Any, batch: Any) -> jax.Array:
        return case.task.scores(nnx.merge(graph, params), batch, None)["loss"].mean()

    def step(carry: Any, indices: jax.Array, arrays: Any) -> Any:
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, case.task.batch_of(arrays, indices))
        updates, state = TX.update(grads, state)
        return (optax.apply_updates(params, updates), state), loss

    return (params, TX.init(params)), step


def _drawn(case: Case, chunks: int) -> np.ndarray:
    shape = chunks, case.steps_per_chunk, case.batch_size
    return np.random.default_rng(0).integers(0, case.task.train.examples, shape, np.int32)


def _bare_steps(case: Case) -> Callable[[int], np.ndarray]:
    start, step = _step(case)
    jitted = jax.jit(step, donate_argnums=0)
    arrays = jax.device_put(case.task.train.arrays)
    jitted(jax.tree.map(jax.numpy.copy, start), _drawn(case, 1)[0, 0], arrays)

    def run(chunks: int) -> np.ndarray:
        carry = jax.tree.map(jax.numpy.copy, start)
        batches = _drawn(case, chunks).reshape(-1, case.batch_size)
        began = _clocks()
        loss = None
        for batch in batches:
            carry, loss = jitted(carry, batch, arrays)
        jax.block_until_ready((carry, loss))
        return _clocks() - began

    return run


def _bare_scan(case: Case) -> Callable[[int], np.ndarray]:
    start, step = _step(case)

    def chunk(carry: Any, batches: jax.Array, arrays: Any) -> Any:
        return jax.lax.scan(lambda c, batch: step(c, batch, arrays), carry, batches)

    jitted = jax.jit(chunk, donate_argnums=0)
    arrays = jax.device_put(case.task.train.arrays)
    jitted(jax.tree.map(jax.numpy.copy, start), _drawn(case, 1)[0], arrays)

    def run(chunks: int) -> np.ndarray:
        carry = jax.tree.map(jax.numpy.copy, start)
        batches = _drawn(case, chunks)
        began = _clocks()
        losses = None
        for batch in batches:
            carry, losses = jitted(carry, batch, arrays)
        jax.block_until_ready((carry, losses))
        return _clocks() - began

    return run


def _managed(case: Case) -> Callable[[int], np.ndarray]:
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
        calls=steps if task.convolutional else 1,
    )
    _ = program.flops  # counted once, before the clock starts, like the compilation

    def run(chunks: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as runs:
            settings = runner.Settings(runs=Path(runs), save_every=SAVE_EVERY)
            run = runner.Run.start("benchmark", settings)
            state = train.start(keys)
            began = _clocks()
            with runner.Progress(total=chunks * steps) as progress:
                loop = runner.Loop(
                    run,
                    "line",
                    program,
                    state,
                    chunks=chunks,
                    batches=batches,
                    progress=progress,
                    save_final=True,
                )
                for chunk in loop:
                    loop.log(loss=chunk.metrics.mean(0))
            seconds = _clocks() - began
            run.close()
        return seconds

    return run


def _clocks() -> np.ndarray:
    """The wall's and the processors' seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def _median(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
