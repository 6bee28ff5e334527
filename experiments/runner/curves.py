"""Curves of a metric over a run, read from its log, and their picture."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure


class Curve(NamedTuple):
    """A metric of one line of a run, means over seeds.

    Attributes:
      steps, seconds, values: f64[records]; what was not finite is nan.
      more_is_better: whether it is an accuracy.
    """

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    more_is_better: bool = False

    @property
    def best(self) -> float:
        """The least value, of an accuracy the greatest; nan if there is none."""
        finite = self.values[np.isfinite(self.values)]
        if not len(finite):
            return float("nan")
        return float(finite.max() if self.more_is_better else finite.min())

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])

    def reaches(self, target: float) -> int | None:
        """The first record with the target or better; None if there is none."""
        better = self.values >= target if self.more_is_better else self.values <= target
        (reached,) = np.nonzero(better)
        return int(reached[0]) if len(reached) else None


def curve(records: Sequence[Mapping[str, Any]], metric: str) -> Curve | None:
    """The curve of a metric through the records that have it; None if none has."""
    having = [record for record in records if metric in record and "step" in record]
    if not having:
        return None

    def column(name: str) -> np.ndarray:
        return np.array([_mean(record.get(name)) for record in having])

    more_is_better = metric.endswith("accuracy")
    return Curve(column("step"), column("seconds"), column(metric), more_is_better)


def lines_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The records of each line, in the order in which the lines came."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if "line" in record:
            lines.setdefault(str(record["line"]), []).append(record)
    return lines


def draw(
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], axes: Sequence[str], metric: str
) -> Figure:
    """A panel for each axis; a curve for each label in every panel.

    Args:
      curves: label to `(x, y)` for each axis.
      axes: the names of the axes.
      metric: the name of y.
    """
    figure = Figure(figsize=(5 * len(axes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for label, series in curves.items():
        for panel, (x, y) in zip(panels, series, strict=True):
            marker = "." if len(x) == 1 else ""
            panel.plot(x, y, label=label, marker=marker, linewidth=1.4)
    positive = all((y[np.isfinite(y)] > 0).all() for series in curves.values() for _, y in series)
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
    return float(np.mean(np.array(float("nan") if value is None else value, float)))
