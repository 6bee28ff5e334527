"""The figure of the sensitivity study: final loss against the initial learning rate."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from experiments.studies.sensitivity.published_towers import (
    MIN_LOSS,
    SELF_TUNING,
    PublishedTowers,
    tower_name,
)
from experiments.studies.sensitivity.settings import ROBUST
from experiments.studies.sensitivity.sweeps import StartSweep

SPAN = 10.0  # top of a panel, relative to the best fixed loss; larger losses are drawn there


def draw(sweeps: Sequence[StartSweep], published: PublishedTowers) -> Figure:
    """Draws a panel for each sweep, and the published towers beside them."""
    titles = list(dict.fromkeys(sweep.workload.title for sweep in sweeps))
    optimizers = list(dict.fromkeys(sweep.optimizer for sweep in sweeps))
    height, width = len(titles), len(optimizers)
    figure = Figure(figsize=(2.5 * width + 4.5, max(2.3 * height + 0.6, 4.5)), layout="constrained")
    grid = figure.add_gridspec(height, width + 1, width_ratios=[3.2] * width + [5])
    for sweep in sweeps:
        row, column = titles.index(sweep.workload.title), optimizers.index(sweep.optimizer)
        panel = figure.add_subplot(grid[row, column])
        _draw_sweep(panel, sweep)
        if column == 0:
            panel.set_ylabel("loss", fontsize=9)
        if row == height - 1:
            panel.set_xlabel("initial learning rate", fontsize=9)
        if row == column == 0:
            panel.legend(fontsize=8, loc="upper left")
    _draw_published(figure.add_subplot(grid[:, width]), published)
    return figure


def _draw_sweep(panel: Axes, sweep: StartSweep) -> None:
    fixed = sweep.grid
    best = fixed.losses.min()
    top = SPAN * best
    self_tuned = [result.loss for result in sweep.self_tuned]
    robust = ROBUST[sweep.workload.kind] * best
    panel.axhspan(best, robust, color="#2e86c1", alpha=0.15, linewidth=0)
    _plot(panel, fixed.rates, fixed.averaged, top, color="#bbbbbb", label="fixed rate, averaged")
    _plot(panel, fixed.rates, fixed.losses, top, color="#666666", label="fixed rate")
    _plot(panel, sweep.starts, self_tuned, top, color="#154360", label="self-tuning")
    _set_scales(panel, min(best, fixed.averaged.min(), *self_tuned), top)
    panel.set_title(f"{sweep.workload.title}, {sweep.optimizer}", fontsize=10)
    panel.set_xlim(0.3 * min(sweep.starts), 3 * max(sweep.starts))


def _draw_published(panel: Axes, published: PublishedTowers) -> None:
    top = 4 * MIN_LOSS  # above log 10, the loss before training
    count = len(published.towers)
    for i, (height, trials) in enumerate(zip(published.heights, published.towers, strict=True)):
        shade = f"{0.8 - 0.8 * i / max(count - 1, 1):.2f}"
        losses = [trial.loss for trial in trials]
        _plot(panel, published.starts, losses, top, color=shade, label=tower_name(height))
    losses = [trial.loss for trial in published.self_tuned]
    _plot(panel, published.starts, losses, top, color="#2e86c1", label=SELF_TUNING)
    panel.axhline(MIN_LOSS, color="#2e86c1", linewidth=0.8, linestyle=":")
    _set_scales(panel, MIN_LOSS, top)
    panel.set_title(f"as published: {published.workload.title}", fontsize=10)
    panel.set_xlabel("initial learning rate of every level", fontsize=9)
    panel.legend(fontsize=8, loc="upper center", ncols=2)


def _plot(
    panel: Axes,
    x: Sequence[float],
    y: Sequence[float] | np.ndarray,
    top: float,
    *,
    color: str,
    label: str,
) -> None:
    """Plots a curve; values that diverged or exceed `top` are crosses at the top."""
    top = top if np.isfinite(top) else 1.0
    x_values, y_values = np.asarray(x), np.asarray(y)
    off = ~(y_values <= top)
    panel.plot(
        x_values,
        np.where(off, np.nan, y_values),
        marker=".",
        color=color,
        label=label,
        linewidth=1.3,
    )
    panel.plot(x_values[off], np.full(off.sum(), top), "x", color=color)


def _set_scales(panel: Axes, least: float, top: float) -> None:
    """Sets logarithmic axes, from below the least loss to above the crosses."""
    panel.set(xscale="log", yscale="log")
    if np.isfinite(least) and np.isfinite(top):
        panel.set_ylim(0.85 * least, 1.2 * top)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
