"""`python -m experiments compare RUN RUN ...`: a table and curves of several runs.

Runs that took different numbers of steps, or whose steps cost differently, are compared by
what it took to reach one value of a metric: steps, arithmetic and seconds.
"""

import dataclasses
import datetime
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.runner.curves import Curve, curve, draw, lines_of
from experiments.runner.log import Log, jsonable, write_whole
from experiments.runner.report import page, picture, table
from experiments.runner.run import WHERE_AND_WHEN, RunError, new_folder, read_description
from experiments.runner.spending import flops_per_step


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What to compare, and by what."""

    runs: Sequence[Path]
    """Folders of runs."""
    metric: str | None = None
    """An accuracy should grow, all else shrink. By default validation_loss or loss."""
    target: float | None = None
    """The value to reach; by default the worst line's best, which every line reaches."""
    output: Path = Path("runs")
    """Folder under which `compare/TIMESTAMP` is made."""


class _Line(NamedTuple):
    """A line of a run: where it is from, how it was set and how it went."""

    run: str
    name: str
    command: str
    settings: Mapping[str, Any]
    curve: Curve
    flops: np.ndarray

    @property
    def label(self) -> str:
        return self.run if self.name == "train" else f"{self.run}: {self.name}"


def compare(comparison: Comparison) -> Path:
    """Prints the table and writes it with curves as `compare.html`; returns its path.

    Raises:
      RunError: a folder is no run's, has no metrics, or lacks the metric.
    """
    if not comparison.runs:
        raise RunError("compare needs the folders of one or more runs")
    if comparison.target is not None and not math.isfinite(comparison.target):
        raise RunError(f"--target must be a finite number, got {comparison.target}")
    names = _names(comparison.runs)
    logs = {folder: lines_of(Log(folder / "metrics.jsonl").read()) for folder in names}
    for folder, log in logs.items():
        if not log:
            raise RunError(f"{folder} has no metrics yet")
    metric = comparison.metric or _common_metric(logs)
    lines = [
        line for folder in names for line in _read(names[folder], folder, logs[folder], metric)
    ]
    target = comparison.target if comparison.target is not None else _worst(lines)
    columns, rows, values = _rows(lines, metric, target)
    relation = ">=" if lines[0].curve.more_is_better else "<="
    notes = [
        f"To the target: the first record with {metric} {relation} {target:.4g}"
        + (", the worst line's best." if comparison.target is None else "."),
        "Values are means over seeds, seconds the time in steps; FLOPs (of one network, "
        "its optimizer's included, evaluations not) are counted from the program.",
    ]
    began = datetime.datetime.now().astimezone()
    folder = new_folder(comparison.output / "compare", began.strftime("%Y-%m-%dT%H-%M-%S"))
    differing = _differing([line.settings for line in lines])
    series = {
        _legend(line, differing): [
            (line.curve.steps, line.curve.values),
            (line.flops, line.curve.values),
            (line.curve.seconds, line.curve.values),
        ]
        for line in lines
    }
    figure = draw(series, ("steps", "FLOPs", "seconds"), metric)
    figure.savefig(folder / "compare.png", dpi=130)
    html = page(
        title=f"{len(comparison.runs)} runs by {metric}",
        subtitle=began.isoformat(timespec="seconds"),
        columns=columns,
        rows=rows,
        notes=notes,
        pictures=[picture(folder / "compare.png")],
        sections=[("Runs", {line.run: line.command for line in lines})],
    )
    write_whole(folder / "compare.html", html)
    write_whole(folder / "compare.json", json.dumps(jsonable(values), indent=2) + "\n")
    print(table(columns, rows))
    for note in notes:
        print(note)
    return folder / "compare.html"


def _common_metric(logs: Mapping[Path, Mapping[str, Any]]) -> str:
    """The validation loss if every line has one, else the loss."""
    lines = [records for log in logs.values() for records in log.values()]
    validated = all(curve(records, "validation_loss") for records in lines)
    return "validation_loss" if validated else "loss"


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """A name for each folder: study and time, or the whole path where those are not enough.

    Raises:
      RunError: a folder is no run's.
    """
    names = {
        folder: f"{read_description(folder)['study']}/{folder.resolve().name}"
        for folder in dict.fromkeys(folders)
    }
    often = Counter(names.values())
    return {folder: name if often[name] == 1 else str(folder) for folder, name in names.items()}


def _read(name: str, folder: Path, log: Mapping[str, Any], metric: str) -> list[_Line]:
    description = read_description(folder)
    per_step = flops_per_step(folder)
    networks = description["settings"].get("seeds", 1)
    lines = []
    for line, records in log.items():
        values = curve(records, metric)
        if values is None:
            known = sorted({key for record in records for key in record} - {"line", "step"})
            raise RunError(f"{folder} has no metric {metric!r}; {line} has {', '.join(known)}")
        flops = values.steps * per_step.get(line, math.nan) / networks
        lines.append(
            _Line(name, line, description["command"], description["settings"], values, flops)
        )
    return lines


def _worst(lines: Sequence[_Line]) -> float:
    """The best value of the line whose best is the worst."""
    finite = [line.curve.best for line in lines if math.isfinite(line.curve.best)]
    return (min if lines[0].curve.more_is_better else max)(finite, default=math.nan)


def _rows(lines: Sequence[_Line], metric: str, target: float) -> tuple[list[str], Any, Any]:
    """The table's head and cells, and the numbers behind them."""
    differing = _differing([line.settings for line in lines])
    to = f"to {target:.4g}"
    columns = ["line", *differing, "steps", f"last {metric}", f"best {metric}", "seconds", "FLOPs"]
    columns += [f"steps {to}", f"FLOPs {to}", f"seconds {to}"]
    rows, values = [], []
    for line in lines:
        at = line.curve.reaches(target)
        reached = [
            float(numbers[at]) if at is not None else math.nan
            for numbers in (line.curve.steps, line.flops, line.curve.seconds)
        ]
        numbers = {
            "steps": float(line.curve.steps[-1]),
            f"last {metric}": line.curve.last,
            f"best {metric}": line.curve.best,
            "seconds": float(line.curve.seconds[-1]),
            "FLOPs": float(line.flops[-1]),
            **dict(zip(columns[-3:], reached, strict=True)),
        }
        settings = {name: line.settings.get(name) for name in differing}
        rows.append([line.label, *map(str, settings.values()), *map(_cell, numbers.values())])
        values.append({"line": line.label, **settings, **numbers, "target": target})
    return columns, rows, values


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the settings that are not the same everywhere."""
    names = dict.fromkeys(name for each in settings for name in each)
    for name in WHERE_AND_WHEN:
        names.pop(name, None)
    return [
        name for name in names if any(each.get(name) != settings[0].get(name) for each in settings)
    ]


def _legend(line: _Line, differing: Sequence[str]) -> str:
    settings = ", ".join(f"{name} {line.settings.get(name)}" for name in differing)
    return f"{line.label} ({settings})" if settings else line.label


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
