"""The figure of the central flow study: loss, eigenvalues and variance of each optimizer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.studies.central_flow.measurement import History
from experiments.studies.central_flow.settings import WINDOW, Case

MEASURED, AVERAGED, CENTRAL, STABLE = "#999999", "#444444", "#154360", "#d35400"
TITLES = ("loss", "top eigenvalues over the threshold", "variance of the oscillation")


def draw(cases: Sequence[Case], histories: Sequence[History]) -> Figure:
    """Draws a row of three panels for each optimizer."""
    figure = Figure(figsize=(13, 2.9 * len(cases) + 0.4), layout="constrained")
    panels = figure.subplots(len(cases), 3, squeeze=False)
    for row, case, history in zip(panels, cases, histories, strict=True):
        loss_panel, eigenvalue_panel, variance_panel = row
        _draw_losses(loss_panel, history)
        loss_panel.set_ylabel(case.title)
        _draw_eigenvalues(eigenvalue_panel, history, float(case.flow_optimizer.threshold))
        _draw_variances(variance_panel, history)
    for panel, title in zip(panels[0], TITLES, strict=True):
        panel.set_title(title)
        panel.legend(fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("step")
    return figure


def _draw_losses(panel: Axes, history: History) -> None:
    losses = history.steps.loss
    steps = np.arange(len(losses))
    panel.plot(steps, losses, color=MEASURED, linewidth=0.5, alpha=0.6)
    panel.plot(*_moving_average(losses, 50), color=AVERAGED, label="optimizer, mean of 50 steps")
    panel.plot(steps, history.steps.stable_loss, color=STABLE, label="stable flow")
    predicted = history.steps.predicted_loss
    panel.plot(steps, predicted, color=CENTRAL, linestyle="--", label="central flow")
    panel.set_yscale("log")
    panel.yaxis.set_minor_formatter(NullFormatter())


def _draw_eigenvalues(panel: Axes, history: History, threshold: float) -> None:
    steps = np.arange(len(history.steps.loss))
    probes = history.probed_eigenvalues / threshold
    probed = np.arange(1, len(probes) + 1) * (len(steps) // len(probes)) - 0.5
    eigenvalues = history.steps.eigenvalues / threshold
    for i in range(probes.shape[1]):
        probe_label, flow_label = ("between iterates", "central flow") if i == 0 else (None, None)
        panel.plot(probed, probes[:, i], ".", color=MEASURED, markersize=4, label=probe_label)
        panel.plot(steps, eigenvalues[:, i], color=CENTRAL, linewidth=1, label=flow_label)
    panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
    panel.set_ylim(0, 1.6)


def _draw_variances(panel: Axes, history: History) -> None:
    measured, predicted = history.steps.variance, history.steps.predicted_variance
    steps = np.arange(len(measured))
    middles, averages = _moving_average(measured, WINDOW)
    panel.plot(steps, measured, color=MEASURED, linewidth=0.4, alpha=0.5)
    panel.plot(middles, averages, color=AVERAGED, label=f"oscillation, mean of {WINDOW} steps")
    panel.plot(steps, predicted, color=CENTRAL, linestyle="--", label="central flow")
    top = max(averages.max(), predicted.max(), 1e-12)
    panel.set_ylim(0, 2.5 * top)  # short bursts extend beyond the panel


def _moving_average(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the middles of all complete windows, and the means over them."""
    window = min(window, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    means = (sums[window:] - sums[:-window]) / window
    return np.arange(len(means)) + (window - 1) / 2, means
