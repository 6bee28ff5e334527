"""Trials from learning rates far apart."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

import jaxdescent as jd
from experiments import runner
from experiments.data import DataError
from experiments.models.mlp import MLP
from experiments.tuning import trials, workloads
from experiments.tuning.trials import Contestant, Grid, Outcome, Trials, mean, ratio, shown
from experiments.tuning.workloads import Arena

STARTS = {"smoke": (1e-8, 1e-3, 1e2), "small": tuple(10.0**e for e in range(-8, 3))}
STARTS["full"] = STARTS["small"]
HEIGHTS = {"smoke": (2,), "small": tuple(range(6)), "full": tuple(range(6))}
ROBUST, HARMLESS = 1.2, 1.05  # ratios to the best fixed rate


@dataclasses.dataclass(frozen=True)
class Settings(workloads.Settings):
    """Settings of the sensitivity study."""


class Row(NamedTuple):
    """An optimizer on a task.

    Attributes:
      arena, optimizer: which.
      grid: fixed rates.
      starts: where the learned rates started.
      ours: what those came to.
      harm: from the best fixed rate.
    """

    arena: Arena
    optimizer: str
    grid: Grid
    starts: Sequence[float]
    ours: Sequence[Outcome]
    harm: Outcome

    @property
    def name(self) -> str:
        """What is printed."""
        return f"{self.arena.workload.title}, {self.optimizer}"


class Summary(NamedTuple):
    """The numbers of a row; ratios are to the loss of the best fixed rate, inf if diverged.

    Attributes:
      best_rate, best_loss: of the fixed rates.
      averaged: the best of the fixed rates' averages.
      worst, median, best: over the starts.
      worst_start: the start of the worst.
      worst_to_averaged: the worst to the best of the fixed rates' averages instead.
      worst_last, median_last: of the last parameters instead of the average.
      harm: from the best fixed rate.
      training: the median over starts of the training loss of the last tenth.
      rates: the least and the greatest rate that was found, geometric means over seeds.
    """

    best_rate: float
    best_loss: float
    averaged: float
    worst: float
    median: float
    best: float
    worst_start: float
    worst_to_averaged: float
    worst_last: float
    median_last: float
    harm: float
    training: float
    rates: tuple[float, float]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every trial and draws the picture."""
    arenas, left_out = workloads.arenas(settings, run)
    if not arenas:
        raise runner.RunError("; ".join(left_out))
    starts, heights = STARTS[settings.scale], HEIGHTS[settings.scale]
    stage = _stage(settings)
    cells = sum(len(settings.grid(name)) + len(starts) + 1 for name in settings.optimizers)
    total = cells * sum(arena.steps for arena in arenas)
    total += (len(heights) + 1) * len(starts) * stage.steps
    with runner.Progress(total=total) as progress:
        rows = [
            _row(run, arena, optimizer, starts, progress)
            for arena in arenas
            for optimizer in settings.optimizers
        ]
        published = {}
        for name, contestant in _on_stage(heights).items():
            trial = Trials(run, stage, name, contestant, progress)
            published[name] = [trial(start) for start in starts]
    run.save_figure("sensitivity", _draw(rows, stage, starts, published))
    return _results(settings, rows, stage, starts, published, left_out)


def _row(
    run: runner.Run,
    arena: Arena,
    optimizer: str,
    starts: Sequence[float],
    progress: runner.Progress,
) -> Row:
    grid = trials.grid_of(run, arena, optimizer, progress)
    contestant = trials.self_tuning(workloads.FACTORIES[optimizer])
    trial = Trials(run, arena, f"{optimizer} self-tuning", contestant, progress)
    ours = [trial(start) for start in starts]
    return Row(arena, optimizer, grid, starts, ours, trial(grid.rates[grid.best]))


class Saturating(nnx.Module):
    """The published network's activations: tanh, on the logits too."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
        self.mlp = MLP(sizes, activation=jnp.tanh, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """From images f32[batch, ...] to logits f32[batch, classes], within [-1, 1]."""
        return jnp.tanh(self.mlp(x.reshape(len(x), -1)))


LEAST = float(np.log(1 + 9 * np.exp(-2)))  # loss of ten classes with logits in [-1, 1]


def _stage(settings: Settings) -> Arena:
    """Where the published towers are shown: MNIST, without its data the digits."""
    try:
        return _saturating(workloads.WORKLOADS["mnist"], 28 * 28, settings)
    except DataError:
        return _saturating(workloads.WORKLOADS["digits"], 8 * 8, settings)


def _saturating(workload: workloads.Workload, pixels: int, settings: Settings) -> Arena:
    build = lambda rngs: Saturating([pixels, workload.shape.width or 64, 10], rngs=rngs)
    return Arena(workload._replace(title=f"{workload.title} of tanh"), settings, build)


def _on_stage(heights: Sequence[int]) -> dict[str, Contestant]:
    towers = {f"raw SGD tower of height {height}": raw_tower(height) for height in heights}
    return {**towers, "SGD self-tuning": trials.self_tuning(_sgd)}


def raw_tower(height: int) -> Contestant:
    """SGD trained by SGD, and so on, in raw spaces; all rates start at the same value."""
    tower: Any = optax.inject_hyperparams(_sgd)(learning_rate=1.0)
    for _ in range(height):
        tower = jd.hypergradient(_sgd, tower, tune={"learning_rate": jd.unconstrained(1.0)})

    def at(state: Any, rate: float) -> Any:
        state = jax.tree.map(lambda x: _topmost_at(x, rate), state, is_leaf=_is_topmost)
        return jd.set_hyperparams(state, *[{"learning_rate": rate}] * height)

    return Contestant(tower, at if height else trials.fixed(_sgd).at)


def _sgd(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)


def _is_topmost(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def _topmost_at(node: Any, rate: float) -> Any:
    if not _is_topmost(node):
        return node
    full = jnp.full_like(node.hyperparams["learning_rate"], rate)
    return node._replace(hyperparams={**node.hyperparams, "learning_rate": full})


def summary(row: Row) -> Summary:
    """The numbers of a row."""
    best = row.grid.best
    reference = row.grid.losses[best]
    against = lambda losses: np.array([ratio(loss, reference) for loss in losses])
    judged = against(outcome.loss for outcome in row.ours)
    last = against(mean(outcome.last) for outcome in row.ours)
    training = [mean(outcome.training) for outcome in row.ours]
    found = [np.exp(np.mean(np.log(outcome.rate))) for outcome in row.ours]
    return Summary(
        best_rate=row.grid.rates[best],
        best_loss=reference,
        averaged=ratio(row.grid.averaged.min(), reference),
        worst=judged.max(),
        median=float(np.median(judged)),
        best=judged.min(),
        worst_start=row.starts[int(judged.argmax())],
        worst_to_averaged=ratio(max(outcome.loss for outcome in row.ours), row.grid.averaged.min()),
        worst_last=last.max(),
        median_last=float(np.median(last)),
        harm=ratio(row.harm.loss, reference),
        training=ratio(float(np.median(training)), mean(row.grid.outcomes[best].training)),
        rates=(float(np.min(found)), float(np.max(found))),
    )


def verdicts(summaries: Mapping[str, Summary]) -> list[str]:
    """A sentence for the two promises, and for a harder one, with the rows that break it."""
    promises = (
        (f"the worst of all starts is within {ROBUST} of the best fixed rate", "worst", ROBUST),
        (f"started there, self-tuning is within {HARMLESS} of it", "harm", HARMLESS),
        (
            f"the worst of all starts is within {ROBUST} of the best fixed rate that is judged at "
            "the same average",
            "worst_to_averaged",
            ROBUST,
        ),
    )
    said = []
    for promise, field, limit in promises:
        ratios = {name: getattr(each, field) for name, each in summaries.items()}
        broken = [f"{name} ({shown(x, '.3f')})" for name, x in ratios.items() if not x <= limit]
        kept = f"{len(ratios) - len(broken)} of {len(ratios)} rows"
        ending = f"; not in {', '.join(broken)}." if broken else "."
        said.append(f"In {kept} {promise}{ending}")
    return said


COLUMNS = (
    "task",
    "optimizer",
    "constants",
    "best fixed",
    "its loss",
    "averaged",
    "worst",
    "median",
    "best",
    "worst start",
    "rates found",
    f"<= {ROBUST}",
    "no harm",
    f"<= {HARMLESS}",
    "worst, last",
    "median, last",
    "training",
)


def _results(
    settings: Settings,
    rows: Sequence[Row],
    stage: Arena,
    starts: Sequence[float],
    published: Mapping[str, Sequence[Outcome]],
    left_out: Sequence[str],
) -> runner.Results:
    summaries = {row.name: summary(row) for row in rows}
    cells = [_cells(row, each) for row, each in zip(rows, summaries.values(), strict=True)]
    notes = [
        *verdicts(summaries),
        *left_out,
        *trials.edges([(row.name, row.grid) for row in rows]),
        f"Losses are means over all held-out examples (of a text {workloads.WINDOWS} windows) and "
        f"over {settings.seeds} seeds after equal steps. The best fixed rate is chosen by the "
        "same held-out losses, which makes the comparison harder for self-tuning; nothing else "
        "is chosen by them.",
        "All other figures are ratios to the best fixed rate's loss, those on training losses of "
        "the last tenth to its training loss. Fixed rates are judged at their last parameters, "
        "self-tuning at the average of its path (last: at its last parameters); averaged is the "
        "best fixed rate's when it is judged at the same average.",
        "chosen on: the recipe's constants were chosen on this task; not looked at: they were not.",
        f"The right of the picture, on the {stage.workload.title} (on the logits too, so that no "
        f"loss is below {LEAST:.3f}): plain SGD trained by SGD, in raw spaces, every level's rate "
        "from the start that is shown.",
    ]
    values = {
        row.name: {
            **each._asdict(),
            "starts": row.starts,
            "ours": [outcome._asdict() for outcome in row.ours],
            "fixed_rates": row.grid.rates,
            "fixed": [outcome._asdict() for outcome in row.grid.outcomes],
            "from_best_fixed": row.harm._asdict(),
        }
        for row, each in zip(rows, summaries.values(), strict=True)
    }
    values["published"] = {
        name: {"starts": starts, "losses": [outcome.judged for outcome in outcomes]}
        for name, outcomes in published.items()
    }
    return runner.Results("Sensitivity to the start", COLUMNS, cells, notes, values)


def _cells(row: Row, each: Summary) -> tuple[str, ...]:
    workload, yes = row.arena.workload, {True: "yes", False: "NO"}
    return (
        workload.title,
        row.optimizer,
        "chosen on" if workload.chosen_on else "not looked at",
        f"{each.best_rate:.0e}",
        shown(each.best_loss, ".4f"),
        shown(each.averaged),
        shown(each.worst, ".3f"),
        shown(each.median, ".3f"),
        shown(each.best, ".3f"),
        f"{each.worst_start:.0e}",
        "{:.1e} .. {:.1e}".format(*each.rates),
        yes[each.worst <= ROBUST],
        shown(each.harm, ".3f"),
        yes[each.harm <= HARMLESS],
        shown(each.worst_last, ".3f"),
        shown(each.median_last, ".3f"),
        shown(each.training),
    )


SPAN = 10.0  # of a panel, times the best fixed rate's loss; what is above is at the top


def _draw(
    rows: Sequence[Row],
    stage: Arena,
    starts: Sequence[float],
    published: Mapping[str, Sequence[Outcome]],
) -> Figure:
    """Final loss against start: a panel for each row, and the published towers beside them."""
    titles = list(dict.fromkeys(row.arena.workload.title for row in rows))
    optimizers = list(dict.fromkeys(row.optimizer for row in rows))
    height, width = len(titles), len(optimizers)
    figure = Figure(figsize=(3.2 * width + 5, max(2.3 * height + 0.6, 4.5)), layout="constrained")
    places = figure.add_gridspec(height, width + 1, width_ratios=[3.2] * width + [5])
    for row in rows:
        title = row.arena.workload.title
        y, x = titles.index(title), optimizers.index(row.optimizer)
        panel = figure.add_subplot(places[y, x])
        reference = row.grid.losses.min()
        panel.axhspan(reference, ROBUST * reference, color="#2e86c1", alpha=0.15, linewidth=0)
        top = SPAN * reference
        grid = row.grid
        _plot(panel, grid.rates, grid.averaged, top, color="#bbbbbb", label="fixed rate, averaged")
        _plot(panel, grid.rates, grid.losses, top, color="#666666", label="fixed rate")
        ours = [outcome.loss for outcome in row.ours]
        _plot(panel, row.starts, ours, top, color="#154360", label="self-tuning")
        _scale(panel, min(reference, grid.averaged.min(), *ours), top)
        panel.set_title(f"{title}, {row.optimizer}", fontsize=9)
        panel.set_xlim(0.3 * min(row.starts), 3 * max(row.starts))
        if x == 0:
            panel.set_ylabel("held-out loss", fontsize=8)
        if y == height - 1:
            panel.set_xlabel("start of the learning rate", fontsize=8)
        if x == y == 0:
            panel.legend(fontsize=7, loc="upper left")
    _draw_published(figure.add_subplot(places[:, width]), stage, starts, published)
    return figure


def _draw_published(
    panel: Axes,
    stage: Arena,
    starts: Sequence[float],
    published: Mapping[str, Sequence[Outcome]],
) -> None:
    *towers, ours = published
    top = 4 * LEAST  # above the loss before training, log 10
    for place, name in enumerate(published):
        losses = [outcome.loss for outcome in published[name]]
        shade = f"{0.8 - 0.8 * place / max(len(towers) - 1, 1):.2f}" if name != ours else "#2e86c1"
        _plot(panel, starts, losses, top, color=shade, label=name)
    panel.axhline(LEAST, color="#2e86c1", linewidth=0.8, linestyle=":")
    _scale(panel, LEAST, top)
    panel.set_title(f"as published: {stage.workload.title}", fontsize=9)
    panel.set_xlabel("start of every level's rate", fontsize=8)
    panel.legend(fontsize=7, loc="upper center", ncols=2)


def _plot(
    panel: Axes,
    x: Sequence[float],
    y: Sequence[float] | np.ndarray,
    top: float,
    *,
    color: str,
    label: str,
) -> None:
    """A curve; what diverged, or is off the scale, is a cross at the top."""
    top = top if np.isfinite(top) else 1.0
    at, values = np.asarray(x), np.asarray(y)
    off = ~(values <= top)
    panel.plot(
        at, np.where(off, np.nan, values), marker=".", color=color, label=label, linewidth=1.3
    )
    panel.plot(at[off], np.full(off.sum(), top), "x", color=color)


def _scale(panel: Axes, least: float, top: float) -> None:
    """Logarithmic axes from below the least loss to above the crosses."""
    panel.set(xscale="log", yscale="log")
    if np.isfinite(least) and np.isfinite(top):
        panel.set_ylim(0.85 * least, 1.2 * top)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.25)
