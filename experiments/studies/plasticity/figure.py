"""The figure of the study: accuracy, silent units and rank over the tasks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.plasticity.methods import METHODS, MethodName
from experiments.studies.plasticity.settings import Change
from experiments.studies.plasticity.training import Course


def draw(courses: Mapping[tuple[Change, MethodName], Course]) -> Figure:
    """Draws each method's means over its networks, smoothed over neighboring tasks."""
    changes = list(dict.fromkeys(change for change, _ in courses))
    figure = Figure(figsize=(6.5 * len(changes), 9), layout="constrained")
    panels = figure.subplots(3, len(changes), squeeze=False, sharex=True, sharey="row")
    names = {name: f"C{i}" for i, name in enumerate(METHODS)}
    for change, column in zip(changes, panels.T, strict=True):
        for (found, method), course in courses.items():
            if found != change:
                continue
            for panel, values in zip(
                column, (course.at_average, course.dormant, course.rank), strict=True
            ):
                line = _smoothed(values.mean(1))
                tasks = np.arange(len(line)) + 1 + (len(values) - len(line)) / 2
                label = METHODS[method].title
                panel.plot(tasks, line, color=names[method], lw=1.3, label=label)
        for panel, label in zip(
            column,
            ("online accuracy", "share of silent units", "effective rank, last layer"),
            strict=True,
        ):
            panel.set_ylabel(label)
            panel.grid(alpha=0.25)
        column[0].set_title(
            "new permutation at each task" if change == "abrupt" else "gradual change"
        )
        column[-1].set_xlabel("task")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Returns a moving average over a twenty-fifth of the tasks."""
    width = max(1, len(values) // 25)
    return np.convolve(values, np.ones(width) / width, mode="valid")
