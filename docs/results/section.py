"""Prints the section of the results page for a finished run: `python docs/results/section.py RUN`.

The numbers of the page come from here; none is typed by hand. Run it from the repository's root,
with the root on PYTHONPATH.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runner import read_description
from experiments.runner.footprint_log import read_footprint


def section(folder: Path) -> str:
    """Returns the section in Markdown: command, date, versions, verdict, tables and notes.

    Raises:
      RunError: the folder is not a run's folder.
      KeyError: the run is not finished.
    """
    run = read_description(folder)
    command = re.sub(r" --runs \S+", "", run["command"])
    facts = [f"scale {run['settings']['scale']}", run["began"][:10]]
    facts += [f"{name} {run['environment'][name]}" for name in ("jax", "optax")]
    cpu_time = read_footprint(folder, constants=False)["CPU time"].split(" (")[0]
    facts.append(f"CPU time {cpu_time}")
    tables = [run["table"], *run.get("more_tables", ())]
    notes = [re.sub(r"[^\s'\"]*/(?=\w+/\d{4}-)", "runs/", note) for note in run["notes"]]
    return "\n\n".join(
        [
            f"## {run['study']}",
            f"*{run['title']}.* `{command}`: {', '.join(facts)}.",
            *([_escaped(run["verdict"])] if run.get("verdict") else []),
            *map(_table, tables),
            *map(_escaped, notes),
        ]
    )


def _table(table: Mapping[str, Any]) -> str:
    """Returns a table in Markdown, with its title above it."""
    head, rows = table["columns"], table["rows"]
    lines = [head, [":--", *["--:" for _ in head[1:]]], *rows]
    title = f"{table['title']}:\n\n" if table.get("title") else ""
    return title + "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    return re.sub(r"(?<!:)([*|<])", r"\\\1", str(text))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(section(Path(argument)), end="\n\n")
