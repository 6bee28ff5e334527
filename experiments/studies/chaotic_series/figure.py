"""The figure of the study: losses and learning rates of every stream."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.chaotic_series.measures import best_fixed
from experiments.studies.chaotic_series.methods import METHODS, STARTS
from experiments.studies.chaotic_series.streams import STREAMS
from experiments.studies.chaotic_series.training import Course, Key


def draw(courses: Mapping[Key, Course]) -> Figure:
    """Draws medians over the networks: the best fixed learning rate, and methods that learn it."""
    streams = list(dict.fromkeys(key.stream for key in courses))
    figure = Figure(figsize=(6 * len(streams), 8), layout="constrained")
    panels = figure.subplots(2, len(streams), squeeze=False, sharex=True)
    colors = {name: f"C{i}" for i, name in enumerate(METHODS)}
    for stream, (top, bottom) in zip(streams, panels.T, strict=True):
        best = best_fixed(courses, stream).key
        for key, course in courses.items():
            if key.stream != stream or (key.method == "sgd" and key != best):
                continue
            is_oracle = key == best
            style = {
                "color": "black" if is_oracle else colors[key.method],
                "ls": "--" if key.start == STARTS[0] and not is_oracle else "-",
                "lw": 1.8 if is_oracle else 1.1,
            }
            label = "best fixed rate" if is_oracle else METHODS[key.method].title
            if key.start is not None and not is_oracle:
                label += f" from {key.start:g}"
            top.plot(*_smoothed(course.losses), label=label, **style)
            bottom.plot(*_smoothed(course.rates), **style)
        top.set(title=STREAMS[stream].title, ylabel="prequential loss", yscale="log")
        bottom.set(xlabel="step", ylabel="learning rate", yscale="log")
        for panel in (top, bottom):
            panel.grid(alpha=0.25)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _smoothed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and medians over networks and over a fiftieth of the steps each."""
    parts = np.array_split(np.arange(len(values)), min(50, len(values)))
    return np.array([part.mean() for part in parts]), np.array(
        [np.median(values[part]) for part in parts]
    )
