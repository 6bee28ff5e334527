"""Comparison of several runs, a table and curves: `python -m experiments compare RUN RUN ...`.

Runs with different numbers of steps, or steps of different cost, are compared by what they
need to reach one value of a metric: steps, FLOPs and seconds.
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
import tyro

from experiments.runner.curves import Curve, by_series, curve, draw
from experiments.runner.footprint_log import flops_per_step
from experiments.runner.log import Log, jsonable, write_atomically
from experiments.runner.report import page, picture, table
from experiments.runner.run import RunError, new_folder, read_description
from experiments.runner.settings import NOT_IN_RESULTS


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


class _Series(NamedTuple):
    """A series of a run: its origin, settings and curve."""

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
      RunError: a folder is not a run's folder, has no metrics, or lacks the metric.
    """
    if not comparison.folders:
        raise RunError("compare needs the folders of one or more runs")
    if comparison.target is not None and not math.isfinite(comparison.target):
        raise RunError(f"--target must be a finite number, got {comparison.target}")
    names = _names(comparison.folders)
    logs = {folder: by_series(Log(folder / "metrics.jsonl").read()) for folder in names}
    for folder, log in logs.items():
        if not log:
            raise RunError(f"{folder} has no metrics yet")
    metric = comparison.metric or _common_metric(logs)
    series = [
        each for folder in names for each in _read(names[folder], folder, logs[folder], metric)
    ]
    target = comparison.target if comparison.target is not None else _worst_best(series)
    columns, rows, values = _table(series, metric, target)
    relation = ">=" if series[0].curve.higher_is_better else "<="
    notes = [
        f"The target is reached at the first record with {metric} {relation} {target:.4g}"
        + (", the worst series' best value." if comparison.target is None else "."),
        "Values are means over seeds; seconds are time in steps. FLOPs are counted from the "
        "program, for one network with its optimizer, without evaluations.",
    ]
    began = datetime.datetime.now().astimezone()
    folder = new_folder(
        (comparison.output or comparison.runs) / "compare", began.strftime("%Y-%m-%dT%H-%M-%S")
    )
    differing = _differing([each.settings for each in series])
    curves = {
        _legend(each, differing): [
            (each.curve.steps, each.curve.values),
            (each.flops, each.curve.values),
            (each.curve.seconds, each.curve.values),
        ]
        for each in series
    }
    figure = draw(curves, ("steps", "FLOPs", "seconds"), metric)
    figure.savefig(folder / "compare.png", dpi=130)
    html = page(
        title=f"{len(comparison.folders)} runs by {metric}",
        subtitle=began.isoformat(timespec="seconds"),
        columns=columns,
        rows=rows,
        notes=notes,
        pictures=[picture(folder / "compare.png")],
        sections=[("Runs", {each.run: each.command for each in series})],
    )
    write_atomically(folder / "compare.html", html)
    write_atomically(folder / "compare.json", json.dumps(jsonable(values), indent=2) + "\n")
    print(table(columns, rows))
    for note in notes:
        print(note)
    return folder / "compare.html"


def _common_metric(logs: Mapping[Path, Mapping[str, Any]]) -> str:
    """Returns the validation loss if every series has one, else the loss."""
    validated = all(
        curve(records, "validation_loss") for log in logs.values() for records in log.values()
    )
    return "validation_loss" if validated else "loss"


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Returns a name for each folder: study and time, or the path where that is ambiguous.

    Raises:
      RunError: a folder is not a run's folder.
    """
    names = {
        folder: f"{read_description(folder)['study']}/{folder.resolve().name}"
        for folder in dict.fromkeys(folders)
    }
    counts = Counter(names.values())
    return {folder: name if counts[name] == 1 else str(folder) for folder, name in names.items()}


def _read(run: str, folder: Path, log: Mapping[str, Any], metric: str) -> list[_Series]:
    description = read_description(folder)
    per_step = flops_per_step(folder)
    settings = description["settings"]
    series = []
    for name, records in log.items():
        found = curve(records, metric)
        if found is None:
            known = sorted({key for record in records for key in record} - {"series", "step"})
            raise RunError(f"{folder} has no metric {metric!r}; {name} has {', '.join(known)}")
        flops = found.steps * per_step.get(name, math.nan) / settings.get("seeds", 1)
        series.append(_Series(run, name, description["command"], settings, found, flops))
    return series


def _worst_best(series: Sequence[_Series]) -> float:
    """Returns the best value of the series whose best value is the worst."""
    finite = [each.curve.best for each in series if math.isfinite(each.curve.best)]
    return (min if series[0].curve.higher_is_better else max)(finite, default=math.nan)


def _table(
    series: Sequence[_Series], metric: str, target: float
) -> tuple[list[str], list[list[str]], list[dict[str, Any]]]:
    """Returns the headings of the table, its cells, and the numbers behind them."""
    differing = _differing([each.settings for each in series])
    to = f"to {target:.4g}"
    columns = ["series", *differing, "steps", f"last {metric}", f"best {metric}"]
    columns += ["seconds", "FLOPs", f"steps {to}", f"FLOPs {to}", f"seconds {to}"]
    rows, values = [], []
    for each in series:
        index = each.curve.reaches(target)
        reached = [
            float(numbers[index]) if index is not None else math.nan
            for numbers in (each.curve.steps, each.flops, each.curve.seconds)
        ]
        numbers = {
            "steps": float(each.curve.steps[-1]),
            f"last {metric}": each.curve.last,
            f"best {metric}": each.curve.best,
            "seconds": float(each.curve.seconds[-1]),
            "FLOPs": float(each.flops[-1]),
            **dict(zip(columns[-3:], reached, strict=True)),
        }
        settings = {name: each.settings.get(name) for name in differing}
        rows.append([each.label, *map(str, settings.values()), *map(_cell, numbers.values())])
        values.append({"series": each.label, **settings, **numbers, "target": target})
    return columns, rows, values


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the settings that differ between runs and affect results."""
    names = dict.fromkeys(name for each in settings for name in each)
    return [
        name
        for name in names
        if name not in NOT_IN_RESULTS
        and any(each.get(name) != settings[0].get(name) for each in settings)
    ]


def _legend(series: _Series, differing: Sequence[str]) -> str:
    settings = ", ".join(f"{name} {series.settings.get(name)}" for name in differing)
    return f"{series.label} ({settings})" if settings else series.label


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
