"""Curves of a metric over a run, read from its log, and their figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 12.0
"""Greatest width of a figure in inches, which is the width of a report."""
_CHARACTERS_PER_INCH = 11
_COLORS, _STYLES = 10, ("-", "--", ":", "-.")


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
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    axes: Sequence[str],
    metric: str,
    target: float = math.nan,
) -> Figure:
    """Draws a panel for each axis, with a curve for each label in every panel.

    An axis is logarithmic if its values are positive and span a factor of ten, or if the curves end
    at numbers that span a factor of twenty.

    Args:
      curves: for each label, `(x, y)` for each axis.
      axes: names of the x axes.
      metric: name of the y axis.
      target: value of the metric that a horizontal line marks, if it is finite.
    """
    width = min(WIDTH, 6.5 * len(axes))
    columns = int(width * _CHARACTERS_PER_INCH / (max(map(len, curves), default=0) + 6))
    columns = max(1, min(columns, 4, len(curves)))
    height = 4 + 0.22 * math.ceil(len(curves) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for i, (label, points) in enumerate(curves.items()):
        style = _STYLES[i // _COLORS % len(_STYLES)]
        for panel, (x, y) in zip(panels, points, strict=True):
            marker = "." if len(x) == 1 else ""
            panel.plot(x, y, style, label=label, marker=marker, linewidth=1.6)
    values = [y for points in curves.values() for _, y in points]
    for i, (panel, name) in enumerate(zip(panels, axes, strict=True)):
        panel.margins(y=0.12)
        panel.set_xlabel(name)
        panel.set_yscale(_scale(values, 10))
        panel.set_xscale(_scale([points[i][0][-1:] for points in curves.values()], 20))
        if panel.get_xscale() == "linear":
            panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(alpha=0.25)
        if math.isfinite(target):
            panel.axhline(target, color="black", linestyle=(0, (6, 3)), linewidth=1, zorder=1)
    panels[0].set_ylabel(metric)
    if math.isfinite(target):
        panels[-1].annotate(
            f"target {target:.4g}",
            (0.99, target),
            xytext=(0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
        )
    if curves:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def _scale(values: Sequence[np.ndarray], factor: float) -> Literal["linear", "log"]:
    """Returns "log" if the finite values are positive and span the factor."""
    joined = np.concatenate([*values, np.zeros(0)])
    finite = joined[np.isfinite(joined)]
    spans = finite.size and finite.min() > 0 and finite.max() >= factor * finite.min()
    return "log" if spans else "linear"


def _mean(value: Any) -> float:
    """Returns the mean over seeds; nan if the value is missing or is not made of numbers."""
    try:
        numbers = np.array(float("nan") if value is None else value, float)
    except (TypeError, ValueError):
        return float("nan")
    return float(numbers.mean()) if numbers.size else float("nan")
