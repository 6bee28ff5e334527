"""Figures of methods show the whole legend, and labels that do not overlap."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.methods.contest import Contest
from experiments.methods.figures import draw_compute
from experiments.methods.outcome import Outcome, Trained
from experiments.methods.registry import METHODS


def contest(title):
    flops, losses = np.array([4e7, 2e8, 4e8]), np.array([[0.3], [0.2], [0.1]])
    found = Outcome(np.arange(3), flops, losses, losses, np.ones(3), {}, {})
    trained = {name: Trained(each.title, {"": found}) for name, each in METHODS.items()}
    return Contest(SimpleNamespace(title=title), trained)


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_the_legend_and_the_labels_of_the_axis_fit(panels):
    figure = draw_compute([contest(str(number)) for number in range(panels)])
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == len(METHODS)
    axis = figure.axes[0].xaxis
    labels = [label for label in axis.get_ticklabels("both") if label.get_text()]
    low, high = figure.axes[0].get_xlim()
    extents = sorted(
        (label.get_window_extent().x0, label.get_window_extent().x1)
        for label in labels
        if low <= label.get_position()[0] <= high
    )
    assert len(extents) > 1
    assert all(left[1] <= right[0] for left, right in pairwise(extents))
