"""The figure of the table: our test errors beside the paper's."""

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.gdtuo_table.report import compared_epochs, standard_error
from experiments.studies.gdtuo_table.training import RowHistories


def draw(histories: RowHistories) -> Figure:
    """Draws the test errors of each row, ours in blue and the paper's in black."""
    figure = Figure(figsize=(8, 0.3 * len(histories) + 1.2), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(histories))
    compared = compared_epochs(len(histories[0][1].errors))
    for epochs, color, shift in zip(compared, ("#2e86c1", "#a9cce3"), (0.15, 0.3), strict=False):
        errors = [history.errors[epochs - 1] for _, history in histories]
        axis.errorbar(
            [each.mean() for each in errors],
            places + shift,
            xerr=[2 * standard_error(each) for each in errors],
            fmt="o",
            color=color,
            markersize=4,
            label=f"ours after {epochs} epochs, two standard errors",
        )
    printed = [(place, row.published) for place, (row, _) in enumerate(histories) if row.published]
    if printed:
        axis.errorbar(
            [published.error for _, published in printed],
            [place - 0.15 for place, _ in printed],
            xerr=[2 * published.spread for _, published in printed],
            fmt="s",
            color="#222222",
            markersize=4,
            label="paper, twice its ±",
        )
    axis.set(xlabel="test error %", xscale="log")
    ticks = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100]
    low, high = axis.get_xlim()
    axis.set_xticks([tick for tick in ticks if low <= tick <= high])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_yticks(places, [row.name for row, _ in histories], fontsize=8)
    axis.set_ylim(len(histories) - 0.4, -0.6)
    axis.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure
