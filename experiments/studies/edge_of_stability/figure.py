"""The figure of the edge of stability study: loss and sharpness of each case."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.studies.edge_of_stability.summary import CaseResult


def draw(case_results: Sequence[CaseResult]) -> Figure:
    """Draws a column for each case: the loss above, sharpness over threshold below."""
    width = min(len(case_results), 6)
    blocks = -(-len(case_results) // width)
    figure = Figure(figsize=(2.5 * width + 0.8, 3.8 * blocks + 0.4), layout="constrained")
    panels = figure.subplots(2 * blocks, width, squeeze=False, sharex=True)
    for panel in panels.flat:
        panel.set_visible(False)
    for i, result in enumerate(case_results):
        block, column = divmod(i, width)
        above, below = panels[2 * block : 2 * block + 2, column]
        _draw_curves(above, result, "loss")
        _draw_curves(below, result, "ratio")
        above.set_title(result.case.name, fontsize=10)
        above.set_yscale("log")
        above.set_ylim(*_loss_range(case_results))
        below.axhline(1, color="#c0392b", linewidth=1.2, linestyle="--")
        below.set_ylim(0, 1.5)
        below.set_xlabel("step", fontsize=9)
        below.tick_params(labelbottom=True)
        for panel, label in ((above, "training loss"), (below, "sharpness / threshold")):
            panel.set_ylabel(label if column == 0 else "", fontsize=9)
            panel.tick_params(labelleft=column == 0)
    seeds = len(case_results[0].histories)
    others = f", {seeds - 1} more in gray" if seeds > 1 else ""
    title = f"{case_results[0].task}: one seed in blue{others}; the dashed line is the threshold"
    figure.suptitle(title, fontsize=10)
    return figure


def _loss_range(case_results: Sequence[CaseResult]) -> tuple[float, float]:
    """Returns limits that contain all positive losses of networks that did not diverge."""
    histories = [each for result in case_results for each in result.histories]
    losses = np.concatenate([[], *[each.loss for each in histories if not each.diverged]])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return 0.7 * np.min(losses, initial=1.0), 1.4 * np.max(losses, initial=1e-3)


def _draw_curves(panel: Axes, result: CaseResult, field: str) -> None:
    panel.set_visible(True)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    first, *others = result.histories
    for history in others:
        panel.plot(history.step, getattr(history, field), color="#bbbbbb", linewidth=0.7)
    panel.plot(first.step, getattr(first, field), color="#154360", linewidth=1.1)
