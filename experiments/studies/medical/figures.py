"""The figures of the medical study: ROC curves, reliability diagrams and confusion matrices."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.methods.figures import COLORS
from experiments.studies.medical.assessment import (
    HALF,
    SENSITIVE,
    YOUDEN,
    Assessment,
    OperatingPoint,
)
from experiments.studies.medical.calibration import BINS, reliability
from experiments.studies.medical.decisions import Confusion
from experiments.studies.medical.networks import Network
from experiments.studies.medical.recalibration import sigmoid
from experiments.studies.medical.roc import roc_curve

MARKERS = {HALF: "o", YOUDEN: "s", SENSITIVE: "^"}


def draw_roc(networks: Sequence[Network], chosen: Network) -> Figure:
    """Draws the ROC curves, with the operating points of one network, whose curve is wide.

    The bars of a point are the intervals of its two rates. The second panel enlarges the corner of
    good classifiers.
    """
    figure = Figure(figsize=(11.0, 7.2), layout="compressed")  # the panels are square
    whole, corner = figure.subplots(1, 2)
    for panel in (whole, corner):
        panel.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        for network in networks:
            found = network.assessment
            curve = roc_curve(found.labels, found.log_odds)
            panel.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                color=COLORS[network.method],
                linewidth=2.6 if network is chosen else 1.2,
                zorder=3 if network is chosen else 2,
                label=f"{network.name}: AUC {found.auc}",
            )
        for name, point in chosen.assessment.points.items():
            _draw_point(panel, name, point)
        panel.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
        panel.grid(alpha=0.25)
    whole.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="ROC on the test part")
    corner.set(xlim=(-0.01, 0.5), ylim=(0.5, 1.01), title="Upper left corner")
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=9, loc="outside lower left", ncols=2, frameon=False)
    return figure


def _draw_point(panel: Axes, name: str, point: OperatingPoint) -> None:
    sensitivity, specificity = point.test.sensitivity, point.test.specificity
    low, high = specificity.interval()
    panel.errorbar(
        1 - specificity.value,
        sensitivity.value,
        xerr=_distances(1 - specificity.value, (1 - high, 1 - low)),
        yerr=_distances(sensitivity.value, sensitivity.interval()),
        color="black",
        linewidth=1,
        capsize=2,
        marker=MARKERS[name],
        markersize=6,
        markerfacecolor="white",
        linestyle="",
        zorder=4,
        label=f"threshold {'at' if name == HALF else 'by'} {name}",
    )


def draw_reliability(name: str, found: Assessment) -> Figure:
    """Draws observed shares against probabilities, as trained and recalibrated.

    The bars are 95% intervals; the histograms below have the numbers of examples.
    """
    count = len(found.calibrations)
    figure = Figure(figsize=(4.0 * count, 5.0), layout="constrained")
    panels = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (title, each), (curve, histogram) in zip(found.calibrations.items(), panels.T, strict=True):
        p = sigmoid(each.recalibration.log_odds(found.log_odds))
        shown = reliability(found.labels, p)
        curve.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        curve.errorbar(
            shown.predicted,
            shown.observed,
            yerr=_distances(shown.observed, shown.intervals.T),
            marker="o",
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
        curve.set(ylim=(-0.03, 1.03), xlim=(-0.02, 1.02))
        curve.set_title(
            f"{title}\nBrier score {each.brier:.3f}, calibration error {each.error.value:.3f}\n"
            f"(if calibrated: {each.error.if_calibrated:.3f})",
            fontsize=10,
        )
        for label, color in ((True, "C3"), (False, "C0")):
            histogram.hist(
                p[found.labels == label],
                bins=np.linspace(0, 1, 2 * BINS + 1),
                color=color,
                alpha=0.5,
                label="positive" if label else "negative",
            )
        histogram.set(xlabel="predicted probability", yscale="symlog")
        for panel in (curve, histogram):
            panel.grid(alpha=0.25)
    panels[0, 0].set_ylabel("observed share")
    panels[1, 0].set_ylabel("examples")
    panels[1, 0].legend(fontsize=8)
    figure.suptitle(f"{name}, test part", fontsize=11)
    return figure


def draw_confusion(name: str, found: Assessment, disease: str, healthy: str) -> Figure:
    """Draws the confusion matrices at the two thresholds that are chosen on the validation part."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, chosen in zip(panels, (YOUDEN, SENSITIVE), strict=True):
        point = found.points[chosen]
        _matrix(panel, point.test, (disease, healthy))
        panel.set_title(
            f"threshold by {chosen}: probability {point.probability:.3g}\n"
            f"sensitivity {point.test.sensitivity}\nspecificity {point.test.specificity}",
            fontsize=10,
        )
    figure.suptitle(f"{name}, test part", fontsize=11)
    return figure


def _matrix(panel: Axes, counts: Confusion, classes: tuple[str, str]) -> None:
    """Draws the counts, shaded by their share of the class, the disease first."""
    table = np.array(
        [
            [counts.true_positives, counts.false_negatives],
            [counts.false_positives, counts.true_negatives],
        ]
    )
    shares = table / table.sum(1, keepdims=True)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), number in np.ndenumerate(table):
        share = shares[row, column]
        color = "white" if share > 0.6 else "black"
        text = f"{number}\n{share:.1%}"
        panel.text(column, row, text, ha="center", va="center", color=color)
    panel.set_xticks([0, 1], [f"called {name}" for name in classes])
    panel.set_yticks([0, 1], classes)


def _distances(value: float | np.ndarray, interval: tuple[float, float] | np.ndarray) -> np.ndarray:
    """Returns the distances to both ends, f64[2, n], as matplotlib takes them."""
    low, high = np.asarray(interval[0]), np.asarray(interval[1])
    return np.maximum(np.stack([value - low, high - value]).reshape(2, -1), 0)
