"""The figure of the study of `jd.hybrid`: success against evaluations."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.studies.hybrid.ablation import VARIANTS
from experiments.studies.hybrid.methods import METHODS
from experiments.studies.hybrid.report import GroupResult
from experiments.studies.hybrid.settings import SUITES


def draw(found: Sequence[GroupResult]) -> Figure:
    """Draws a panel for each group, with a line for each method."""
    figure = Figure(figsize=(5.2 * len(found) + 2, 4.4), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for panel, result in zip(panels, found, strict=True):
        _draw_group(panel, result)
    panels[0].set_ylabel("success, % of the runs")
    fullest = max(panels, key=lambda panel: len(panel.lines))
    figure.legend(*fullest.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def _draw_group(panel: Axes, result: GroupResult) -> None:
    group = result.group
    for name, cells in result.cells.items():
        reached = np.concatenate([cell.to_target for cell in cells.values()])
        order = np.sort(reached[reached > 0])
        success = 100 * np.arange(1, len(order) + 1) / len(reached)
        x = np.concatenate([[1], order, [group.budget]])
        y = np.concatenate([[0], success, [success[-1] if len(order) else 0]])
        number = list(METHODS).index(name)
        style = {"color": f"C{number}", "linewidth": 2.2 if name == "hybrid" else 1.2}
        style["linestyle"] = "--" if name in VARIANTS else "-"
        panel.step(x, y, where="post", label=METHODS[name].title, **style)
    panel.set(xscale="log", xlabel="evaluations", ylim=(-1, 101), xlim=(10, group.budget))
    panel.set_title(f"{SUITES[group.suite]}, {group.title}", fontsize=9)
    panel.grid(alpha=0.25)
