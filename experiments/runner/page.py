"""A page of HTML that needs no other file and no network."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import markupsafe

DPI = 130
"""Resolution of the figures."""
MANY_COLUMNS, MOST_COLUMNS = 9, 14
"""Tables with more columns are set in smaller type, so that they fit a window of 1,200 pixels."""


class Table(NamedTuple):
    """A table of a report.

    Attributes:
      columns: headings.
      rows: cells, as printed.
      title: heading of the table, if it is not the only one.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""


class Picture(NamedTuple):
    """A PNG file: its name, its bytes in base64 and its width on the page in pixels."""

    name: str
    data: str
    width: int


class Facts(NamedTuple):
    """Names with their values, under a heading.

    Attributes:
      heading: heading of the section.
      shown: the facts that are always visible.
      folded: the facts that a click on `summary` shows.
      summary: says what is folded.
    """

    heading: str
    shown: Mapping[str, Any]
    folded: Mapping[str, Any] | None = None
    summary: str = ""


_PAGE = """\
{% macro facts(pairs) %}
<dl>{% for name, value in pairs.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 1.5rem auto;
         padding: 0 1.25rem; color: #1a1a1a; background: #fff; overflow-wrap: break-word; }
  .whole { white-space: nowrap; }
  h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
  h2 { margin: 2rem 0 .5rem; font-size: 1.25rem; }
  p, li { max-width: 52rem; margin: 0 0 .6rem; }
  .warning { background: #fff3cd; border-left: 4px solid #b58900; padding: .4rem .8rem; }
  .verdict { font-size: 1.15rem; }
  .origin { color: #555; font-size: .9rem; }
  img { max-width: 100%; margin-top: .5rem; }
  ul { padding-left: 1.2rem; }
  .wide { overflow-x: auto; margin: 1rem 0; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  caption { text-align: left; font-weight: 600; padding-bottom: .2rem; }
  th, td { --pad: .8rem; text-align: right; padding: .2rem var(--pad); line-height: 1.3;
           border-bottom: 1px solid #ddd; }
  .many { font-size: .8rem; } .many th, .many td { --pad: .4rem; }
  .most { font-size: .72rem; } .most th, .most td { --pad: .2rem; }
  th { vertical-align: bottom; } td:not(:first-child) { white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; padding-left: 0; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .5rem 0;
       font-size: .9rem; }
  dt { font-weight: 600; max-width: 16rem; } dd { margin: 0; overflow-wrap: anywhere; }
  summary { cursor: pointer; font-size: .9rem; color: #444; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for warning in warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
{% if verdict %}<p class="verdict">{{ verdict | whole }}</p>
{% endif %}
<p class="origin">{{ origin }}</p>
{% for table in tables %}<div class="wide"><table class="{{ size(table) }}">
{% if table.title %}<caption>{{ table.title }}</caption>
{% endif %}
<thead><tr>{% for head in table.columns %}<th>{{ head | whole }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% endfor %}
{% for each in pictures %}<img alt="{{ each.name }}" width="{{ each.width }}"
src="data:image/png;base64,{{ each.data }}">
{% endfor %}
{% for fragment in fragments %}{{ fragment | safe }}
{% endfor %}
{% if notes %}<h2>Notes</h2>
<ul>
{% for note in notes %}<li>{{ note | whole }}</li>
{% endfor %}</ul>
{% endif %}
{% for section in sections %}<h2>{{ section.heading }}</h2>
{% if section.shown %}{{ facts(section.shown) }}{% endif %}
{% if section.folded %}<details><summary>{{ section.summary }}</summary>
{{ facts(section.folded) }}</details>
{% endif %}
{% endfor %}
</body>
</html>
"""


def page(
    *,
    title: str,
    origin: str,
    tables: Sequence[Table],
    warnings: Sequence[str] = (),
    verdict: str = "",
    pictures: Sequence[Picture] = (),
    fragments: Sequence[str] = (),
    notes: Sequence[str] = (),
    sections: Sequence[Facts] = (),
) -> str:
    """Returns the HTML of a page, whose parts are in the order of these arguments.

    Args:
      title: the heading.
      origin: one line that says where the page is from.
      tables: the tables.
      warnings: sentences at the top that readers must know before the results.
      verdict: the result in one sentence.
      pictures: the PNG files.
      fragments: HTML that is included as it is, for example interactive figures.
      notes: sentences.
      sections: facts under headings, at the end.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["whole"] = _whole
    return (
        environment.from_string(_PAGE)
        .render(
            title=title,
            origin=origin,
            tables=tables,
            warnings=warnings,
            verdict=verdict,
            pictures=pictures,
            fragments=fragments,
            notes=notes,
            sections=sections,
            size=_size,
        )
        .lstrip()
    )


def _size(table: Table) -> str:
    columns = len(table.columns)
    return "most" if columns > MOST_COLUMNS else "many" if columns > MANY_COLUMNS else ""


def _whole(value: Any) -> markupsafe.Markup:
    """Returns the value as HTML that does not break a line inside of a number or an interval."""
    text = str(markupsafe.escape(value))
    return markupsafe.Markup(_NUMBERS.sub(r'<span class="whole">\g<0></span>', text))  # noqa: S704


_NUMBERS = re.compile(r"[\d.]+e-\d+|\[[^\]<>&]{1,16}\]")


def picture(name: str, png: bytes) -> Picture:
    """Returns a picture for a page; letters of 12 points are as large as the page's own.

    Args:
      name: name of the picture.
      png: content of a PNG file.
    """
    pixels = int.from_bytes(png[16:20], "big")  # where PNG has the width
    return Picture(name, base64.b64encode(png).decode(), round(pixels * 96 / DPI))
