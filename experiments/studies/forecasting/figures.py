"""The figures of the study of forecasting."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.studies.forecasting.losses import LOSSES
from experiments.studies.forecasting.scores import Score
from experiments.studies.forecasting.settings import HORIZONS


def draw_scores(scores: Sequence[Score]) -> Figure:
    """Draws all scores against the naive forecast with their joint intervals."""
    compared = [(each, each.naive) for each in scores if each.naive]
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
