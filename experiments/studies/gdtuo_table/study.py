"""Trains every row of the published table."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.data import Split, digits, files, mnist
from experiments.studies.gdtuo_table import published, report, rules
from experiments.studies.gdtuo_table.published import Published, Row
from experiments.studies.gdtuo_table.training import Line, Outcome, Outcomes, Task, epoch, start

EPOCHS = {"smoke": 1, "small": 30, "full": 30}
# Ours, from its default start: nothing is chosen.
SELF_TUNING = {
    "self-tuning SGD": optax.sgd,
    "self-tuning momentum": partial(optax.sgd, momentum=0.9),
    "self-tuning Adam": optax.adam,
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the table.

    At smoke the digits are used; at small MNIST, if a folder is named, or else the digits;
    at full MNIST.
    """

    data_dir: Path | None = None
    """The folder of MNIST's files; by default the environment's JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 2:
            raise ValueError(f"--seeds must be in [2, inf), got {self.seeds}")


def check(settings: Settings) -> None:
    """Raises ValueError if the data is missing."""
    _task(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every line and draws the picture."""
    task = _task(settings)
    run.pin("data", task.digest())
    on_mnist = task.name == "mnist"
    count = sum(1 if row.learned is None else 2 for row in published.ROWS) + len(SELF_TUNING)
    train = _trainer(task, settings, run)
    outcomes: Outcomes = []
    total = count * EPOCHS[settings.scale] * task.steps
    with runner.Progress(total=total) as progress:
        for row in published.ROWS:
            line = _line(row, published=on_mnist)
            outcomes.append((line, train(line, progress)))
            if row.learned is not None:
                here = outcomes[-1][1].learned_after(-1)
                again = _rerun(row, row.learned if on_mnist else here, published=on_mnist)
                outcomes.append((again, train(again, progress)))
        for line in map(_self_tuning, SELF_TUNING):
            outcomes.append((line, train(line, progress)))
    run.save_figure("gdtuo_table", report.draw(outcomes))
    return report.results(task, outcomes)


@lru_cache(1)  # asked for by the check and by the run
def _task(settings: Settings) -> Task:
    named = settings.data_dir is not None or bool(os.environ.get(files.VARIABLE))
    if settings.scale == "full" or (settings.scale == "small" and named):
        data = mnist.load(settings.data_dir)
        pixel, hidden, batch_size = 255.0, 128, 256
    else:
        data = digits.load()
        pixel, hidden, batch_size = 1.0, 32, 32
    parts = zip(data.train, data.validation, strict=True)
    train = Split(*map(np.concatenate, parts))
    flat = lambda part: Split(part.inputs.reshape(len(part.inputs), -1), part.targets)
    return Task(data.name, flat(train), flat(data.test), pixel, hidden, batch_size, data.source)


def _line(row: Row, *, published: bool) -> Line:
    """A row of the paper, without its rerun."""
    if row.learned is None:
        starts = rules.RULES[row.base].starts
        return _fixed(row.name, row.base, starts, row.published if published else None)
    bottom = rules.RULES[row.levels[0].rule]
    return Line(
        row.name,
        row.name,
        partial(rules.tower, row.levels),
        lambda state: rules.natural(row.levels[0].rule, jd.get_hyperparams(state)[0]),
        row.published if published else None,
        {name: row.learned[name] for name in bottom.starts} if published else None,
    )


def _rerun(row: Row, values: Mapping[str, float], *, published: bool) -> Line:
    """The plain rule at what the tower learned."""
    values = {**rules.RULES[row.base].starts, **values}
    return _fixed(f"{row.name} (x)", row.base, values, row.rerun if published else None)


def _fixed(name: str, rule: str, values: Mapping[str, float], published: Published | None) -> Line:
    make = lambda: optax.inject_hyperparams(rules.RULES[rule].factory)(**rules.raw(rule, values))
    learned = lambda state: rules.natural(rule, {n: state.hyperparams[n] for n in values})
    return Line(name, f"fixed {rule}", make, learned, published)


def _self_tuning(name: str) -> Line:
    return Line(
        name,
        name,
        lambda: jd.self_tuning(SELF_TUNING[name]),
        lambda state: {"alpha": jd.get_hyperparams(state)[0]["learning_rate"]},
        judged=lambda network, state: jd.averaged_params(state, network),
    )


def _trainer(
    task: Task, settings: Settings, run: runner.Run
) -> Callable[[Line, runner.Progress], Outcome]:
    """What trains a line, or takes up what it came to before the run was resumed."""
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    sizes = (task.train.inputs.shape[1], task.hidden, 10)
    networks = jax.vmap(lambda key: start(key, sizes))(keys)
    data = jax.device_put((task.train, task.test))
    epochs = EPOCHS[settings.scale]
    programs: dict[str, runner.Program] = {}

    def program_of(line: Line, carry: Any) -> runner.Program:
        if line.structure not in programs:
            advance = epoch(task, line, keys)
            steps = task.steps
            programs[line.structure] = runner.Program(
                advance, carry, steps_per_chunk=steps, constants=data
            )
        return programs[line.structure]

    def compute(line: Line, progress: runner.Progress) -> dict[str, Any]:
        carry = jax.tree.map(jnp.copy, (networks, jax.vmap(line.make().init)(networks)))
        program = program_of(line, carry)
        loop = runner.Loop(run, line.name, program, carry, chunks=epochs, progress=progress)
        for chunk in loop:
            losses, errors, learned = chunk.metrics
            loop.log(loss=losses, test_error=errors, **learned)
        history = run.log.read(line.name)
        column = lambda name: np.array([record[name] for record in history], np.float32)
        names = line.learned(jax.tree.map(lambda leaf: leaf[0], loop.carry[1]))
        learned = {name: column(name) for name in names}
        return {"losses": column("loss"), "errors": column("test_error"), **learned}

    def train(line: Line, progress: runner.Progress) -> Outcome:
        outcome = dict(run.once(line.name, partial(compute, line, progress)))
        return Outcome(outcome.pop("losses"), outcome.pop("errors"), outcome)

    return train
