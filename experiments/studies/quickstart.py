"""Towers against fixed learning rates on scikit-learn's handwritten digits.

Adam and SGD train a small network at a good learning rate, and at learning rates 100 times too
small and too large. Towers of height 1, 2 and 3 start at the same two bad learning rates. Five
seeds are trained in parallel. All towers have the same settings: the learning rate is learned in
log space by Adam, whose own learning rate of 0.05 is learned by the next level.
"""

import dataclasses
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

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
# The best of a grid with two values per decade by validation loss; `--grid` prints the grid.
GOOD_RATE = {"adam": 3e-3, "sgd": 0.3}
HYPER_RATE = 0.05
GRID = [m * 10.0**e for e in range(-5, 1) for m in (1, 3)]
EPOCHS = {"smoke": 2, "small": 60, "full": 300}
BATCH_SIZE = 64
SIZES = (64, 64, 10)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the quickstart."""

    may_change: ClassVar = (*runner.Settings.may_change, "picture")
    seeds: int = 5
    """Networks trained in parallel."""
    grid: bool = False
    """Instead, print the validation loss of fixed learning rates from 1e-5 to 3."""
    picture: Path | None = None
    """Another file for the figure, a .png in a folder that exists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        if self.picture is None:
            return
        if self.grid:
            raise ValueError("--picture must be left out with --grid, which has no figure")
        if self.picture.suffix != ".png" or not os.access(self.picture.parent, os.W_OK):
            raise ValueError(f"--picture must be a .png in a writable folder, got {self.picture}")


class Series(NamedTuple):
    """One training: an optimizer and its initial learning rate.

    Attributes:
      optimizer: a key of `FACTORIES`.
      height: optimizers above it, which learn its learning rate; 0 keeps it fixed.
      initial_rate: the initial learning rate.
    """

    optimizer: str
    height: int
    initial_rate: float

    @property
    def factor(self) -> float:
        """The initial learning rate relative to the good one."""
        return self.initial_rate / GOOD_RATE[self.optimizer]

    @property
    def label(self) -> str:
        """The height and the factor, for tables and figures."""
        start = "" if np.isclose(self.factor, 1) else f" x {self.factor:g}"
        return (f"tower of height {self.height}" if self.height else "fixed") + start

    @property
    def name(self) -> str:
        """The name in logs and tables."""
        return f"{self.optimizer} {self.label}"


class TrainingResult(NamedTuple):
    """Result of a series, with `e` epochs and `s` seeds.

    Attributes:
      losses: `f32[e, s]`, mean training loss of each epoch.
      rates: `f32[e, s]`, learning rate at the end of each epoch.
      accuracies: `f32[s]`, on the held-out images in percent.
      held_out_losses: `f32[s]`, on the held-out images.
      steps_per_second: `f64[]`, the median over epochs; a step moves all seeds.
    """

    losses: np.ndarray
    rates: np.ndarray
    accuracies: np.ndarray
    held_out_losses: np.ndarray
    steps_per_second: np.ndarray


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every series and draws the figure."""
    all_series = _grid_series() if settings.grid else _series()
    trained = _train(all_series, settings, run)
    if settings.grid:
        return _grid_results(all_series, trained)
    figure = _draw(all_series, trained)
    run.save_figure("quickstart", figure)
    if settings.picture:
        figure.savefig(settings.picture, dpi=110)
    return _results(all_series, trained, settings)


def _series() -> list[Series]:
    series = []
    for name, rate in GOOD_RATE.items():
        bad = [rate / 100, rate * 100]
        series += [Series(name, 0, initial) for initial in (rate, *bad)]
        series += [Series(name, height, initial) for height in (1, 2, 3) for initial in bad]
    return series


def _grid_series() -> list[Series]:
    return [Series(name, 0, rate) for name in FACTORIES for rate in GRID]


def make_optimizer(name: str, height: int) -> optax.GradientTransformation:
    """Returns a tower of the given height.

    A tower of height 0 is the plain optimizer, with its fixed learning rate in the state too, so
    that one compiled program serves all learning rates.
    """
    if height == 0:
        return optax.inject_hyperparams(FACTORIES[name])(learning_rate=1.0)
    tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
    for _ in range(height - 1):
        tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
    return jd.hypergradient(FACTORIES[name], tower, tune={"learning_rate": 1.0})


def _get_rate(state: Any) -> jax.Array:
    if isinstance(state, jd.HypergradientState):
        return jd.get_hyperparams(state)[0]["learning_rate"]
    return state.hyperparams["learning_rate"]


def _set_rate(state: Any, learning_rate: float) -> Any:
    if isinstance(state, jd.HypergradientState):
        return jd.set_hyperparams(state, {"learning_rate": learning_rate})
    full = jnp.full_like(state.hyperparams["learning_rate"], learning_rate)
    return state._replace(hyperparams={**state.hyperparams, "learning_rate": full})


def _train(
    all_series: Sequence[Series], settings: Settings, run: runner.Run
) -> list[TrainingResult]:
    """Trains one series after another; series of one tower share a compiled program."""
    data = digits.load()
    train_part, held_out = jax.device_put(
        (data.train, data.validation if settings.grid else data.test)
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    graph, _ = nnx.split(MLP(SIZES, rngs=nnx.Rngs(0)))
    networks = jax.vmap(lambda key: nnx.split(MLP(SIZES, rngs=nnx.Rngs(key)))[1])(keys)
    loss_fn = partial(_loss, graph)
    evaluate = jax.jit(jax.vmap(partial(_evaluate, graph), in_axes=(0, None)))

    epochs = EPOCHS[settings.scale]
    steps = len(train_part.targets) // BATCH_SIZE

    @cache
    def program_of(name: str, height: int) -> tuple[Any, runner.Program]:
        tx = make_optimizer(name, height)
        carry = networks, jax.eval_shape(jax.vmap(tx.init), networks)
        epoch = _make_epoch(loss_fn, tx, train_part, keys)
        return tx, runner.Program(epoch, carry, steps_per_chunk=steps)

    def train(series: Series) -> TrainingResult:
        tx, program = program_of(series.optimizer, series.height)
        state = _set_rate(jax.vmap(tx.init)(networks), series.initial_rate)
        carry = jax.tree.map(jnp.copy, (networks, state))
        loop = runner.Loop(run, series.name, program, carry, chunks=epochs, progress=progress)
        for chunk in loop:
            loss, rate = chunk.metrics
            loop.log(loss=loss, learning_rate=rate)
        held_out_losses, accuracies = jax.device_get(evaluate(loop.carry[0], held_out))
        history = run.log.read(series.name)
        return TrainingResult(
            losses=np.array([record["loss"] for record in history], np.float32),
            rates=np.array([record["learning_rate"] for record in history], np.float32),
            accuracies=accuracies,
            held_out_losses=held_out_losses,
            steps_per_second=np.median([record["steps_per_second"] for record in history]),
        )

    with runner.Progress(total=len(all_series) * epochs * steps) as progress:
        return [
            run.series(
                series.name,
                TrainingResult,
                partial(train, series),
                progress=progress,
                steps=epochs * steps,
            )
            for series in all_series
        ]


def _loss(graph: Any, network: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = nnx.merge(graph, network)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _evaluate(graph: Any, network: Any, part: Split) -> tuple[jax.Array, jax.Array]:
    """Returns the loss, and the accuracy in percent."""
    predicted = nnx.merge(graph, network)(part.inputs).argmax(-1)
    return _loss(graph, network, *part), 100 * jnp.mean(predicted == part.targets)


def _make_epoch(loss_fn: Any, tx: Any, train: Split, keys: jax.Array) -> Any:
    """Returns a function that trains for one epoch, with a different order for each seed."""
    steps = len(train.targets) // BATCH_SIZE

    def one_seed(network: Any, state: Any, key: jax.Array) -> Any:
        order = jax.random.permutation(key, len(train.targets))
        batches = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)

        def step(carry: Any, batch: jax.Array) -> Any:
            network, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(
                network, train.inputs[batch], train.targets[batch]
            )
            updates, state = tx.update(grads, state, network)
            return (optax.apply_updates(network, updates), state), loss

        (network, state), losses = jax.lax.scan(step, (network, state), batches)
        return (network, state), (losses.mean(), _get_rate(state))

    def epoch(carry: Any, number: jax.Array) -> Any:
        orders = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        network, state = carry
        return jax.vmap(one_seed)(network, state, orders)

    return epoch


def _results(
    all_series: Sequence[Series], trained: Sequence[TrainingResult], settings: Settings
) -> runner.Results:
    rows = [
        (
            series.name,
            f"{series.initial_rate:.2g}",
            f"{_geometric_mean(result.rates[-1]):.2g}" if series.height else "-",
            f"{result.losses[-1].mean():.2g}",
            f"{result.accuracies.mean():.1f} ± {result.accuracies.std():.1f}",
            f"{float(result.steps_per_second):,.0f}",
        )
        for series, result in zip(all_series, trained, strict=True)
    ]
    notes = [
        f"Means over {settings.seeds} seeds. Accuracies are on 360 held-out images, with the "
        "standard deviation over seeds. Learned learning rates are geometric means at the end. A "
        f"step trains all {settings.seeds} networks.",
        f"Towers learn the learning rate in log space (jd.positive), by Adam with learning rate "
        f"{HYPER_RATE} at height 1. Each further level learns the learning rate of the level "
        f"below, initially {HYPER_RATE}, in the same way.",
        "The good learning rates are the best of a grid with two values per decade by validation "
        "loss (--grid).",
    ]
    columns = (
        "series",
        "initial rate",
        "learned rate",
        "training loss",
        "test accuracy %",
        "steps/s",
    )
    title = "Towers against fixed learning rates"
    return runner.Results(title, columns, rows, notes, _values(all_series, trained))


def _grid_results(
    all_series: Sequence[Series], trained: Sequence[TrainingResult]
) -> runner.Results:
    rows = [
        (series.optimizer, f"{series.initial_rate:.0e}", f"{result.held_out_losses.mean():.4f}")
        for series, result in zip(all_series, trained, strict=True)
    ]
    columns = ("optimizer", "learning rate", "validation loss")
    notes = ["Means over seeds, after training on the training images only."]
    title = "Fixed learning rates"
    return runner.Results(title, columns, rows, notes, _values(all_series, trained))


def _values(all_series: Sequence[Series], trained: Sequence[TrainingResult]) -> dict[str, Any]:
    return {
        f"{series.name} from {series.initial_rate:.2g}": {
            "start": series.initial_rate,
            "rate": result.rates[-1],
            "loss": result.losses[-1],
            "accuracy": result.accuracies,
            "held_out_loss": result.held_out_losses,
            "steps_per_second": float(result.steps_per_second),
        }
        for series, result in zip(all_series, trained, strict=True)
    }


def _geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values))))


_TOWER_COLORS = {1: "#7fb3d5", 2: "#2e86c1", 3: "#154360"}


def _style(series: Series) -> dict[str, Any]:
    """Returns black for the good rate, gray for bad ones, blue for towers; dashed if too large."""
    fixed = "#222222" if np.isclose(series.factor, 1) else "#b0b0b0"
    return {
        "color": _TOWER_COLORS.get(series.height, fixed),
        "linestyle": "--" if series.factor > 10 else "-",
        "linewidth": 1.8 if series.height else 1.2,
        "label": series.label,
    }


def _draw(all_series: Sequence[Series], trained: Sequence[TrainingResult]) -> Figure:
    """Draws training losses above and learning rates below, in a column for each optimizer."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    column_of = {name: column for column, name in enumerate(FACTORIES)}
    for series, result in zip(all_series, trained, strict=True):
        loss_axis, rate_axis = axes[:, column_of[series.optimizer]]
        epochs = np.arange(1, len(result.losses) + 1)
        loss_axis.plot(epochs, result.losses.mean(1), **_style(series))
        rate_axis.plot(epochs, np.exp(np.log(result.rates).mean(1)), **_style(series))
        loss_axis.set(yscale="log", ylim=(1e-3, 30), title=series.optimizer)
        rate_axis.set(yscale="log", xlabel="epoch")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("learning rate")
    for axis in axes.flat:
        axis.grid(alpha=0.25)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure
