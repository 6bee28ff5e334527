"""The figures of the study of forecasting."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.studies.forecasting.calibration import Calibration
from experiments.studies.forecasting.losses import LEVELS, LOSSES
from experiments.studies.forecasting.recipes import is_joint
from experiments.studies.forecasting.scores import Score
from experiments.studies.forecasting.settings import HORIZONS


def draw_scores(scores: Sequence[Score]) -> Figure:
    """Draws the scores of the verdict against the naive forecast with their joint intervals."""
    compared = [(each, each.naive) for each in scores if each.naive and is_joint(each.method)]
    series = list(dict.fromkeys(each.series for each, _ in compared))
    most = max(sum(each.loss == loss for each, _ in compared) for loss in LOSSES)
    figure = Figure(figsize=(15, 1.2 + 0.2 * most), layout="constrained")
    for panel, (name, loss) in zip(figure.subplots(1, len(LOSSES)), LOSSES.items(), strict=True):
        labels = []
        for score, interval in compared:
            if score.loss == name:
                row = len(labels)
                labels.append(f"{score.series}, {score.horizon}: {score.method}")
                color = f"C{series.index(score.series)}"
                panel.plot([interval.low, interval.high], [row, row], color=color)
                marker = "o" if score.horizon == HORIZONS[0] else "s"
                panel.plot(interval.value, row, marker, color=color, markersize=4)
        panel.axvline(0, color="#666666", linewidth=1)
        panel.set_yticks(range(len(labels)), labels, fontsize=7)
        panel.invert_yaxis()
        measure = "nats" if loss.unit == "nats" else "1 - loss / naive loss"
        panel.set(title=name, xlabel=f"better than the naive forecast: {measure}")
        panel.grid(alpha=0.25)
    return figure


BINS = 10


def draw_calibration(calibrations: Sequence[Calibration], series: str) -> Figure:
    """Draws reliability of quantiles, and histograms of probability integral transforms.

    Of the networks, the self-tuning one is drawn.

    A calibrated forecast is on the dotted line. The band has 95% of the numbers of targets in a bin
    of a calibrated forecast.
    """
    found = [each for each in calibrations if each.series == series and is_joint(each.method)]
    figure = Figure(figsize=(11, 3.6 * len(HORIZONS)), layout="constrained")
    panels = figure.subplots(len(HORIZONS), 2, squeeze=False)
    for horizon, (reliability, transforms) in zip(HORIZONS, panels, strict=True):
        of_horizon = [each for each in found if each.horizon == horizon]
        for number, each in enumerate(e for e in of_horizon if e.loss == "quantiles"):
            values = np.array([frequency[:3] for frequency in each.reliability])
            errors = abs(values[:, 1:] - values[:, :1]).T
            shifted = np.array(LEVELS) + 0.006 * number  # so that bars do not cover each other
            reliability.errorbar(
                shifted, values[:, 0] - LEVELS, errors, fmt="o-", markersize=3, label=each.method
            )
        reliability.axhline(0, color="#666666", linestyle=":")
        reliability.set(xlabel="level of the quantile", ylabel="share of targets below - level")
        reliability.set_title(f"{series}, quantiles, {horizon} day{'s' * (horizon > 1)} ahead")
        gaussian = [each for each in of_horizon if each.loss == "Gaussian"]
        for each in gaussian:
            shares, edges = np.histogram(each.pit, BINS, (0, 1))
            transforms.stairs(shares / len(each.pit) * BINS, edges, label=each.method)
        band = stats.binom.ppf([0.025, 0.975], len(gaussian[0].pit), 1 / BINS)
        transforms.axhspan(*(band / len(gaussian[0].pit) * BINS), color="#999999", alpha=0.2)
        transforms.axhline(1, color="#666666", linestyle=":")
        transforms.set(xlabel="forecast distribution at the target", ylabel="density")
        transforms.set_title(f"{series}, Gaussian, {horizon} day{'s' * (horizon > 1)} ahead")
        for panel in (reliability, transforms):
            panel.legend(fontsize=7)
            panel.grid(alpha=0.25)
    return figure
