"""The report of a run: one HTML file that needs no other file and no network."""

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from experiments.runner.curves import by_series, curve, draw
from experiments.runner.footprint_log import read_footprint
from experiments.runner.log import Log, jsonable, write_atomically
from experiments.runner.run import Run, read_description


class Results(NamedTuple):
    """Results of a study.

    Attributes:
      title: title of the report.
      columns: headings of the table.
      rows: cells of the table, as printed.
      notes: sentences below the table.
      values: the numbers behind the table, for `run.json`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    values: Mapping[str, Any]


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
         padding: 0 1rem; color: #1a1a1a; background: #fff; }
  h1 { line-height: 1.2; }
  img { max-width: 100%; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
  th:first-child, td:first-child { text-align: left; }
  dt { font-weight: 600; break-after: avoid; } dd { margin: 0 0 .4rem; overflow-wrap: anywhere; }
  .facts { columns: 22rem 2; font-size: .9rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
<div class="wide"><table>
<thead><tr>{% for head in columns %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% for note in notes %}<p>{{ note }}</p>
{% endfor %}
{% for name, data in pictures %}<p><img alt="{{ name }}" src="data:image/png;base64,{{ data }}"></p>
{% endfor %}
{% for fragment in fragments %}{{ fragment | safe }}
{% endfor %}
{% for heading, facts in sections %}<h2>{{ heading }}</h2>
<dl class="facts">{% for name, value in facts.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>
{% endfor %}
</body>
</html>
"""


def write_report(run: Run, results: Results) -> None:
    """Writes `report.html`, adds the results to `run.json` and prints the table."""
    run.footprint.save()
    run.description["title"] = results.title
    run.description["table"] = {"columns": [*results.columns], "rows": jsonable(results.rows)}
    run.description["notes"] = [*results.notes]
    run.description["results"] = jsonable(dict(results.values))
    run.mark("finished")
    rewrite_report(run.folder)
    print(table(results.columns, results.rows))
    for note in results.notes:
        print(note)
    print("footprint: " + "; ".join(read_footprint(run.folder, constants=False).values()))


def rewrite_report(folder: Path) -> Path:
    """Writes `report.html` from the run's files, whether the run is finished or not.

    Raises:
      RunError: the folder is not a run's folder.
    """
    description = read_description(folder)
    series = by_series(Log(folder / "metrics.jsonl").read())
    resume = shlex.join(
        ["python", "-m", "experiments", description["study"], "--resume", str(folder)]
    )
    if not _has_results(description):
        description |= _unfinished(description, series, resume)
    elif description["status"] != "finished":
        note = (
            "The run has not finished since it was last resumed; these results are from before. "
            f"Continue it with: {resume}"
        )
        description["notes"].insert(0, note)
    pictures = [picture(path) for path in sorted(folder.glob("*.png"))]
    html = page(
        title=description["title"],
        subtitle=f"{description['study']} at scale {description['settings'].get('scale')}, "
        f"{description['began']}, {description['status']}",
        **description["table"],
        notes=description["notes"],
        pictures=pictures or _loss_curves(series),
        fragments=[
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(folder.glob("*.fragment.html"))
        ],
        sections=[
            ("Settings", {**description["settings"], "command": description["command"]}),
            ("Environment", description["environment"]),
            ("Footprint", read_footprint(folder)),
        ],
    )
    write_atomically(folder / "report.html", html)
    return folder / "report.html"


def page(**contents: Any) -> str:
    """Returns the HTML of title, subtitle, columns, rows, notes, pictures and sections.

    `fragments` are included as HTML, for example interactive figures.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_PAGE).render(**{"fragments": (), **contents})


def picture(path: Path) -> tuple[str, str]:
    """Returns the name of a PNG file and its bytes in base64."""
    return path.stem, base64.b64encode(path.read_bytes()).decode()


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
        "notes": [f"This run has no results yet; resume it with: {resume}"],
    }


def _loss_curves(series: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns a figure of the losses, if any were logged."""
    curves = {name: curve(records, "loss") for name, records in series.items()}
    points = {name: [(c.steps, c.values)] for name, c in curves.items() if c}
    if not points:
        return []
    drawn = io.BytesIO()
    draw(points, ("steps",), "loss").savefig(drawn, dpi=130)
    return [("loss", base64.b64encode(drawn.getvalue()).decode())]


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
