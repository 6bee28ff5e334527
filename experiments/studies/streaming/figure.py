"""The figures of the study: accuracy, learning rate and alarms over a stream."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.streaming.evaluation import window_of
from experiments.studies.streaming.report import Row
from experiments.studies.streaming.tasks import Stream, Task


def draw(task: Task, stream: Stream, rows: Sequence[Row]) -> Figure:
    """Draws the course of every learner through a stream; of several seeds, the median one."""
    models = list(dict.fromkeys(row.model for row in rows))
    figure = Figure(figsize=(8 * len(models), 8), layout="constrained")
    panels = figure.subplots(3, len(models), squeeze=False, sharex=True)
    window, labels = window_of(stream), stream.labels
    repeats = np.convolve(labels[1:] == labels[:-1], np.ones(window) / window, "valid")
    for model, (accuracy, rate, alarms) in zip(models, panels.T, strict=True):
        accuracy.plot(
            np.arange(len(repeats)) + window, repeats, color="#999999", lw=1, label="last class"
        )
        shown = [row for row in rows if row.model == model]
        for number, row in enumerate(shown):
            course, color = row.median, f"C{number}"
            label = f"{row.learner} ({100 * course.accuracy:.2f}%)"
            accuracy.plot(course.examples, course.recent, color=color, lw=1.2, label=label)
            if np.isfinite(course.learning_rates).any():
                rate.plot(course.examples, course.learning_rates, color=color, label=row.learner)
            alarms.plot(course.alarms, np.full(len(course.alarms), number), "|", color=color)
        accuracy.set(title=f"{task.title}; {model}", ylabel=f"accuracy of the last {window}")
        rate.set(ylabel="learning rate", yscale="log")
        alarms.set(xlabel="examples", ylabel="alarms", ylim=(-0.5, len(shown) - 0.5))
        alarms.set_yticks(range(len(shown)), [row.learner for row in shown])
        for panel in (accuracy, rate):
            panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        for panel in (accuracy, rate, alarms):
            panel.grid(alpha=0.25)
    return figure
