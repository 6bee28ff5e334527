"""The published table of hypergradient descent on MNIST, beside what we get.

Every row of Table 1 of "Gradient Descent: The Ultimate Optimizer" (K. Chandra, A. Xie,
J. Ragan-Kelley, E. Meijer, NeurIPS 2022, arXiv:1909.13371): a network of 784-128-10 with
tanh after both layers, log-softmax, batches of 256, 30 epochs, three seeds, side by side.
All values of a tower's levels are learned raw, without a constraint, as published. As in
the package's README, pixels are in [0, 1], weights start as `torch.nn.Linear`'s do, and
the last batch of an epoch is what is left. Without MNIST, on scikit-learn's digits, the
rows can be compared with each other only.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.data import Split, digits, files, mnist
from experiments.gdtuo import rules, table

EPOCHS = {"smoke": 1, "small": 30, "full": 30}


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


class Task(NamedTuple):
    """What is trained on.

    Attributes:
      name: of the data set.
      train: inputs [n, pixels] and labels i32[n].
      test: the same.
      pixel: what a pixel is divided by.
      hidden: units of the hidden layer.
      batch_size: examples in a step.
      source: where the data is from.
    """

    name: str
    train: Split
    test: Split
    pixel: float
    hidden: int
    batch_size: int
    source: str

    @property
    def steps(self) -> int:
        """How many in an epoch; the last batch may be a smaller one."""
        return -(-len(self.train.targets) // self.batch_size)

    def digest(self) -> str:
        """SHA-256 of all examples."""
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Line(NamedTuple):
    """One line of the table.

    Attributes:
      name: as it is printed.
      structure: lines of one structure differ in the numbers of their state alone, and
        share a compiled program.
      make: the optimizer.
      learned: from its state to the bottom rule's values.
      published: the paper's error, if the paper has this line and the data is MNIST.
      paper_learned: what the paper's tower learned, under the same condition.
    """

    name: str
    structure: str
    make: Callable[[], optax.GradientTransformation]
    learned: Callable[[Any], dict[str, jax.Array]]
    published: table.Published | None = None
    paper_learned: Mapping[str, float] | None = None


class Outcome(NamedTuple):
    """What a line came to; `s` seeds, `e` epochs.

    Attributes:
      losses: f32[e, s], means over an epoch's training batches.
      errors: f32[e, s], on the test images after each epoch, in percent.
      learned: names to f32[s], the bottom rule's values in the end.
    """

    losses: np.ndarray
    errors: np.ndarray
    learned: dict[str, np.ndarray]


Outcomes = list[tuple[Line, Outcome]]


def check(settings: Settings) -> None:
    """Raises ValueError if the data is missing."""
    _task(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every line and draws the picture."""
    task = _task(settings)
    run.pin("data", task.digest())
    on_mnist = task.name == "mnist"
    count = sum(1 if row.learned is None else 2 for row in table.ROWS)
    train = _trainer(task, settings, run)
    outcomes: Outcomes = []
    total = count * EPOCHS[settings.scale] * task.steps
    with runner.Progress(total=total) as progress:
        for row in table.ROWS:
            line = _line(row, published=on_mnist)
            outcomes.append((line, train(line, progress)))
            if row.learned is not None:
                here = {name: float(x.mean()) for name, x in outcomes[-1][1].learned.items()}
                again = _rerun(row, row.learned if on_mnist else here, published=on_mnist)
                outcomes.append((again, train(again, progress)))
    run.save_figure("gdtuo_table", _draw(outcomes))
    return _results(task, settings, outcomes)


@lru_cache(1)  # asked for by the check and by the run
def _task(settings: Settings) -> Task:
    named = settings.data_dir is not None or files.VARIABLE in files.os.environ
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


def _line(row: table.Row, *, published: bool) -> Line:
    """A row of the paper, without its rerun."""
    if row.learned is None:
        starts = rules.RULES[row.base].starts
        return _fixed(row.name, row.base, starts, row.published if published else None)
    return Line(
        row.name,
        row.name,
        partial(rules.tower, row.levels),
        lambda state: rules.natural(row.levels[0].rule, jd.hyperparameters(state)[0]),
        row.published if published else None,
        row.learned if published else None,
    )


def _rerun(row: table.Row, values: Mapping[str, float], *, published: bool) -> Line:
    """The plain rule at what the tower learned."""
    values = {**rules.RULES[row.base].starts, **values}
    return _fixed(f"{row.name} (x)", row.base, values, row.rerun if published else None)


def _fixed(
    name: str, rule: str, values: Mapping[str, float], published: table.Published | None
) -> Line:
    make = lambda: optax.inject_hyperparams(rules.RULES[rule].factory)(**rules.raw(rule, values))
    learned = lambda state: rules.natural(rule, {n: state.hyperparams[n] for n in values})
    return Line(name, f"fixed {rule}", make, learned, published)


def start(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Weights and biases as `torch.nn.Linear` draws them: uniform within 1 / sqrt(inputs)."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        key, *keys = jax.random.split(key, 3)
        bound = inputs**-0.5
        uniform = partial(jax.random.uniform, minval=-bound, maxval=bound)
        layers.append({"w": uniform(keys[0], (inputs, outputs)), "b": uniform(keys[1], (outputs,))})
    return layers


def logits(network: Any, images: jax.Array) -> jax.Array:
    """The network of the published example: tanh after each layer, the last one too."""
    for layer in network:
        images = jnp.tanh(images @ layer["w"] + layer["b"])
    return images


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
            advance = _epoch(task, line, keys)
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
        learned = jax.device_get(jax.vmap(line.learned)(loop.carry[1]))
        return {"losses": column("loss"), "errors": column("test_error"), **learned}

    def train(line: Line, progress: runner.Progress) -> Outcome:
        outcome = dict(run.once(line.name, partial(compute, line, progress)))
        return Outcome(outcome.pop("losses"), outcome.pop("errors"), outcome)

    return train


def _epoch(task: Task, line: Line, keys: jax.Array) -> Any:
    """One pass over the training images in an order of each seed's own, and the test error."""
    count, size, steps = len(task.train.targets), task.batch_size, task.steps
    tx = line.make()
    # The last batch is filled up with examples that weigh nothing.
    weights = (jnp.arange(steps * size) < count).astype(jnp.float32).reshape(steps, size)
    scaled = lambda images: images.astype(jnp.float32) / task.pixel

    def loss(network: Any, images: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
        each = optax.softmax_cross_entropy_with_integer_labels(logits(network, images), labels)
        return jnp.sum(each * weight) / jnp.sum(weight)

    def one_seed(network: Any, state: Any, key: jax.Array, train: Split, test: Split) -> Any:
        order = jnp.pad(jax.random.permutation(key, count), (0, steps * size - count))

        def step(carry: Any, inputs: Any) -> Any:
            network, state = carry
            batch, weight = inputs
            value, grads = jax.value_and_grad(loss)(
                network, scaled(train.inputs[batch]), train.targets[batch], weight
            )
            updates, state = tx.update(grads, state, network)
            return (optax.apply_updates(network, updates), state), value

        (network, state), losses = jax.lax.scan(
            step, (network, state), (order.reshape(steps, size), weights)
        )
        wrong = logits(network, scaled(test.inputs)).argmax(-1) != test.targets
        return (network, state), (losses.mean(), 100 * wrong.mean(), line.learned(state))

    def advance(carry: Any, epoch: jax.Array, train: Split, test: Split) -> Any:
        orders = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, epoch)
        network, state = carry
        return jax.vmap(one_seed, in_axes=(0, 0, 0, None, None))(
            network, state, orders, train, test
        )

    return advance


def standard_error(errors: np.ndarray) -> float:
    """Of the mean over seeds."""
    return float(errors.std(ddof=1) / np.sqrt(len(errors)))


def deviation(errors: np.ndarray, published: table.Published, *, runs: int = 1) -> float:
    """How far the mean is from the published one, in joint standard errors.

    Args:
      errors: f32[seeds].
      published: the mean, and its standard error; or, with `runs`, the standard deviation
        of so many runs.
      runs: 1 if the paper's ± is a standard error.

    Example:
      >>> round(deviation(np.array([5.0, 6.0, 7.0]), table.Published(4.0, 0.0)), 3)
      3.464
    """
    joint = np.hypot(standard_error(errors), published.spread / np.sqrt(runs))
    return float((errors.mean() - published.error) / joint) if joint else float("inf")


def _results(task: Task, settings: Settings, outcomes: Outcomes) -> runner.Results:
    on_mnist = task.name == "mnist"
    rows = [(_paper_cells if on_mnist else _own_cells)(*pair) for pair in outcomes]
    epochs = EPOCHS[settings.scale]
    notes = [
        f"{task.name}: {task.source}",
        f"{task.train.inputs.shape[1]}-{task.hidden}-10, tanh after both layers, batches of "
        f"{task.batch_size}, {epochs} epochs, {settings.seeds} seeds; test errors after the last "
        "epoch with standard errors of the mean; learned values are means in the end.",
        "(x): the plain rule with its values fixed at what the tower learned"
        + (" in the paper." if on_mnist else " here."),
    ]
    if on_mnist:
        notes += _notes_on_the_paper(outcomes, settings)
        columns = (
            *("line", "paper", "here", "apart, in joint s.e.", "within two"),
            *("paper learned", "learned here"),
        )
        return runner.Results("Table 1 of the paper", columns, rows, notes, _values(outcomes))
    notes.append("Not the paper's data: its numbers are not for comparison with these.")
    columns = ("line", "test error %", "learned here")
    return runner.Results("Table 1 on the digits", columns, rows, notes, _values(outcomes))


def _notes_on_the_paper(outcomes: Outcomes, settings: Settings) -> list[str]:
    pairs = [(line, outcome.errors[-1]) for line, outcome in outcomes if line.published]
    within = lambda runs: sum(
        abs(deviation(errors, line.published, runs=runs)) <= 2
        for line, errors in pairs
        if line.published
    )
    return [
        f"{within(1)} of {len(pairs)} lines are within two joint standard errors, if what the "
        "paper prints behind its ± is a standard error, as the column takes it; "
        f"{within(3)} if it is the standard deviation of its three runs. A standard error from "
        f"{settings.seeds} seeds is a rough one.",
        "The number behind the topmost rule is its rate; where there is none the paper gives "
        "none, and the package's default is taken: 0.01, Adam's 0.001. The paper's values (x) "
        "are rounded to the four digits that it prints.",
    ]


def _paper_cells(line: Line, outcome: Outcome) -> tuple[str, ...]:
    errors = outcome.errors[-1]
    here = f"{errors.mean():.2f} ± {standard_error(errors):.2f}"
    learned = _shown({name: x.mean() for name, x in outcome.learned.items()})
    if line.published is None:
        return line.name, "-", here, "-", "-", "-", learned
    apart = deviation(errors, line.published)
    return (
        line.name,
        f"{line.published.error:.2f} ± {line.published.spread:.2f}",
        here,
        f"{apart:+.1f}",
        "yes" if abs(apart) <= 2 else "no",
        _shown(line.paper_learned) if line.paper_learned else "-",
        learned if line.paper_learned else "-",
    )


def _own_cells(line: Line, outcome: Outcome) -> tuple[str, ...]:
    errors = outcome.errors[-1]
    learned = _shown({name: x.mean() for name, x in outcome.learned.items()})
    return line.name, f"{errors.mean():.2f} ± {standard_error(errors):.2f}", learned


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{float(value):.4f}" for value in values.values())


def _values(outcomes: Outcomes) -> dict[str, Any]:
    return {
        line.name: {
            "error": outcome.errors[-1],
            "error_by_epoch": outcome.errors.mean(1),
            "loss": outcome.losses[-1],
            "learned": outcome.learned,
            "published": line.published._asdict() if line.published else None,
            "paper_learned": line.paper_learned,
        }
        for line, outcome in outcomes
    }


def _draw(outcomes: Outcomes) -> Figure:
    """The last test errors, ours in blue and the paper's in black, a line each."""
    figure = Figure(figsize=(8, 0.27 * len(outcomes) + 1), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(outcomes))
    last = [outcome.errors[-1] for _, outcome in outcomes]
    axis.errorbar(
        [errors.mean() for errors in last],
        places + 0.15,
        xerr=[2 * standard_error(errors) for errors in last],
        fmt="o",
        color="#2e86c1",
        markersize=4,
        label="here, two standard errors",
    )
    known = [(place, line.published) for place, (line, _) in enumerate(outcomes) if line.published]
    if known:
        axis.errorbar(
            [published.error for _, published in known],
            [place - 0.15 for place, _ in known],
            xerr=[2 * published.spread for _, published in known],
            fmt="s",
            color="#222222",
            markersize=4,
            label="paper, twice its ±",
        )
    axis.set(xlabel="test error %", xscale="log")
    axis.set_yticks(places, [line.name for line, _ in outcomes], fontsize=8)
    axis.invert_yaxis()
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    return figure
