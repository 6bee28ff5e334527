"""Towers against fixed rates on scikit-learn's handwritten digits.

Adam and SGD train one small network at a well-chosen rate and at rates 100 times too
small and too large; towers of height 1, 2 and 3 start from the same two bad rates. Five
seeds are vmapped. All lines of a family share one setting: the rate is learned in log
space by Adam, whose own rate of 0.05 is what the next level learns.
"""

import dataclasses
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.data import Split, digits
from experiments.models.mlp import MLP

FACTORIES = {"adam": optax.adam, "sgd": optax.sgd}
# The best of a half-decade grid by validation loss; `--grid` prints the grid.
WELL_CHOSEN = {"adam": 3e-3, "sgd": 0.3}
HYPER_RATE = 0.05
GRID = [m * 10.0**e for e in range(-5, 1) for m in (1, 3)]
EPOCHS = {"smoke": 2, "small": 60, "full": 300}
BATCH_SIZE = 64
SIZES = (64, 64, 10)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the quickstart."""

    seeds: int = 5
    """Networks trained side by side."""
    grid: bool = False
    """Instead, print the validation loss of fixed rates from 1e-5 to 3."""
    picture: Path | None = None
    """Another file to put the picture in, a .png in a folder that exists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        if self.picture is None:
            return
        if self.grid:
            raise ValueError("--picture must be left out with --grid, which draws none")
        if self.picture.suffix != ".png" or not os.access(self.picture.parent, os.W_OK):
            raise ValueError(
                f"--picture must be a .png in a folder that can be written, got {self.picture}"
            )


class Line(NamedTuple):
    """One line of the table: an optimizer and the rate it starts from."""

    family: str
    height: int
    start: float

    @property
    def name(self) -> str:
        """What is printed; the factor is the start over the well-chosen rate."""
        factor = self.start / WELL_CHOSEN[self.family]
        where = "" if np.isclose(factor, 1) else f" x {factor:g}"
        kind = f"tower of height {self.height}" if self.height else "fixed"
        return f"{self.family} {kind}{where}"


class Outcome(NamedTuple):
    """What a line came to; `s` seeds, `e` epochs.

    Attributes:
      losses: f32[e, s], means over an epoch's training batches.
      rates: f32[e, s], the learning rate at the end of each epoch.
      accuracies: f32[s], on the held-out images, in percent.
      held_out_losses: f32[s], on the held-out images.
      steps_per_second: f64[], the median over epochs; a step moves all seeds.
    """

    losses: np.ndarray
    rates: np.ndarray
    accuracies: np.ndarray
    held_out_losses: np.ndarray
    steps_per_second: np.ndarray


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every line and draws the picture."""
    lines = _grid_lines() if settings.grid else _lines()
    outcomes = _train(lines, settings, run)
    if settings.grid:
        return _grid_results(lines, outcomes)
    picture = _draw(lines, outcomes)
    run.save_figure("quickstart", picture)
    if settings.picture:
        picture.savefig(settings.picture, dpi=110)
    return _results(lines, outcomes, settings)


def _lines() -> list[Line]:
    lines = []
    for family, rate in WELL_CHOSEN.items():
        bad = [rate / 100, rate * 100]
        lines += [Line(family, 0, start) for start in (rate, *bad)]
        lines += [Line(family, height, start) for height in (1, 2, 3) for start in bad]
    return lines


def _grid_lines() -> list[Line]:
    return [Line(family, 0, rate) for family in FACTORIES for rate in GRID]


def optimizer(family: str, height: int) -> optax.GradientTransformation:
    """A tower of the given height; height 0 holds its rate fixed, in the state as well."""
    if height == 0:
        return optax.inject_hyperparams(FACTORIES[family])(learning_rate=1.0)
    tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
    for _ in range(height - 1):
        tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
    return jd.hypergradient(FACTORIES[family], tower, tune={"learning_rate": 1.0})


def _rate(state: Any) -> jax.Array:
    if isinstance(state, jd.HypergradientState):
        return jd.get_hyperparams(state)[0]["learning_rate"]
    return state.hyperparams["learning_rate"]


def _starting_from(state: Any, rate: float) -> Any:
    if isinstance(state, jd.HypergradientState):
        return jd.set_hyperparams(state, {"learning_rate": rate})
    full = jnp.full_like(state.hyperparams["learning_rate"], rate)
    return state._replace(hyperparams={**state.hyperparams, "learning_rate": full})


def _train(lines: Sequence[Line], settings: Settings, run: runner.Run) -> list[Outcome]:
    """Runs the lines one after another; those of one structure share a compiled program."""
    data = digits.load()
    train_part, held_out = jax.device_put(
        (data.train, data.validation if settings.grid else data.test)
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    graph, _ = nnx.split(MLP(SIZES, rngs=nnx.Rngs(0)))
    networks = jax.vmap(lambda key: nnx.split(MLP(SIZES, rngs=nnx.Rngs(key)))[1])(keys)
    loss_of = partial(_loss, graph)
    evaluate = jax.jit(jax.vmap(partial(_evaluate, graph), in_axes=(0, None)))

    epochs = EPOCHS[settings.scale]
    steps = len(train_part.targets) // BATCH_SIZE

    @cache
    def program_of(family: str, height: int) -> tuple[Any, runner.Program]:
        tx = optimizer(family, height)
        carry = networks, jax.eval_shape(jax.vmap(tx.init), networks)
        advance = _epoch(loss_of, tx, train_part, keys)
        return tx, runner.Program(advance, carry, steps_per_chunk=steps)

    def train(line: Line) -> dict[str, Any]:
        tx, program = program_of(line.family, line.height)
        state = _starting_from(jax.vmap(tx.init)(networks), line.start)
        carry = jax.tree.map(jnp.copy, (networks, state))
        loop = runner.Loop(run, line.name, program, carry, chunks=epochs, progress=progress)
        for chunk in loop:
            loss, rate = chunk.metrics
            loop.log(loss=loss, learning_rate=rate)
        held_out_losses, accuracies = jax.device_get(evaluate(loop.carry[0], held_out))
        history = run.log.read(line.name)
        return {
            "losses": np.array([record["loss"] for record in history], np.float32),
            "rates": np.array([record["learning_rate"] for record in history], np.float32),
            "accuracies": accuracies,
            "held_out_losses": held_out_losses,
            "steps_per_second": np.median([record["steps_per_second"] for record in history]),
        }

    with runner.Progress(total=len(lines) * epochs * steps) as progress:
        outcomes = [run.once(line.name, partial(train, line)) for line in lines]
    return [Outcome(**outcome) for outcome in outcomes]


def _loss(graph: Any, network: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = nnx.merge(graph, network)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _evaluate(graph: Any, network: Any, part: Split) -> tuple[jax.Array, jax.Array]:
    """The loss, and the accuracy in percent."""
    predicted = nnx.merge(graph, network)(part.inputs).argmax(-1)
    return _loss(graph, network, *part), 100 * jnp.mean(predicted == part.targets)


def _epoch(loss_of: Any, tx: Any, train: Split, keys: jax.Array) -> Any:
    """One pass over the training images in an order of each seed's own."""
    steps = len(train.targets) // BATCH_SIZE

    def one_seed(network: Any, state: Any, key: jax.Array) -> Any:
        order = jax.random.permutation(key, len(train.targets))
        batches = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)

        def step(carry: Any, batch: jax.Array) -> Any:
            network, state = carry
            loss, grads = jax.value_and_grad(loss_of)(
                network, train.inputs[batch], train.targets[batch]
            )
            updates, state = tx.update(grads, state, network)
            return (optax.apply_updates(network, updates), state), loss

        (network, state), losses = jax.lax.scan(step, (network, state), batches)
        return (network, state), (losses.mean(), _rate(state))

    def advance(carry: Any, epoch: jax.Array) -> Any:
        orders = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, epoch)
        network, state = carry
        return jax.vmap(one_seed)(network, state, orders)

    return advance


def _results(
    lines: Sequence[Line], outcomes: Sequence[Outcome], settings: Settings
) -> runner.Results:
    rows = [
        (
            line.name,
            f"{line.start:.2g}",
            f"{_geometric_mean(outcome.rates[-1]):.2g}" if line.height else "-",
            f"{outcome.losses[-1].mean():.2g}",
            f"{outcome.accuracies.mean():.1f} ± {outcome.accuracies.std():.1f}",
            f"{float(outcome.steps_per_second):,.0f}",
        )
        for line, outcome in zip(lines, outcomes, strict=True)
    ]
    notes = [
        f"Means over {settings.seeds} seeds; accuracy with the seeds' standard deviation, on 360 "
        "held-out images. Learned rates are geometric means at the end. A step moves all "
        f"{settings.seeds} networks.",
        "Towers learn the rate in log space (jd.positive). Height 1 learns it by Adam at "
        f"{HYPER_RATE}; each further level learns that rate in turn, from {HYPER_RATE}, in log "
        f"space, by Adam at {HYPER_RATE}. One setting for all lines.",
        "Well-chosen rates are the best of a half-decade grid by validation loss (--grid).",
    ]
    columns = ("line", "start", "learned rate", "training loss", "test accuracy %", "steps/s")
    return runner.Results(
        "Towers against fixed rates", columns, rows, notes, _values(lines, outcomes)
    )


def _grid_results(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> runner.Results:
    rows = [
        (line.family, f"{line.start:.0e}", f"{outcome.held_out_losses.mean():.4f}")
        for line, outcome in zip(lines, outcomes, strict=True)
    ]
    columns = ("optimizer", "rate", "validation loss")
    notes = ["Means over seeds after training on the training images alone."]
    return runner.Results("Fixed rates", columns, rows, notes, _values(lines, outcomes))


def _values(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        f"{line.name} from {line.start:.2g}": {
            "start": line.start,
            "rate": outcome.rates[-1],
            "loss": outcome.losses[-1],
            "accuracy": outcome.accuracies,
            "held_out_loss": outcome.held_out_losses,
            "steps_per_second": float(outcome.steps_per_second),
        }
        for line, outcome in zip(lines, outcomes, strict=True)
    }


def _geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values))))


_COLORS = {1: "#7fb3d5", 2: "#2e86c1", 3: "#154360"}


def _style(line: Line) -> dict[str, Any]:
    """Black: the well-chosen rate; gray: a bad one, fixed; blue: towers. Dashed: too large."""
    factor = line.start / WELL_CHOSEN[line.family]
    fixed = "#222222" if np.isclose(factor, 1) else "#b0b0b0"
    return {
        "color": _COLORS.get(line.height, fixed),
        "linestyle": "--" if factor > 10 else "-",
        "linewidth": 1.8 if line.height else 1.2,
        "label": line.name.removeprefix(line.family + " "),
    }


def _draw(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> Figure:
    """Training losses above, learning rates below, a column for each family."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    column_of = {family: column for column, family in enumerate(FACTORIES)}
    for line, outcome in zip(lines, outcomes, strict=True):
        loss_axis, rate_axis = axes[:, column_of[line.family]]
        epochs = np.arange(1, len(outcome.losses) + 1)
        loss_axis.plot(epochs, outcome.losses.mean(1), **_style(line))
        rate_axis.plot(epochs, np.exp(np.log(outcome.rates).mean(1)), **_style(line))
        loss_axis.set(yscale="log", ylim=(1e-3, 30), title=line.family)
        rate_axis.set(yscale="log", xlabel="epoch")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("learning rate")
    for axis in axes.flat:
        axis.grid(alpha=0.25)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure
