"""The figure of the study of population-based training: curves and learned schedules."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.pbt.settings import SPACES, Size
from experiments.studies.pbt.training import METHODS, Comparison


def draw(found: Sequence[Comparison], size: Size) -> Figure:
    """Draws the best validation losses so far, and the hyperparameters of the selected networks."""
    figure = Figure(figsize=(5.0 * (1 + len(SPACES)), 4.2), layout="constrained")
    losses, *panels = figure.subplots(1, 1 + len(SPACES))
    ends = size.steps_per_rung * np.arange(1, size.rungs + 1)
    for color, name in (("C0", "pbt"), ("C1", "random_search")):
        curves = np.array([getattr(each, name).curve for each in found])
        losses.plot(ends, curves.T, color=color, linewidth=0.6, alpha=0.5)
        losses.plot(ends, curves.mean(axis=0), color=color, linewidth=2.2, label=METHODS[name])
    tuned = float(np.mean([each.self_tuning.validation for each in found]))
    losses.plot(ends[-1], tuned, "o", color="C2", label=METHODS["self_tuning"])
    losses.set(xlabel="steps of an agent", ylabel="best validation loss so far", yscale="log")
    losses.legend(fontsize=8)
    for panel, name in zip(panels, SPACES, strict=True):
        for each in found:
            panel.step(ends, getattr(each.random_search, name), color="C1", alpha=0.7, where="pre")
            panel.step(ends, getattr(each.pbt, name), color="C0", where="pre")
        panel.set(xlabel="steps of an agent", yscale="log", title=name.replace("_", " "))
    for panel in (losses, *panels):
        panel.grid(alpha=0.25)
    return figure
