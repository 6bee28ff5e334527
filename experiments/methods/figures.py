"""The pictures of a study that trains by several methods."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.methods.contest import Contest, loss_ratios
from experiments.methods.outcome import Trained
from experiments.methods.registry import METHODS

COLORS = {
    "adam": "#9ecae1",
    "adam_cosine": "#2171b5",
    "sgd": "#c7c7c7",
    "sgd_cosine": "#777777",
    "prodigy": "#8c6bb1",
    "schedule_free": "#41ab5d",
    "self_tuning": "#e6750a",
    "self_tuning_sgd": "#fdae6b",
    "agents": "#cb181d",
    "agents_unpruned": "#fc9272",
}
WIDE = ("self_tuning", "self_tuning_sgd", "agents", "agents_unpruned")
OTHER = "#111111"
LIMIT = 2.0  # the largest ratio of losses in a profile

Curve = tuple[np.ndarray, np.ndarray]


def draw_compute(contests: Sequence[Contest]) -> Figure:
    """Draws the test loss against the FLOPs of everything trained up to then."""
    return _draw(contests, Trained.curve, xscale="log", xlabel="FLOPs, tuning included")


def draw_steps(contests: Sequence[Contest]) -> Figure:
    """Draws the test loss of the selected training against its steps."""

    def curve(trained: Trained) -> Curve:
        return trained.selected.steps, trained.selected.test.mean(1)

    return _draw(contests, curve, xlabel="steps of the selected training")


def draw_profile(contests: Sequence[Contest]) -> Figure:
    """Draws the share of tasks and seeds on which a method is within a ratio of the best loss."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    panel = figure.subplots()
    for name, ratios in loss_ratios(contests).items():
        within = np.sort(ratios[ratios <= LIMIT])
        shares = np.arange(1, len(within) + 1) / len(ratios)
        xs, ys = (
            np.array([1.0, *within, LIMIT]),
            np.array([0.0, *shares, len(within) / len(ratios)]),
        )
        panel.step(xs, ys, where="post", **_style(name))
    panel.set(
        xlabel="test loss, relative to the best method's",
        ylabel="share of tasks and seeds",
        xlim=(1, LIMIT),
        ylim=(0, 1.02),
    )
    panel.grid(alpha=0.25)
    _legend(figure, [panel])
    return figure


def _draw(contests: Sequence[Contest], curve: Callable[[Trained], Curve], **axes: Any) -> Figure:
    """Draws a panel for each task, with a curve for each method."""
    figure = Figure(figsize=(max(7.5, 4.6 * len(contests)), 5), layout="constrained")
    panels = list(figure.subplots(1, len(contests), squeeze=False)[0])
    for panel, contest in zip(panels, contests, strict=True):
        for name, trained in contest.trained.items():
            panel.plot(*curve(trained), marker=".", **_style(name, trained.title))
        panel.set(**axes, title=contest.recipe.title)
        if panel.get_xscale() == "log":  # all nine labels of less than a decade would overlap
            panel.xaxis.set_minor_locator(LogLocator(subs=(2, 4)))
        panel.grid(alpha=0.25, which="both")
        _set_limits(panel, contest)
    panels[0].set_ylabel("test loss")
    _legend(figure, panels)
    return figure


def _style(name: str, title: str | None = None) -> dict[str, Any]:
    """Returns color, width and label of a method's curve; `title` is for published optimizers."""
    return {
        "color": COLORS.get(name, OTHER),
        "linewidth": 2.4 if name in WIDE else 1.4,
        "label": METHODS[name].title if name in METHODS else title,
    }


def _set_limits(panel: Axes, contest: Contest) -> None:
    """Shows all losses up to a few times the least one at the end, on a log scale if positive."""
    ends = np.array([trained.loss for trained in contest.trained.values()])
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in panel.lines])
    ends, drawn = ends[np.isfinite(ends)], drawn[np.isfinite(drawn)]
    if len(ends) and min(ends.min(), drawn.min()) > 0:
        least = ends.min()
        highest = max(5 * least, 1.2 * float(np.median(ends)))
        panel.set_yscale("log")
        panel.set_ylim(0.95 * drawn.min(), min(highest, 1.05 * max(drawn.max(), least)))


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Adds a legend below the panels, with every method once."""
    named: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    columns = max(4, int(figure.get_figwidth() / 2.3))
    figure.legend(
        named.values(), named.keys(), loc="outside lower left", ncols=columns, frameon=False
    )
