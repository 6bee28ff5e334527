"""Prints one table over the studies of applications: `python docs/results/applications.py RUN...`.

RUN are folders of finished runs of vision, language, forecasting and medical. Run it from the
repository's root, with the root on PYTHONPATH.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.methods import METHODS
from experiments.methods.report import UNITS
from experiments.runner import read_description

GRIDS = ("adam", "adam_cosine", "sgd", "sgd_cosine")
SHOWN = ("prodigy", "schedule_free", "self_tuning", "agents", "agents_unpruned")
COLUMNS = ("task", "method", "test loss", "/ best grid", "FLOPs", "/ all grids", "J")


def rows_of(task: str, methods: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row for the best grid and for each other method of a task.

    Args:
      task: the task's name.
      methods: the results by method, as `experiments.methods.values_of` returns them.
    """
    best = min(GRIDS, key=lambda name: np.mean(methods[name]["loss"]))
    all_grids = sum(methods[name]["flops"] for name in GRIDS)
    rows = []
    for name in (best, *SHOWN):
        found = methods[name]
        loss, flops = np.mean(found["loss"]), found["flops"]
        unit, title = next(each for each in UNITS if flops >= each[0])
        low, middle, high = found["joules"]
        rows.append(
            (
                task,
                f"best grid: {METHODS[name].title}" if name == best else METHODS[name].title,
                f"{loss:.4f}",
                f"{loss / np.mean(methods[best]['loss']):.3f}",
                f"{flops / unit:.3g} {title}",
                f"{flops / all_grids:.3f}",
                f"{middle:.3g} ({low:.2g} to {high:.2g})",
            )
        )
    return rows


def tasks_in(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the results of the tasks that all methods trained."""
    found = results.get("methods", results)
    return {task: each for task, each in found.items() if {*GRIDS, *SHOWN} <= each.keys()}


if __name__ == "__main__":
    lines = [" | ".join(COLUMNS), " | ".join(":--" if i < 2 else "--:" for i in range(7))]
    for folder in map(Path, sys.argv[1:]):
        run = read_description(folder)
        for task, methods in tasks_in(run["results"]).items():
            lines += map(" | ".join, rows_of(task, methods))
    print("\n".join(f"| {line} |" for line in lines))
