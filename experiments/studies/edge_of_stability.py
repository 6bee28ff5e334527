"""Six optimizers at their edge of stability: sharpness against what each can bear.

A network is trained on full batches, on the digits and, where its file is found, on CIFAR-10;
every 20 steps the greatest eigenvalue of the (preconditioned) Hessian is put beside the
optimizer's threshold. It grows until it is there and then stays (J. Cohen et al. 2021,
arXiv:2103.00065, and 2022, arXiv:2207.14484; for SAM P. Long and P. Bartlett 2023,
arXiv:2309.12488). Beside them: rates far too low, which must not be flagged, quadratics that
diverge, which must be, and `jd.ride_the_edge`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.data import DataError
from experiments.edge import EVERY, RHO, Case, Path, Runs, Task, quadratic

LOW, HIGH = 0.95, 1.10  # where the median of sharpness over threshold should be
STEPS = {"smoke": 60, "small": 1_500, "full": 10_000}
IMAGES = {"smoke": 32, "small": 512, "full": 1_078}
# One rate for each that reaches its edge early in 1,500 steps; GD has a second.
DIGITS = (
    Case("GD", 0.1, "edge"),
    Case("GD", 0.2, "edge"),
    Case("Polyak", 0.1, "edge"),
    Case("Nesterov", 0.04, "edge"),
    Case("RMSProp", 1e-4, "edge"),
    Case("Adam", 3e-4, "edge"),
    Case("SAM", 0.1, "edge"),
    Case("GD", 0.01, "far below"),
    Case("Adam", 1e-5, "far below"),
    Case("GD", 0.9, "ride"),
    Case("GD", 1.0, "ride"),
)
CIFAR_STEPS = {"smoke": 20, "small": 3_000, "full": 20_000}
CIFAR_IMAGES = {"smoke": 16, "small": 1_000, "full": 5_000}
CIFAR_SEEDS = {"smoke": 1, "small": 1, "full": 5}
CIFAR = (Case("GD", 0.01, "edge"), Case("GD", 0.05, "edge"))
RATIOS = (0.5, 0.99, 1.01, 1.1, 3.0)  # of quadratics, their sharpness over the threshold
QUADRATIC_STEPS = 1_000


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
        a line far below the greatest ratio, of a ride all probes.
      least, greatest: the least and greatest of the seeds' own.
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
    quadratics = {ratio: quadratic(ratio, QUADRATIC_STEPS).stability for ratio in RATIOS}
    return _results(settings, lines, quadratics, left_out)


def _plans(settings: Settings) -> tuple[list[Plan], list[str]]:
    """What is run, and a sentence if something is left out."""
    scale = settings.scale
    plans, left_out = [], []
    if "digits" in settings.tasks:
        digits = Task.load("digits", IMAGES[scale])
        plans.append(Plan(digits, DIGITS, settings.seeds, STEPS[scale]))
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
    chunks = plan.steps // EVERY
    fixed = {
        case.rule: Runs(run, plan.task, case.rule, progress, chunks=chunks)
        for case in plan.cases
        if case.role != "ride"
    }
    lines = []
    for case in plan.cases:
        runs = fixed.get(case.rule)
        if case.role == "ride":
            runs = Runs(run, plan.task, case.rule, progress, chunks=chunks, ridden_at=case.value)
        lines.append(Line(plan.task.title, case, [runs(case, i) for i in range(plan.seeds)]))
    return lines


def summary(line: Line) -> Summary:
    """The numbers of a line."""
    role, paths = line.case.role, line.paths
    never = any(path.reached < 0 for path in paths)
    match role:
        case "edge":
            ratios = [path.ratio[path.at_edge] for path in paths]
            judged = lambda ratio: float(np.median(ratio)) if len(ratio) else float("nan")
        case "far below":
            # A step of an adaptive method's first probes is divided by a P of almost nothing.
            ratios = [path.ratio[1:] for path in paths]
            judged = lambda ratio: float(np.max(ratio))
        case _:
            ratios = [path.ratio[1:] for path in paths]
            judged = lambda ratio: float(np.median(ratio))
    each = [judged(ratio) for ratio in ratios]
    whole = judged(np.concatenate(ratios))
    counted = [path.rises[path.at_edge if role == "edge" else slice(None)] for path in paths]
    flagged = sum(path.flagged for path in paths)
    exact = [path.residual[path.converged] / path.sharpness[path.converged] for path in paths]
    kept = {
        "edge": LOW <= whole <= HIGH and not never and not flagged,
        "far below": whole < LOW and not flagged,
        "ride": not flagged and LOW <= whole / line.case.value <= HIGH,
    }
    return Summary(
        reached=float("nan") if never else float(np.median([path.reached for path in paths])),
        ratio=whole,
        least=min(each),
        greatest=max(each),
        rises=100 * float(np.mean(np.concatenate(counted))),
        loss=float(np.mean([path.loss[-1] for path in paths])),
        flagged=flagged,
        unconverged=100 * float(np.mean(np.concatenate([~path.converged for path in paths]))),
        residual=float(np.max(np.concatenate(exact), initial=0.0)),
        kept=kept[role],
    )


COLUMNS = (
    "task",
    "line",
    "role",
    "edge reached",
    "ratio",
    "seeds' least",
    "greatest",
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
        "Ratio: sharpness over the optimizer's threshold, the median over all probes (one every "
        f"{EVERY} steps) of all seeds from the step at which the edge is reached; of a line far "
        "below the greatest ratio after the first probe, of a ride the median, against the "
        "rate that the probe before had set. Beside it the least and the greatest seed's own.",
        "Edge reached: the median step of the first probe at the threshold or above, not counting "
        "a start above from which the sharpness falls below (at the first step the P of an "
        "adaptive method is next to nothing). Steps up: the share of steps from there on that "
        "raised the loss, of the other roles of all steps.",
        "Rates: one for each optimizer that reaches its edge early in the steps of scale small, "
        f"and for GD two. SAM's rho is {RHO:g}, momentum 0.9, the decay of RMSProp 0.99 with "
        "eps outside the root; the rest is optax's. A rate twice as large diverges for Polyak and "
        "Nesterov on this start.",
        "An eigenvalue counts as not converged if its residual is above 1% of it; the greatest "
        "relative residual of the others is "
        f"{max((each.residual for each in summaries), default=0):.1e}.",
        "Flagged: the guard says that the run has left its edge, at this many seeds.",
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
        f"{ratio:g}": {"outcome": int(state.outcome), "left": int(state.left)}
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
        said.append(f"Role {role}: in {len(found) - len(broken)} of {len(found)} lines {promise}"
                    + ending)
    wrong = [f"{ratio:g}" for ratio, state in quadratics.items() if not _as_expected(ratio, state)]
    ending = f"; not at {', '.join(wrong)}." if wrong else "."
    said.append(f"A quadratic is flagged where its ratio is above 1, and only there{ending}")
    return said


def _as_expected(ratio: float, state: jd.StabilityState) -> bool:
    return bool(state.outcome >= jd.StabilityOutcome.LEFT) == (ratio > 1)


def _cells(line: Line, each: Summary) -> tuple[str, ...]:
    return (
        line.task,
        line.case.name,
        line.case.role,
        f"{each.reached:.0f}" if np.isfinite(each.reached) else "-",
        f"{each.ratio:.3f}",
        f"{each.least:.3f}",
        f"{each.greatest:.3f}",
        f"{each.rises:.0f}",
        f"{each.loss:.4f}",
        f"{each.flagged} of {len(line.paths)}",
        f"{each.unconverged:.1f}",
        "yes" if each.kept else "NO",
    )


def _quadratic_cells(ratio: float, state: jd.StabilityState) -> tuple[str, ...]:
    last = jd.stability_log(state)
    flagged = int(state.outcome >= jd.StabilityOutcome.LEFT)
    return (
        "quadratic",
        "GD",
        "diverges" if ratio > 1 else "converges",
        f"{int(state.reached)}" if state.reached >= 0 else "-",
        f"{np.nanmedian(last.ratio):.3f}",
        "-",
        "-",
        "-",
        f"{last.loss[-1]:.2g}",
        f"{flagged} of 1",
        f"{100 * np.mean(~last.converged):.1f}",
        "yes" if _as_expected(ratio, state) else "NO",
    )


def _path_values(path: Path) -> dict[str, Any]:
    names = ("step", "loss", "learning_rate", "sharpness", "threshold", "residual")
    values = {name: getattr(path, name) for name in names}
    return {**values, "reached": int(path.reached), "outcome": int(path.outcome)}


def draw(lines: Sequence[Line]) -> Figure:
    """A column for each line: loss above, sharpness with the threshold below."""
    width = min(len(lines), 6)
    blocks = -(-len(lines) // width)
    figure = Figure(figsize=(2.7 * width + 0.6, 3.9 * blocks), layout="constrained")
    panels = figure.subplots(2 * blocks, width, squeeze=False, sharex="col")
    for panel in panels.flat[:]:
        panel.set_axis_off()
    for i, line in enumerate(lines):
        above, below = panels[2 * (i // width) : 2 * (i // width) + 2, i % width]
        _draw_line(above, below, line, first=i % width == 0)
    return figure


def _draw_line(above: Any, below: Any, line: Line, *, first: bool) -> None:
    shown, *others = line.paths
    for panel in (above, below):
        panel.set_axis_on()
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.25)
    for path in others:
        above.plot(path.step, path.loss, color="#bbbbbb", linewidth=0.6)
    above.plot(shown.step, shown.loss, color="#154360", linewidth=0.9)
    above.set(yscale="log")
    above.set_title(line.case.name, fontsize=9)
    for path in others:
        below.plot(path.step, path.ratio, color="#bbbbbb", linewidth=0.6)
    below.plot(shown.step, shown.ratio, color="#154360", linewidth=0.9)
    below.axhline(1, color="#c0392b", linewidth=1, linestyle="--")
    below.set_ylim(0, 1.6)
    below.set_xlabel("step", fontsize=8)
    if first:
        above.set_ylabel("training loss", fontsize=8)
        below.set_ylabel("sharpness / threshold", fontsize=8)
