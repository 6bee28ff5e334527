"""The report of a run: one HTML file that needs no other file and no network."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.runner.curves import by_series, curve, draw
from experiments.runner.footprint_log import read_footprint
from experiments.runner.log import Log, jsonable, write_atomically
from experiments.runner.page import DPI, Facts, Picture, Table, page, picture
from experiments.runner.run import Run, write_figure
from experiments.runner.run_folder import read_description, resume_command

SMOKE = "A smoke run shows that the study works; it is too short to judge any method."


class ResultsError(Exception):
    """Results of a study that cannot be reported; the message is one line."""


class Results(NamedTuple):
    """Results of a study.

    Attributes:
      title: title of the report; it says what ran.
      columns: headings of the table.
      rows: cells of the table, as printed; floats are rounded to four digits.
      notes: sentences below the table.
      values: the numbers behind the table, for `run.json`.
      verdict: the result in one sentence, above the table.
      tables: further tables, below the first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    values: Mapping[str, Any]
    verdict: str = ""
    tables: Sequence[Table] = ()


def write_report(run: Run, results: Results) -> None:
    """Writes `report.html`, adds the results to `run.json` and prints the tables.

    Raises:
      ResultsError: `results` is not a `Results`, a field has the wrong type, or a row has not as
        many cells as there are columns.
    """
    first, *more = _checked_tables(results)
    run.footprint.save()
    run.description["title"] = results.title
    run.description["verdict"] = results.verdict
    run.description["table"] = {"columns": [*first.columns], "rows": jsonable(first.rows)}
    run.description["more_tables"] = [jsonable(each._asdict()) for each in more]
    change = run.description.get("study_change", "")
    run.description["notes"] = [*results.notes, *filter(None, [change])]
    run.description["results"] = jsonable(dict(results.values))
    run.mark("finished")
    rewrite_report(run.folder)
    for line in (SMOKE if run.settings.scale == "smoke" else "", results.verdict):
        if line:
            print(line)
    print(table(first.columns, first.rows))
    for each in more:
        print(f"\n{each.title}\n{table(each.columns, each.rows)}")
    footprint = read_footprint(run.folder, constants=False)
    print("footprint: " + "; ".join(f"{name} {value}" for name, value in footprint.items()))
    for note in run.description["notes"]:
        print(note)


def add_figure(folder: str | Path, name: str, figure: Figure) -> Path:
    """Saves a figure in the folder of a run, finished or not, and writes its report again.

    Args:
      folder: the run's folder.
      name: name of the figure, as for `Run.save_figure`; a figure of this name is replaced.
      figure: the figure.

    Returns:
      The path of the report.

    Raises:
      RunError: the folder is not a run's folder.
    """
    folder = Path(folder)
    read_description(folder)  # a figure is written only to a run's folder
    write_figure(folder, name, figure)
    return rewrite_report(folder)


def rewrite_report(folder: Path) -> Path:
    """Writes `report.html` from the run's files, whether the run is finished or not.

    Raises:
      RunError: the folder is not a run's folder.
    """
    description = read_description(folder)
    series = by_series(Log(folder / "metrics.jsonl").read())
    resume = resume_command(description, folder)
    if not _has_results(description):
        description |= _unfinished(description, series, resume)
    pictures = [picture(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.png"))]
    html = page(
        title=description["title"],
        warnings=_warnings(description, resume),
        verdict=description.get("verdict", ""),
        origin=f"{description['study']} at scale {description['settings'].get('scale')}, "
        f"{description['began']}, {description['status']}",
        tables=[
            Table(**each) for each in (description["table"], *description.get("more_tables", ()))
        ],
        pictures=pictures or _loss_curves(series),
        fragments=[
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(folder.glob("*.fragment.html"))
        ],
        notes=description["notes"],
        sections=[
            _settings(description),
            Facts(
                "Footprint",
                read_footprint(folder, constants=False),
                read_footprint(folder),
                "constants, and what is left out",
            ),
            Facts("Environment", {}, description["environment"], "versions, device and commit"),
        ],
    )
    write_atomically(folder / "report.html", html)
    return folder / "report.html"


def _checked_tables(results: Results) -> list[Table]:
    if not isinstance(results, Results):
        raise ResultsError(f"run(settings, run) must return runner.Results, got {results!r}")
    for name in ("title", "verdict"):
        if not isinstance(text := getattr(results, name), str):
            raise ResultsError(f"{name} must be a text, got {text!r}")
    if isinstance(results.notes, str):
        raise ResultsError(f"notes must be a list of sentences, got {results.notes!r}")
    if not isinstance(results.values, Mapping):
        raise ResultsError(f"values must be a mapping of numbers by name, got {results.values!r}")
    given = [Table(results.columns, results.rows), *results.tables]
    tables = [each._replace(rows=[[*map(_cell, row)] for row in each.rows]) for each in given]
    for each in tables:
        for row in each.rows:
            if len(row) != len(each.columns):
                raise ResultsError(
                    f"rows must have {len(each.columns)} cells, as there are columns, got {row!r}"
                )
    return tables


def _cell(value: Any) -> Any:
    """Returns a cell, with four digits of a number that is not written as text."""
    if isinstance(value, (np.ndarray, jax.Array)) and not value.ndim:  # as in an outcome
        value = value.item()
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else value


def _warnings(description: Mapping[str, Any], resume: str) -> list[str]:
    """Returns what a reader must know before the results."""
    warnings = []
    if description["settings"].get("scale") == "smoke":
        warnings.append(SMOKE)
    if "results" in description and description["status"] != "finished":
        warnings.append(
            "The run has not finished since it was last resumed; these results are from before. "
            f"Continue it with: {resume}"
        )
    return warnings


def _settings(description: Mapping[str, Any]) -> Facts:
    """Returns the settings, with those at their default folded away.

    Runs by an earlier version do not know their defaults, and show all settings.
    """
    settings, defaults = description["settings"], description.get("defaults", {})
    folded = {name for name, value in settings.items() if defaults.get(name, ...) == value}
    shown, hidden = (
        {name: _in_words(settings[name]) for name in settings if (name in folded) is is_folded}
        for is_folded in (False, True)
    )
    summary = f"{len(folded)} settings at their default"
    return Facts("Settings", {"command": description["command"], **shown}, hidden, summary)


def _in_words(value: Any) -> str:
    """Returns the value of a setting without the notation of Python's None and lists."""
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    return "not set" if value is None else str(value)


def _has_results(description: Mapping[str, Any]) -> bool:
    kinds = {"title": str, "table": dict, "notes": list}
    complete = all(isinstance(description.get(name), kind) for name, kind in kinds.items())
    return complete and description["table"].keys() == {"columns", "rows"}


def _unfinished(
    description: Mapping[str, Any], series: Mapping[str, Any], resume: str
) -> dict[str, Any]:
    """Returns title, table and notes of a run without results."""
    curves = {name: curve(records, "loss") for name, records in series.items()}
    rows = [
        [name, f"{c.steps[-1]:,.0f}", f"{c.last:.4g}", f"{c.best:.4g}", f"{c.seconds[-1]:.4g}"]
        for name, c in curves.items()
        if c
    ]
    return {
        "title": f"{description['study']}, not finished",
        "table": {
            "columns": ["series", "steps", "last loss", "best loss", "seconds"],
            "rows": rows,
        },
        "verdict": f"This run has no results yet; resume it with: {resume}",
        "notes": [*filter(None, [description.get("study_change", "")])],
    }


def _loss_curves(series: Mapping[str, Any]) -> list[Picture]:
    """Returns a figure of the losses, if any were logged."""
    curves = {name: curve(records, "loss") for name, records in series.items()}
    points = {name: [(c.steps, c.values)] for name, c in curves.items() if c}
    if not points:
        return []
    drawn = io.BytesIO()
    draw(points, ("steps",), "loss").savefig(drawn, dpi=DPI)
    return [picture("loss", drawn.getvalue())]


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in plain text; the first column is left-aligned, the others right-aligned.

    Example:
      >>> print(table(["series", "loss"], [["sgd", "0.5"], ["adam", "0.25"]]))
      series  loss
      ------------
      sgd      0.5
      adam    0.25
    """
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        aligned = [row[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(aligned)

    head = line(cells[0])
    return "\n".join([head, "-" * len(head), *map(line, cells[1:])])
