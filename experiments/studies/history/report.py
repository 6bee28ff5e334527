"""The table of the study, with its notes."""

from collections.abc import Mapping

import numpy as np

from experiments import runner
from experiments.studies.history.descent import Path
from experiments.studies.history.figures import Found
from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.methods import METHODS
from experiments.studies.history.settings import SOLVED, Setup


def make_results(setup: Setup, landscapes: Mapping[str, Landscape], found: Found) -> runner.Results:
    """Returns the tables, the notes and the numbers."""
    columns = ("method", "year", "added", "solved")
    rows = [
        (METHODS[name].title, METHODS[name].year, METHODS[name].addition, _solved(name, found))
        for name in setup.methods
    ]
    values = {
        landscape: {name: _numbers(path) for name, path in paths.items()}
        for landscape, paths in found.items()
    }
    tables = [_evaluations_table(setup, landscapes, found), _sources_table(setup)]
    title = "From Cauchy to now"
    notes = _notes(setup)
    return runner.Results(title, columns, rows, notes, values, _verdict(setup, found), tables)


def _solved(name: str, found: Found) -> str:
    count = sum(int(paths[name].reached >= 0) for paths in found.values())
    return f"{count} of {len(found)}"


def _numbers(path: Path) -> dict[str, float]:
    return {
        "learning_rate": float(path.learning_rate),
        "reached": int(path.reached),
        "tuned": int(path.tuned),
        "least": float(path.least[-1]),
        "evaluations": int(path.evaluations[-1]),
    }


def _evaluations_table(
    setup: Setup, landscapes: Mapping[str, Landscape], found: Found
) -> runner.Table:
    rows = [
        (METHODS[name].title, *(_cell(paths[name]) for paths in found.values()))
        for name in setup.methods
    ]
    columns = ("method", *(landscapes[name].title for name in found))
    return runner.Table(columns, rows, "Evaluations until solved, at the best learning rate")


def _cell(path: Path) -> str:
    reached = f"{path.reached:,}" if path.reached >= 0 else "-"
    return reached if np.isnan(path.learning_rate) else f"{reached} at {path.learning_rate:g}"


def _sources_table(setup: Setup) -> runner.Table:
    rows = [(METHODS[name].label, METHODS[name].source) for name in setup.methods]
    return runner.Table(("method", "source"), rows, "Sources")


def _verdict(setup: Setup, found: Found) -> str:
    counts = {
        name: sum(int(paths[name].reached >= 0) for paths in found.values())
        for name in setup.methods
    }
    most = max(counts.values())
    best = ", ".join(METHODS[name].title for name, count in counts.items() if count == most)
    return f"Most landscapes solved: {most} of {len(found)}, by {best}."


def _notes(setup: Setup) -> list[str]:
    return [
        f"A landscape is solved at the first value less than {SOLVED:g} above its minimum, within "
        f"{setup.budget:,} evaluations. A value counts if the next nine are not higher.",
    ]
