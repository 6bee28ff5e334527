"""The figure of the quickstart: accuracy against the initial learning rate, and costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.studies.quickstart.costs import Cost
from experiments.studies.quickstart.starts import Method, Sweep

SELF_TUNING = "#e6750a"
STYLES: dict[str, dict[str, Any]] = {
    "self-tuning": {"color": SELF_TUNING, "linewidth": 5, "alpha": 0.9, "label": "self-tuning"},
    "fixed": {"color": "#222222", "linewidth": 1.8, "label": "fixed learning rate"},
    "fixed, averaged": {"color": "#888888", "linestyle": ":", "label": "fixed, averaged"},
    "tower 1": {"color": "#08306b", "linestyle": "--", "label": "tower of height 1"},
    "tower 2": {"color": "#2171b5", "linewidth": 1, "label": "tower of height 2"},
    "tower 3": {"color": "#9ecae1", "linewidth": 1, "label": "tower of height 3"},
}


def draw(starts: Sequence[float], swept: Mapping[Method, Sweep], costs: Sequence[Cost]) -> Figure:
    """Draws a panel for each optimizer, and one for the cost of choosing a learning rate."""
    optimizers = dict.fromkeys(method.optimizer for method in swept)
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    panels = figure.subplots(1, len(optimizers) + 1)
    for panel, optimizer in zip(panels, optimizers, strict=False):
        sweeps = {m.choice: sweep for m, sweep in swept.items() if m.optimizer == optimizer}
        for choice, style in STYLES.items():
            if choice in sweeps:
                panel.plot(starts, sweeps[choice].mean_accuracies, **style)
        panel.set(xscale="log", ylim=(0, 103), title=optimizer, xlabel="initial learning rate")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("test accuracy, %")
    _draw_costs(panels[-1], [cost for cost in costs if cost.optimizer == "Adam"])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False)
    return figure


def _draw_costs(panel: Axes, costs: Sequence[Cost]) -> None:
    """Draws a bar for the gradients of each way to train, with its test accuracy beside it."""
    names = [cost.name for cost in costs]
    trainings = [cost.trainings for cost in costs]
    colors = [SELF_TUNING if name == "self-tuning" else "#777777" for name in names]
    bars = panel.barh(names, trainings, color=colors, height=0.6)
    accuracies = [f"{cost.accuracies.mean():.1f} ± {cost.accuracies.std():.1f}%" for cost in costs]
    panel.bar_label(bars, accuracies, padding=4)
    panel.invert_yaxis()
    panel.set(
        title="Cost of choosing Adam's learning rate",
        xlabel="gradients, relative to one training",
        xlim=(0, 1.45 * max(trainings)),
    )
    panel.grid(alpha=0.25, axis="x")
