"""Curves of a metric over a run, read from its log, and their figure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure


class Curve(NamedTuple):
    """A metric of one series of a run, averaged over seeds.

    Attributes:
      steps, seconds, values: f64[records]; non-finite values are nan.
      higher_is_better: True for an accuracy.
    """

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    higher_is_better: bool = False

    @property
    def best(self) -> float:
        """The smallest finite value, or the greatest one of an accuracy; nan without any."""
        finite = self.values[np.isfinite(self.values)]
        if not len(finite):
            return float("nan")
        return float(finite.max() if self.higher_is_better else finite.min())

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])

    def reaches(self, target: float) -> int | None:
        """Returns the index of the first record that is at the target or better, or None."""
        better = self.values >= target if self.higher_is_better else self.values <= target
        (reached,) = np.nonzero(better)
        return int(reached[0]) if len(reached) else None


def curve(records: Sequence[Mapping[str, Any]], metric: str) -> Curve | None:
    """Returns the curve through the records that have the metric, or None without any."""
    having = [record for record in records if metric in record and "step" in record]
    if not having:
        return None

    def column(name: str) -> np.ndarray:
        return np.array([_mean(record.get(name)) for record in having])

    higher_is_better = metric.endswith("accuracy")
    return Curve(column("step"), column("seconds"), column(metric), higher_is_better)


def by_series(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the records of each series, in the order in which the series began."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if "series" in record:
            found.setdefault(str(record["series"]), []).append(record)
    return found


def draw(
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], axes: Sequence[str], metric: str
) -> Figure:
    """Draws a panel for each axis, with a curve for each label in every panel.

    Args:
      curves: for each label, `(x, y)` for each axis.
      axes: names of the x axes.
      metric: name of the y axis.
    """
    figure = Figure(figsize=(5 * len(axes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for label, points in curves.items():
        for panel, (x, y) in zip(panels, points, strict=True):
            marker = "." if len(x) == 1 else ""
            panel.plot(x, y, label=label, marker=marker, linewidth=1.4)
    positive = all((y[np.isfinite(y)] > 0).all() for points in curves.values() for _, y in points)
    for panel, name in zip(panels, axes, strict=True):
        panel.set(xlabel=name, yscale="log" if positive else "linear")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(metric)
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=2 if max(map(len, labels)) > 40 else 4,
            fontsize=8,
        )
    return figure


def _mean(value: Any) -> float:
    """Returns the mean over seeds; nan if the value is missing or is not made of numbers."""
    try:
        numbers = np.array(float("nan") if value is None else value, float)
    except (TypeError, ValueError):
        return float("nan")
    return float(numbers.mean()) if numbers.size else float("nan")
