"""Six optimizers at their edge of stability: sharpness against what each can bear.

A network is trained on full batches, on the digits and, where its file is found, on CIFAR-10;
every 20 steps the greatest eigenvalue of the (preconditioned) Hessian is put beside the
optimizer's threshold. It grows until it is there and then stays (J. Cohen et al. 2021,
arXiv:2103.00065, and 2022, arXiv:2207.14484; for SAM P. Long and P. Bartlett 2023,
arXiv:2309.12488). Beside them: rates far too low, which must not be flagged, quadratics that
diverge, which must be, and `jd.scale_by_sharpness`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.data import DataError
from experiments.edge import EVERY, RHO, Case, Path, Runs, Task, quadratic

LOW, HIGH = 0.95, 1.10  # where the median of sharpness over threshold should be
# Momentum's first instability throws its sharpness far below the threshold: 1,500 steps would end
# in the climb back.
STEPS = {"smoke": 60, "small": 4_000, "full": 10_000}
IMAGES = {"smoke": 32, "small": 512, "full": 1_078}
# For each a rate that reaches the edge early, for GD and Polyak two.
DIGITS = (
    Case("GD", 0.1, "edge"),
    Case("GD", 0.2, "edge"),
    Case("Polyak", 0.1, "edge"),
    Case("Polyak", 0.05, "edge"),
    Case("Nesterov", 0.04, "edge"),
    Case("RMSProp", 1e-4, "edge"),
    Case("Adam", 3e-4, "edge"),
    Case("SAM", 0.1, "edge"),
    Case("GD", 0.01, "far below"),
    Case("Adam", 1e-5, "far below"),
    Case("Polyak", 0.2, "too large"),
    Case("Nesterov", 0.08, "too large"),
    Case("GD", 0.9, "ride"),
    Case("GD", 1.0, "ride"),
)
SMOKE = (Case("GD", 0.2, "edge"), Case("GD", 0.01, "far below"), Case("GD", 0.9, "ride"))
CIFAR_STEPS = {"smoke": 20, "small": 3_500, "full": 20_000}
CIFAR_IMAGES = {"smoke": 16, "small": 1_000, "full": 5_000}
CIFAR_SEEDS = {"smoke": 1, "small": 1, "full": 5}
CIFAR = (Case("GD", 0.01, "edge"), Case("GD", 0.05, "edge"))
# Of quadratics, their sharpness over the threshold.
RATIOS = {"smoke": (), "small": (0.5, 0.99, 1.01, 1.1, 3.0), "full": (0.5, 0.99, 1.01, 1.1, 3.0)}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of the edge of stability."""

    tasks: tuple[Literal["digits", "cifar10"], ...] = ("digits", "cifar10")
    """What is trained on; CIFAR-10 is left out, with a line that says so, if it is not found."""
    seeds: int = 5
    """Networks for each optimizer; on CIFAR-10 only full trains as many."""
    data_dir: FilePath | None = None
    """The folder of CIFAR-10; by default the environment's JAXDESCENT_DATA."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        if not self.tasks:
            raise ValueError("--tasks must name at least one")
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(self.tasks)))


class Line(NamedTuple):
    """A case on a task, with the path of each seed."""

    task: str
    case: Case
    paths: Sequence[Path]


class Plan(NamedTuple):
    """What is run on a task."""

    task: Task
    cases: Sequence[Case]
    seeds: int
    steps: int


class Summary(NamedTuple):
    """The numbers of a line.

    Attributes:
      reached: median step at which the edge was reached; nan if a seed did not.
      ratio: median of sharpness over threshold, over the probes from there on of all seeds; of
        a line far below the greatest, of others over all; both without the first probe.
      least, greatest: the least and greatest of the seeds' own.
      last: median over the last third of all probes.
      rises: percent of the steps there that raised the loss.
      loss: mean over seeds, at the last probe.
      flagged: seeds that the guard flagged.
      unconverged: percent of probes whose eigenvalue was not within the tolerance.
      residual: the greatest residual, relative to its eigenvalue, of those that were.
      kept: whether the line is as it should be.
    """

    reached: float
    ratio: float
    least: float
    greatest: float
    last: float
    rises: float
    loss: float
    flagged: int
    unconverged: float
    residual: float
    kept: bool


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every line and draws the pictures."""
    plans, left_out = _plans(settings)
    if not plans:
        raise runner.RunError("; ".join(left_out))
    total = sum(len(plan.cases) * plan.seeds * plan.steps for plan in plans)
    with runner.Progress(total=total) as progress:
        lines = [line for plan in plans for line in _lines(run, plan, progress)]
    for plan in plans:
        here = [line for line in lines if line.task == plan.task.title]
        run.save_figure(f"edge of stability, {plan.task.title}", draw(here))
    quadratics = {ratio: quadratic(ratio) for ratio in RATIOS[settings.scale]}
    return _results(settings, lines, quadratics, left_out)


def _plans(settings: Settings) -> tuple[list[Plan], list[str]]:
    """What is run, and a sentence if something is left out."""
    scale = settings.scale
    plans, left_out = [], []
    if "digits" in settings.tasks:
        digits = Task.load("digits", IMAGES[scale])
        cases = SMOKE if scale == "smoke" else DIGITS
        plans.append(Plan(digits, cases, settings.seeds, STEPS[scale]))
    if "cifar10" in settings.tasks:
        try:
            images = _cifar(CIFAR_IMAGES[scale], settings.data_dir)
        except DataError as error:
            left_out.append(f"CIFAR-10 is left out: {error}")
        else:
            seeds = min(settings.seeds, CIFAR_SEEDS[scale])
            plans.append(Plan(images, CIFAR, seeds, CIFAR_STEPS[scale]))
    return plans, left_out


def _cifar(count: int, data_dir: FilePath | None) -> Task:
    """Images of the whole data set, or of the part that is in one file."""
    try:
        return Task.load("cifar10", count, data_dir)
    except DataError:
        return Task.load("cifar10_subset", count, data_dir)


def _lines(run: runner.Run, plan: Plan, progress: runner.Progress) -> list[Line]:
    @cache
    def runs(rule: str, ridden_at: float | None) -> Runs:
        chunks = plan.steps // EVERY
        return Runs(run, plan.task, rule, progress, chunks=chunks, ridden_at=ridden_at)

    lines = []
    for case in plan.cases:
        of_case = runs(case.rule, case.value if case.role == "ride" else None)
        lines.append(Line(plan.task.title, case, [of_case(case, i) for i in range(plan.seeds)]))
    return lines


def summary(line: Line) -> Summary:
    """The numbers of a line."""
    role, paths = line.case.role, line.paths
    judged = _greatest if role == "far below" else _median
    counts = [path.at_edge if role == "edge" else path.step > 0 for path in paths]
    ratios = [path.ratio[counted] for path, counted in zip(paths, counts, strict=True)]
    last = [path.ratio[-len(path.ratio) // 3 :] for path in paths]
    rises = [path.rises[counted] for path, counted in zip(paths, counts, strict=True)]
    exact = [(path.residual / path.sharpness)[path.converged] for path in paths]
    whole = judged(np.concatenate(ratios))
    never = any(path.reached < 0 for path in paths)
    flagged = sum(path.flagged for path in paths)
    kept = {
        "edge": LOW <= whole <= HIGH and not never and not flagged,
        "far below": whole < LOW and not flagged,
        "too large": all(path.flagged == path.diverged for path in paths),
        "ride": LOW <= whole / line.case.value <= HIGH and not flagged,
    }
    return Summary(
        reached=float("nan") if never else float(np.median([path.reached for path in paths])),
        ratio=whole,
        least=min(map(judged, ratios)),
        greatest=max(map(judged, ratios)),
        last=_median(np.concatenate(last)),
        rises=100 * _mean(np.concatenate(rises)),
        loss=_mean(np.array([path.loss[-1] for path in paths])),
        flagged=flagged,
        unconverged=100 * _mean(np.concatenate([~path.converged for path in paths])),
        residual=float(np.max(np.concatenate(exact), initial=0.0)),
        kept=kept[role],
    )


def _median(values: np.ndarray) -> float:
    """Of what is a number."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _greatest(values: np.ndarray) -> float:
    return float(np.max(values, initial=-np.inf))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


COLUMNS = (
    "task",
    "line",
    "role",
    "edge reached",
    "ratio",
    "seeds' least",
    "greatest",
    "last third",
    "steps up %",
    "loss",
    "flagged",
    "not converged %",
    "as it should be",
)


def _results(
    settings: Settings,
    lines: Sequence[Line],
    quadratics: Mapping[float, jd.StabilityState],
    left_out: Sequence[str],
) -> runner.Results:
    summaries = [summary(line) for line in lines]
    rows = [_cells(line, each) for line, each in zip(lines, summaries, strict=True)]
    rows += [_quadratic_cells(ratio, state) for ratio, state in quadratics.items()]
    notes = [
        *verdicts(lines, summaries, quadratics),
        *left_out,
        f"Ratio: sharpness over the optimizer's threshold, by a probe every {EVERY} steps. Edge: "
        "the median over the probes of all seeds from the step at which the edge is reached; with "
        "it the least and the greatest seed's own, and the median over the last third of the run. "
        "Far below: the greatest ratio. Ride: the median, against the rate that the probe before "
        "had set. Too large: the median. The first probe counts for none of these: at the first "
        "step the P of an adaptive method is next to nothing.",
        "Edge reached: the median step of the first probe at the threshold or above, not counting "
        "a start above from which the sharpness falls below. Steps up: the share of steps from "
        "there on that raised the loss, of the other roles of all steps.",
        *_rides(lines, summaries),
        "Polyak's ratio is a saw: a short instability takes the sharpness far below the threshold, "
        "and it takes long to grow again.",
        f"SAM's rho is {RHO:g}, momentum 0.9, the decay of RMSProp 0.99 with eps outside the "
        "root; the rest is optax's.",
        "Not converged: the eigenvalue's residual is above 1% of it. The greatest relative "
        f"residual of the others is {max((each.residual for each in summaries), default=0):.1e}.",
        "Flagged: at how many seeds the guard says that the run has left its edge, or is not "
        "finite.",
    ]
    values = {
        f"{line.task}, {line.case.name}": {
            **each._asdict(),
            "role": line.case.role,
            "seeds": [_path_values(path) for path in line.paths],
        }
        for line, each in zip(lines, summaries, strict=True)
    }
    values["quadratics"] = {
        f"{ratio:g}": {"outcome": int(state.outcome), "left": int(state.diverged)}
        for ratio, state in quadratics.items()
    }
    title = f"The edge of stability, {settings.seeds} seeds"
    return runner.Results(title, COLUMNS, rows, notes, values)


def verdicts(
    lines: Sequence[Line],
    summaries: Sequence[Summary],
    quadratics: Mapping[float, jd.StabilityState],
) -> list[str]:
    """A sentence for each promise, with the lines that break it."""
    promises = {
        "edge": f"the median ratio is in {LOW:.2f} to {HIGH:.2f}, and no seed is flagged",
        "far below": "the edge is not reached, and no seed is flagged",
        "too large": "those seeds are flagged whose loss ends above its start, and no others",
        "ride": f"the median ratio is within {LOW:.2f} to {HIGH:.2f} of the fraction asked for",
    }
    said = []
    for role, promise in promises.items():
        found = [
            (f"{line.task}, {line.case.name} ({each.ratio:.3f})", each.kept)
            for line, each in zip(lines, summaries, strict=True)
            if line.case.role == role
        ]
        broken = [name for name, kept in found if not kept]
        ending = f"; not in {', '.join(broken)}." if broken else "."
        said.append(
            f"Role {role}: in {len(found) - len(broken)} of {len(found)} lines {promise}" + ending
        )
    if not quadratics:
        return said
    wrong = [f"{ratio:g}" for ratio, state in quadratics.items() if not _as_expected(ratio, state)]
    ending = f"; not at {', '.join(wrong)}." if wrong else "."
    said.append(f"A quadratic is flagged where its ratio is above 1, and only there{ending}")
    return said


def _rides(lines: Sequence[Line], summaries: Sequence[Summary]) -> list[str]:
    """A sentence for each ride: what it gained over rates that are fixed."""
    said = []
    for ride, found in zip(lines, summaries, strict=True):
        fixed = [
            (each.loss, line.case.name)
            for line, each in zip(lines, summaries, strict=True)
            if (line.task, line.case.rule) == (ride.task, ride.case.rule)
            and line.case.role != "ride"
            and np.isfinite(each.loss)
        ]
        if ride.case.role == "ride" and fixed:
            loss, name = min(fixed)
            said.append(
                f"{ride.task}, {ride.case.name} ends at a loss of {found.loss:.4f}, the best of "
                f"the fixed rates, {name}, at {loss:.4f}: that its ratio is what it was told to "
                "be says that the probe works, not that this is a good rate."
            )
    return said


def _as_expected(ratio: float, state: jd.StabilityState) -> bool:
    return bool(state.outcome >= jd.StabilityOutcome.DIVERGING) == (ratio > 1)


def _cells(line: Line, each: Summary) -> tuple[str, ...]:
    return (
        line.task,
        line.case.name,
        line.case.role,
        f"{each.reached:.0f}" if np.isfinite(each.reached) else "-",
        f"{each.ratio:.3f}",
        f"{each.least:.3f}",
        f"{each.greatest:.3f}",
        f"{each.last:.3f}",
        f"{each.rises:.0f}",
        f"{each.loss:.4f}",
        f"{each.flagged} of {len(line.paths)}",
        f"{each.unconverged:.1f}",
        "yes" if each.kept else "NO",
    )


def _quadratic_cells(ratio: float, state: jd.StabilityState) -> tuple[str, ...]:
    log = jd.stability_log(state)
    return (
        "quadratic",
        f"GD, ratio {ratio:g}",
        "diverges" if ratio > 1 else "converges",
        f"{int(state.reached)}" if state.reached >= 0 else "-",
        f"{np.nanmedian(log.ratio):.3f}",
        *["-"] * 4,
        f"{log.loss[-1]:.2g}",
        f"{int(state.outcome >= jd.StabilityOutcome.DIVERGING)} of 1",
        f"{100 * np.mean(~log.converged):.1f}",
        "yes" if _as_expected(ratio, state) else "NO",
    )


def _path_values(path: Path) -> dict[str, Any]:
    names = ("step", "loss", "learning_rate", "sharpness", "threshold", "residual")
    values = {name: getattr(path, name) for name in names}
    return {**values, "reached": int(path.reached), "outcome": int(path.outcome)}


def draw(lines: Sequence[Line]) -> Figure:
    """A column for each line: loss above, sharpness over threshold below."""
    width = min(len(lines), 6)
    blocks = -(-len(lines) // width)
    figure = Figure(figsize=(2.5 * width + 0.8, 3.8 * blocks + 0.4), layout="constrained")
    panels = figure.subplots(2 * blocks, width, squeeze=False, sharex=True)
    for panel in panels.flat:
        panel.set_visible(False)
    for i, line in enumerate(lines):
        block, column = divmod(i, width)
        above, below = panels[2 * block : 2 * block + 2, column]
        _draw_curves(above, line, "loss")
        _draw_curves(below, line, "ratio")
        above.set_title(line.case.name, fontsize=10)
        above.set_yscale("log")
        above.set_ylim(*_range(lines))
        below.axhline(1, color="#c0392b", linewidth=1.2, linestyle="--")
        below.set_ylim(0, 1.5)
        below.set_xlabel("step", fontsize=9)
        below.tick_params(labelbottom=True)
        for panel, label in ((above, "training loss"), (below, "sharpness / threshold")):
            panel.set_ylabel(label if column == 0 else "", fontsize=9)
            panel.tick_params(labelleft=column == 0)
    seeds = len(lines[0].paths)
    others = f", {seeds - 1} more in gray" if seeds > 1 else ""
    title = f"{lines[0].task}: one seed in blue{others}; the dashed line is the threshold"
    figure.suptitle(title, fontsize=10)
    return figure


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """Of all losses that are positive numbers, and of runs that do not diverge."""
    sound = [path for line in lines for path in line.paths if not path.diverged]
    losses = np.concatenate([[], *[path.loss for path in sound]])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return 0.7 * np.min(losses, initial=1.0), 1.4 * np.max(losses, initial=1e-3)


def _draw_curves(panel: Axes, line: Line, what: str) -> None:
    panel.set_visible(True)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    first, *others = line.paths
    for path in others:
        panel.plot(path.step, getattr(path, what), color="#bbbbbb", linewidth=0.7)
    panel.plot(first.step, getattr(first, what), color="#154360", linewidth=1.1)
