"""A league of optimizers at equal steps and data: which needs no tuning, and what that costs.

On each task: the best fixed rate of a half-decade grid, a warmup-cosine schedule with that
peak, and one whose peak is tuned in turn; then, in one run each and at their documented
defaults, optax's learning-rate-free methods and Schedule-Free, plain towers, and
jd.self_tuning.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from optax import contrib

import jaxdescent as jd
from experiments import runner
from experiments.tuning import trials, workloads
from experiments.tuning.trials import Contestant, Outcome, Trials, mean, ratio, shown
from experiments.tuning.workloads import Arena

CLOSE = 1.02  # to the best tuned schedule
HYPER_RATE, TOWER_START = 0.05, 1e-3
HEIGHTS = (1, 2, 3)
WARMUP = 0.05  # of the steps
PEAKS = 3  # of a schedule: the best constant and the next rates of its grid

_evaluated = contrib.schedule_free_eval_params
# Each at its documented defaults, which the notes name.
PUBLISHED = {
    "Prodigy": Contestant(contrib.prodigy()),
    "D-Adaptation": Contestant(contrib.dadapt_adamw()),
    "Mechanic (adam)": Contestant(contrib.mechanize(optax.adam(1.0))),
    "DoG": Contestant(contrib.dog()),
    "DoWG": Contestant(contrib.dowg()),
    "MoMo": Contestant(contrib.momo()),
    "MoMo-Adam": Contestant(contrib.momo_adam()),
    "COCOB": Contestant(contrib.cocob()),
    "Schedule-Free sgd": Contestant(contrib.schedule_free_sgd(), last=_evaluated),
    "Schedule-Free adamw": Contestant(contrib.schedule_free_adamw(), last=_evaluated),
}
DEFAULTS = (
    "Defaults: Prodigy learning_rate 1, estim_lr0 1e-6; D-Adaptation (dadapt_adamw) the same; "
    "Mechanic over adam at 1, s_init 1e-6, its weight_decay 0.01; DoG learning_rate 1, "
    "init_step heuristic 1e-6; DoWG learning_rate 1; MoMo learning_rate 1, lower_bound 0; "
    "MoMo-Adam learning_rate 0.01, lower_bound 0; COCOB alpha 100; Schedule-Free sgd "
    "learning_rate 1, b1 0.9, adamw learning_rate 0.0025, b1 0.9, both without warmup; self-tuning "
    f"starts at 1e-3; towers start at {TOWER_START}, learned in log space by Adam at {HYPER_RATE}, "
    "which the next level learns."
)


@dataclasses.dataclass(frozen=True)
class Settings(workloads.Settings):
    """Settings of the league."""


class Row(NamedTuple):
    """A contestant on a task.

    Attributes:
      name: of the contestant.
      outcome: its trial; of a grid the best.
      buffers: its state in multiples of the parameters.
      runs: how many were needed; more than one is tuning.
    """

    name: str
    outcome: Outcome
    buffers: float
    runs: int = 1

    @property
    def tuned(self) -> bool:
        """Whether runs were compared to choose this one."""
        return self.runs > 1


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every contestant on every task."""
    arenas, left_out = workloads.arenas(settings, run)
    if not arenas:
        raise runner.RunError("; ".join(left_out))
    single = single_runs(settings)
    cells = len(single) + sum(len(settings.grid(name)) + PEAKS for name in settings.optimizers)
    notes = list(left_out)
    tables: dict[str, list[Row]] = {}
    with runner.Progress(total=cells * sum(arena.steps for arena in arenas)) as progress:
        for arena in arenas:
            rows, said = _tuned(run, arena, progress)
            notes += said
            for name, contestant in single.items():
                outcome = Trials(run, arena, name, contestant, progress)()
                rows.append(Row(name, outcome, trials.buffers(contestant.tx, arena.params)))
            tables[arena.workload.title] = rows
    run.save_figure("league", _draw(tables))
    return _results(settings, tables, notes)


def single_runs(settings: Settings) -> dict[str, Contestant]:
    """The contestants that are run once, and need no tuning."""
    factories = {name: workloads.FACTORIES[name] for name in settings.optimizers}
    towers = {
        f"{name}, tower of height {height}": _tower(factories[name], height)
        for name in ("sgd", "adam")
        if name in factories
        for height in HEIGHTS
    }
    ours = {_ours(name): trials.self_tuning(factory) for name, factory in factories.items()}
    return {**PUBLISHED, **towers, **ours}


def _ours(optimizer: str) -> str:
    return f"{optimizer} self-tuning"


def _tower(factory: Any, height: int) -> Contestant:
    tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
    for _ in range(height - 1):
        tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
    tower = jd.hypergradient(factory, tower, tune={"learning_rate": TOWER_START})
    return Contestant(tower, rate=trials.learned_rate)


def _tuned(run: runner.Run, arena: Arena, progress: runner.Progress) -> tuple[list[Row], list[str]]:
    """The best fixed rates, their schedules, and what there is to say of the grids."""
    rows, grids = [], []
    for name in arena.settings.optimizers:
        factory = workloads.FACTORIES[name]
        grid = trials.grid_of(run, arena, name, progress)
        scheduled = warmup_cosine(factory, arena.steps)
        trial = Trials(run, arena, f"{name} cosine", trials.fixed(scheduled), progress)
        peaks = grid.rates[grid.best :][:PEAKS]
        cosines = [trial(peak) for peak in peaks]
        best = min(cosines, key=lambda outcome: outcome.loss)
        size, runs = trials.buffers(factory(1.0), arena.params), len(grid.rates)
        rows += [
            Row(f"{name}, best constant", grid.outcomes[grid.best], size, runs),
            Row(f"{name}, warmup-cosine", cosines[0], size, runs + 1),
            Row(f"{name}, warmup-cosine, best peak", best, size, runs + len(peaks)),
        ]
        grids.append((f"{arena.workload.title}, {name}", grid))
    return rows, trials.edges(grids)


def warmup_cosine(factory: Any, steps: int) -> Any:
    """The factory with a schedule whose peak is `learning_rate`."""
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, round(WARMUP * steps)), steps)

    def scheduled(learning_rate: Any) -> optax.GradientTransformation:
        return factory(lambda count: learning_rate * shape(count))

    return scheduled


def reference(rows: Sequence[Row]) -> float:
    """The loss of the best tuned schedule, a constant one included."""
    return min(row.outcome.loss for row in rows if row.tuned)


def ranks(rows: Sequence[Row], *, averaged: bool = False) -> dict[str, int]:
    """The places, from 1, of those that need no tuning; equal losses share one.

    Args:
      rows: of a task.
      averaged: whether all are judged at the same average.
    """
    losses = {
        row.name: mean(row.outcome.average) if averaged else row.outcome.loss
        for row in rows
        if not row.tuned
    }
    return {
        name: 1 + sum(other < loss for other in losses.values()) for name, loss in losses.items()
    }


def verdicts(tables: Mapping[str, Sequence[Row]], optimizers: Sequence[str]) -> list[str]:
    """What became of the two aims: a sentence for each task, then for each optimizer."""
    said, first, close = [], {}, {}
    for task, rows in tables.items():
        places, best = ranks(rows), reference(rows)
        losses = {row.name: row.outcome.loss for row in rows}
        against = {name: ratio(losses[_ours(name)], best) for name in optimizers}
        first[task] = [name for name in optimizers if places[_ours(name)] == 1]
        close[task] = [name for name, x in against.items() if x <= CLOSE]
        ours = [f"{name} {places[_ours(name)]} ({shown(against[name], '.3f')})" for name in against]
        averaged = ranks(rows, averaged=True)
        ours_averaged = [f"{name} {averaged[_ours(name)]}" for name in optimizers]
        said.append(
            f"{task}: first of {len(places)} that need no tuning is {_first(places)}; "
            "self-tuning's places (and ratios to the best tuned schedule): "
            f"{', '.join(ours)}. With the same average for all, first is {_first(averaged)}; "
            f"self-tuning's places: {', '.join(ours_averaged)}."
        )
    return said + [
        f"Self-tuning of {name} {_held('is first', name, first)}, and "
        f"{_held(f'is within {CLOSE} of the best tuned schedule', name, close)}."
        for name in optimizers
    ]


def _first(places: Mapping[str, int]) -> str:
    return " and ".join(name for name, place in places.items() if place == 1)


def _held(what: str, name: str, held: Mapping[str, Sequence[str]]) -> str:
    missed = [task for task, names in held.items() if name not in names]
    where = f" (not on {', '.join(missed)})" if missed else ""
    return f"{what} on {len(held) - len(missed)} of {len(held)} tasks{where}"


COLUMNS = (
    "task",
    "contestant",
    "final loss",
    "ratio",
    "last",
    "averaged",
    "training",
    "state",
    "tuning",
    "runs",
    "rank",
)


def _results(
    settings: Settings, tables: Mapping[str, Sequence[Row]], notes: Sequence[str]
) -> runner.Results:
    cells, values = [], {}
    for task, rows in tables.items():
        places, best = ranks(rows), reference(rows)
        ordered = sorted(rows, key=lambda row: row.outcome.loss)
        cells += [_cells(task, row, best, places.get(row.name)) for row in ordered]
        values[task] = {
            row.name: {
                **row.outcome._asdict(),
                "loss": row.outcome.loss,
                "buffers": row.buffers,
                "runs": row.runs,
                "rank": places.get(row.name),
            }
            for row in rows
        }
    explained = [
        *verdicts(tables, settings.optimizers),
        *notes,
        f"Final loss: over all held-out examples (of a text {workloads.WINDOWS} windows), mean and "
        f"standard deviation over {settings.seeds} seeds, after equal steps on equal batches. "
        "Ratios are to the best tuned schedule of the task. The best constant, which is also the "
        "schedule's peak, is chosen by the same held-out losses, which makes the comparison "
        "harder for all others.",
        "Judged at the last parameters; Schedule-Free at its evaluation parameters, self-tuning "
        "at its average. last and averaged: ratios of the last parameters, and of the same "
        "polynomial average for everyone. training: the mean loss of the last tenth of the steps. "
        "state: in multiples of the parameters. runs: what the row's compute counts as; rank: "
        "among the rows of one run.",
        f"warmup-cosine: linear over {WARMUP:.0%} of the steps, then to zero (optax's "
        "warmup_cosine_decay_schedule), its peak the best constant; best peak: the best of that "
        f"and of the next {PEAKS - 1} rates of the grid. {DEFAULTS}",
    ]
    return runner.Results("League of optimizers", COLUMNS, cells, explained, values)


def _cells(task: str, row: Row, best: float, place: int | None) -> tuple[str, ...]:
    outcome = row.outcome
    spread = f" ± {np.std(outcome.judged):.4f}" if np.isfinite(outcome.loss) else ""
    return (
        task,
        row.name,
        shown(outcome.loss, ".4f") + spread,
        shown(ratio(outcome.loss, best), ".3f"),
        shown(ratio(mean(outcome.last), best), ".3f"),
        shown(ratio(mean(outcome.average), best), ".3f"),
        shown(mean(outcome.training), ".4f"),
        f"{row.buffers:.1f}",
        "yes" if row.tuned else "no",
        str(row.runs),
        "-" if place is None else str(place),
    )


WORST = 3.0  # ratio at the end of the axis; what is worse stands there as a cross


def _draw(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """A panel for each task: the ratio to the best tuned schedule, best at the top."""
    most = max(map(len, tables.values()))
    figure = Figure(figsize=(4.4 * len(tables), 0.22 * most + 1.2), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for panel, (task, rows) in zip(panels, tables.items(), strict=True):
        ordered = sorted(rows, key=lambda row: -row.outcome.loss)
        best = reference(rows)
        for y, row in enumerate(ordered):
            x = ratio(row.outcome.loss, best)
            off = not x <= WORST
            panel.plot(WORST if off else x, y, "x" if off else "o", color=_color(row), markersize=5)
        panel.axvspan(1.0, CLOSE, color="#2e86c1", alpha=0.2, linewidth=0)
        panel.set_yticks(range(len(ordered)), [row.name for row in ordered], fontsize=7)
        panel.set(xscale="log", title=task, xlabel="final loss / best tuned schedule's")
        panel.set_xlim(right=1.1 * WORST)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.25, axis="x")
    return figure


def _color(row: Row) -> str:
    """Blue: self-tuning; black: tuned; gray: the others."""
    if row.outcome.own_average:
        return "#2e86c1"
    return "#222222" if row.tuned else "#999999"
