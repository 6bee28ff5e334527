"""Comparison of several runs, a table and curves: `python -m experiments compare RUN RUN ...`.

Runs with different numbers of steps, or steps of different cost, are compared by what they
need to reach one value of a metric: steps, FLOPs and seconds.
"""

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from matplotlib.figure import Figure

from experiments.runner.curves import Curve, by_series, curve, draw
from experiments.runner.footprint_log import flops_per_step
from experiments.runner.log import Log, jsonable, write_atomically
from experiments.runner.page import DPI, Facts, Table, page, picture
from experiments.runner.report import SMOKE, table
from experiments.runner.run_folder import RunError, new_folder, read_description
from experiments.runner.run_names import differing, run_names


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Compares runs by the steps, FLOPs and seconds that they need to reach a value of a metric."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of runs, before all flags; last is the newest run under --runs."""
    metric: str | None = None
    """Higher is better for an accuracy, lower for all else. Default: validation_loss, or loss."""
    target: float | None = None
    """The value to reach. Default: the worst series' best value, which every series reaches."""
    runs: Path = Path("runs")
    """Folder of runs."""
    output: Path | None = None
    """Folder in which `compare/TIMESTAMP` is created; by default the folder of runs."""


class _Run(NamedTuple):
    """A run: its folder, its short name, the content of `run.json`, its records by series."""

    folder: Path
    name: str
    description: Mapping[str, Any]
    log: Mapping[str, Sequence[Mapping[str, Any]]]


class _Series(NamedTuple):
    """A series of a run: its label, its settings, its curve, and the FLOPs at each record."""

    label: str
    settings: Mapping[str, Any]
    curve: Curve
    flops: np.ndarray

    @property
    def costs(self) -> dict[str, np.ndarray]:
        """Steps, FLOPs and seconds at each record; nan where they are not known."""
        return {"steps": self.curve.steps, "FLOPs": self.flops, "seconds": self.curve.seconds}

    def reached(self, target: float) -> dict[str, float]:
        """Returns steps, FLOPs and seconds to the target; nan if it is not reached."""
        index = self.curve.reaches(target)
        return {
            name: math.nan if index is None else float(numbers[index])
            for name, numbers in self.costs.items()
        }

    def spent(self) -> dict[str, float]:
        """Returns steps, FLOPs and seconds of the whole series."""
        return {name: float(numbers[-1]) for name, numbers in self.costs.items()}


def compare(comparison: Comparison) -> Path:
    """Prints the table and writes it with curves as `compare.html`; returns its path.

    Raises:
      RunError: a folder is not a run's folder, has no metrics, or lacks the metric.
    """
    if not comparison.folders:
        raise RunError("compare needs the folders of one or more runs")
    if comparison.target is not None and not math.isfinite(comparison.target):
        raise RunError(f"--target must be a finite number, got {comparison.target}")
    runs = _load(comparison.folders)
    metric = comparison.metric or _common_metric(runs)
    series = [each for run in runs for each in _read(run, metric, is_only=len(runs) == 1)]
    target = comparison.target if comparison.target is not None else _worst_best(series)
    columns, rows = _table(series, metric, target)
    verdict = _verdict(series, metric, target)
    notes = [
        _explanation(series, metric, is_default=comparison.target is None),
        "Values are means over seeds; seconds are time in steps. FLOPs are counted from the "
        "program, without evaluations: for one of several seeds, for all agents of a population.",
    ]
    began = datetime.datetime.now().astimezone()
    folder = new_folder(
        (comparison.output or comparison.runs) / "compare", began.strftime("%Y-%m-%dT%H-%M-%S")
    )
    _draw(series, metric, target).savefig(folder / "compare.png", dpi=DPI)
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    warnings = _warnings(runs)
    html = page(
        title=f"{count} by {_words(metric)}",
        warnings=warnings,
        verdict=verdict,
        origin=began.isoformat(timespec="seconds"),
        tables=[Table(columns, rows)],
        pictures=[picture("compare", (folder / "compare.png").read_bytes())],
        notes=notes,
        sections=[_facts(runs)],
    )
    write_atomically(folder / "compare.html", html)
    values = _values(series, metric, target)
    write_atomically(folder / "compare.json", json.dumps(jsonable(values), indent=2) + "\n")
    print(table(columns, rows))
    for line in (*warnings, verdict, *notes):
        print(line)
    for run in runs:
        print(f"{run.name}: {run.folder}")
    return folder / "compare.html"


def _warnings(runs: Sequence[_Run]) -> list[str]:
    """Returns what a reader must know before the results."""
    warnings = []
    if any(run.description["settings"].get("scale") == "smoke" for run in runs):
        warnings.append(SMOKE)
    if len({data for run in runs if (data := run.description["pins"].get("data"))}) > 1:
        warnings.append("The runs have different data, so their losses cannot be compared.")
    return warnings


def _load(folders: Sequence[Path]) -> list[_Run]:
    """Returns each run once.

    Raises:
      RunError: a folder is not a run's folder, or has no metrics.
    """
    folders = [*{path.resolve(): path for path in folders}.values()]
    descriptions = [read_description(folder) for folder in folders]
    names = run_names(descriptions)
    runs = []
    for folder, name, description in zip(folders, names, descriptions, strict=True):
        log = by_series(Log(folder / "metrics.jsonl").read())
        if not log:
            finished = description["status"] == "finished"
            reason = ", because its study logs no losses" if finished else " yet"
            raise RunError(f"{folder} has no metrics{reason}")
        runs.append(_Run(folder, name, description, log))
    return runs


def _common_metric(runs: Sequence[_Run]) -> str:
    """Returns the validation loss if every series has one, else the loss."""
    logs = [records for run in runs for records in run.log.values()]
    validated = all(curve(records, "validation_loss") for records in logs)
    return "validation_loss" if validated else "loss"


def _read(run: _Run, metric: str, *, is_only: bool) -> list[_Series]:
    """Returns the series of a run; their labels leave out its name if it is the only run."""
    per_step = flops_per_step(run.folder)
    settings = run.description["settings"]
    series = []
    for name, records in run.log.items():
        found = curve(records, metric)
        if found is None:
            known = sorted({key for record in records for key in record} - {"series", "step"})
            raise RunError(f"{run.folder} has no metric {metric!r}; {name} has {', '.join(known)}")
        flops = _steps_of_all(records, found.steps) * per_step.get(name, math.nan)
        flops /= settings.get("seeds", 1)
        label = name if is_only else run.name if len(run.log) == 1 else f"{run.name}: {name}"
        series.append(_Series(label, settings, found, flops))
    return series


def _steps_of_all(records: Sequence[Mapping[str, Any]], steps: np.ndarray) -> np.ndarray:
    """Returns the steps, weighted by the number of agents that made them.

    Weights have mean 1 over the series. Records of a population have that number as "descended".
    """
    ends = np.array([0, *(record["step"] for record in records)], float)
    agents = np.array([record.get("descended", 1.0) for record in records], float)
    weighted = np.cumsum([0, *(np.diff(ends) * agents)])
    return np.interp(steps, ends, weighted) * ends[-1] / max(weighted[-1], 1)


def _worst_best(series: Sequence[_Series]) -> float:
    """Returns the best value of the series whose best value is the worst."""
    finite = [each.curve.best for each in series if math.isfinite(each.curve.best)]
    return (min if series[0].curve.higher_is_better else max)(finite, default=math.nan)


def _known_costs(series: Sequence[_Series]) -> list[str]:
    """Returns the costs that at least one series has."""
    return [
        name
        for name in series[0].costs
        if any(np.isfinite(each.costs[name]).any() for each in series)
    ]


def _table(
    series: Sequence[_Series], metric: str, target: float
) -> tuple[list[str], list[list[str]]]:
    """Returns the headings of the table and its cells."""
    known = _known_costs(series)
    costs = [f"{name} to {_number(target)}" for name in known]
    columns = ["run", f"last {_words(metric)}", f"best {_words(metric)}", *costs]
    rows = []
    for each in series:
        reached, spent = each.reached(target), each.spent()
        cells = [f"{_cell(reached[name])} of {_cell(spent[name])}" for name in known]
        rows.append([each.label, _number(each.curve.last), _number(each.curve.best), *cells])
    return columns, rows


def _values(series: Sequence[_Series], metric: str, target: float) -> list[dict[str, Any]]:
    """Returns the numbers behind the table, with the settings in which the runs differ."""
    names = differing([each.settings for each in series])
    return [
        {
            "series": each.label,
            **{name: each.settings.get(name) for name in names},
            f"last {metric}": each.curve.last,
            f"best {metric}": each.curve.best,
            **each.spent(),
            **{f"{name} to {_number(target)}": x for name, x in each.reached(target).items()},
            "target": target,
        }
        for each in series
    ]


def _verdict(series: Sequence[_Series], metric: str, target: float) -> str:
    """Returns which series reaches the target with the fewest steps, FLOPs and seconds."""
    relation = "at least" if series[0].curve.higher_is_better else "at most"
    article = "an" if metric.startswith(("a", "e")) else "a"
    goal = f"{article} {_words(metric)} of {relation} {_number(target)}"
    reached = {each.label: each.reached(target) for each in series}
    if not any(math.isfinite(costs["steps"]) for costs in reached.values()):
        return f"The target, {goal}, is not reached."
    least, winners = [], []
    for name in _known_costs(series):
        costs = {label: each[name] for label, each in reached.items() if math.isfinite(each[name])}
        if costs:
            lowest = min(costs.values())
            first, *others = [label for label, cost in costs.items() if cost == lowest]
            least.append(f"{_cell(lowest)} {name}")
            winners.append(f"{first} and {len(others)} more" if others else first)
    if len(series) == 1:
        return f"Needed to reach {goal}: {', '.join(least)}."
    if len({*winners}) == 1:
        return f"Fewest to reach {goal}: {', '.join(least)} ({winners[0]})."
    parts = [f"{cost} ({winner})" for cost, winner in zip(least, winners, strict=True)]
    return f"Fewest to reach {goal}: {', '.join(parts)}."


def _explanation(series: Sequence[_Series], metric: str, *, is_default: bool) -> str:
    """Returns what the target is, if it was not given, and what the columns of costs are."""
    worst = "the worst series' best" if len(series) > 1 else "the best"
    origin = f"The target is {worst} {_words(metric)}. " if is_default else ""
    return (
        f"{origin}The columns after the best {_words(metric)} have the cost up to the first record "
        "that reaches the target, of the cost of all steps."
    )


def _draw(series: Sequence[_Series], metric: str, target: float) -> Figure:
    """Draws the curves over steps, and over FLOPs and seconds where they are known."""
    known = _known_costs(series)
    curves = {
        each.label: [(each.costs[name], each.curve.values) for name in known] for each in series
    }
    return draw(curves, known, _words(metric), target)


def _facts(runs: Sequence[_Run]) -> Facts:
    """Returns the folder, and folded the command and the differing settings of each run."""
    shown = differing([run.description["settings"] for run in runs])
    details = {}
    for run in runs:
        settings = run.description["settings"]
        parts = [f"{key} {settings[key]}" for key in shown if key in settings]
        details[run.name] = "; ".join([run.description["command"], *parts])
    folder_of = {run.name: str(run.folder.resolve()) for run in runs}
    return Facts("Runs", folder_of, details, "commands, and the settings that differ")


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.3g}"
