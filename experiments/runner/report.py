"""The report of a run: one HTML file that needs nothing else, not even a network."""

import base64
from collections.abc import Sequence
from typing import Any

import jinja2

from experiments.runner.run import Results, Run, jsonable

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ results.title }}</title>
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
<h1>{{ results.title }}</h1>
<p>{{ run.study }} at scale {{ run.settings.scale }}, {{ run.began }}</p>
<div class="wide"><table>
<thead><tr>{% for head in results.columns %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in results.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% for note in results.notes %}<p>{{ note }}</p>
{% endfor %}
{% for name, data in pictures %}<p><img alt="{{ name }}" src="data:image/png;base64,{{ data }}"></p>
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
    run.description["results"] = jsonable(dict(results.values))
    run.write_description()
    pictures = [
        (path.stem, base64.b64encode(path.read_bytes()).decode())
        for path in sorted(run.folder.glob("*.png"))
    ]
    sections = [
        ("Settings", {**run.description["settings"], "command": run.description["command"]}),
        ("Environment", run.description["environment"]),
    ]
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    html = page.from_string(_PAGE).render(
        results=results, run=run.description, pictures=pictures, sections=sections
    )
    (run.folder / "report.html").write_text(html, encoding="utf-8")
    print(table(results.columns, results.rows))
    for note in results.notes:
        print(note)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in plain text, the first column to the left and the others to the right.

    Example:
      >>> print(table(["line", "loss"], [["sgd", "0.5"], ["adam", "0.25"]]))
      line  loss
      ----------
      sgd    0.5
      adam  0.25
    """
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        aligned = [row[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(aligned)

    head = line(cells[0])
    return "\n".join([head, "-" * len(head), *map(line, cells[1:])])
