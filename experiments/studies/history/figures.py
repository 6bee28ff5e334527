"""Figures of the study: paths on contours, values against evaluations, and the network."""

from collections.abc import Mapping

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.studies.history.descent import Path
from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.methods import METHODS
from experiments.studies.history.network import Training
from experiments.studies.history.settings import SOLVED

Found = Mapping[str, Mapping[str, Path]]
"""Paths by the names of the landscape and of the method."""

COLORS = {
    "gradient_descent": "#7f7f7f",
    "momentum": "#e6ab02",
    "nesterov": "#a6a600",
    "adagrad": "#c994c7",
    "rmsprop": "#dd1c77",
    "adam": "#1f77b4",
    "adamw": "#17becf",
    "tower": "#66c2a4",
    "lion": "#ff7f0e",
    "schedule_free": "#6a51a3",
    "muon": "#b15928",
    "magd": "#1b7837",
    "self_tuning": "#d62728",
    "hybrid": "#000000",
}
COLUMNS = 7
GRID = 160
LONGEST = 20.0  # of a drawn path, in diagonals of the window
LIGHT = LinearSegmentedColormap.from_list("light", ("#ffffff", "#b9c3d3"))


def draw_paths(landscape: Landscape, paths: Mapping[str, Path]) -> Figure:
    """Draws a panel for each method: its path on the contours of the function."""
    rows = -(-len(paths) // COLUMNS)
    columns = min(COLUMNS, len(paths))
    (left, low), (right, high) = landscape.window
    height = 1.64 * (high - low) / (right - left) + 0.42
    figure = Figure(figsize=(12, rows * min(height, 2.6) + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    heights = contour_heights(landscape)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (name, path) in zip(panels.flat, paths.items(), strict=False):
        panel.set_axis_on()
        draw_contours(panel, landscape, heights)
        _draw_path(panel, landscape, path, COLORS[name])
        panel.set_title(f"{METHODS[name].label}\n{_caption(path)}", fontsize=7.5)
    figure.suptitle(landscape.title, fontsize=11, x=0.01, ha="left")
    return figure


def contour_heights(landscape: Landscape) -> np.ndarray:
    """Returns values minus the minimum on a grid over the window, f64[GRID, GRID], y first."""
    (left, low), (right, high) = landscape.window
    grid = np.meshgrid(np.linspace(left, right, GRID), np.linspace(low, high, GRID))
    points = np.stack(grid, -1).reshape(-1, 2).astype(np.float32)

    def value(point: jax.Array) -> jax.Array:
        return landscape.problem.value(landscape.from_plane(point))

    values = np.asarray(jax.jit(jax.vmap(value))(points), np.float64)
    return values.reshape(GRID, GRID) - float(landscape.problem.minimum)


def draw_contours(panel: Axes, landscape: Landscape, heights: np.ndarray) -> None:
    """Draws contours of the logarithm of the values, and stars at the minima."""
    (left, low), (right, high) = landscape.window
    x, y = np.linspace(left, right, GRID), np.linspace(low, high, GRID)
    logarithms = np.log10(heights + 1e-2)
    panel.contourf(x, y, logarithms, 14, cmap=LIGHT)
    panel.contour(x, y, logarithms, 14, colors="#8d99ae", linewidths=0.3)
    stars = landscape.to_plane(landscape.optima)
    panel.plot(*stars.T, "*", color="#f1c40f", markersize=9, markeredgecolor="black", zorder=5)
    panel.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])


def _draw_path(panel: Axes, landscape: Landscape, path: Path, color: str) -> None:
    end = drawn_until(path)
    for agent in path.agents[:end].swapaxes(0, 1):
        panel.plot(*agent.T, color=color, linewidth=0.5, alpha=0.4)
    if path.agents.shape[1]:
        panel.plot(*path.agents[0].T, ".", color=color, markersize=2.5, alpha=0.6)
    points = path.points[:end]
    corners = np.array(landscape.window)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1) / np.linalg.norm(np.ptp(corners, 0))
    short = 1 + np.searchsorted(np.cumsum(lengths), LONGEST)
    panel.plot(*points[:short].T, color=color, linewidth=1.2 if short >= len(points) else 0.5)
    panel.plot(*points[0], "o", color=color, markersize=3)
    panel.plot(*points[-1], "x", color=color, markersize=5, markeredgewidth=1.5)


def drawn_until(path: Path) -> int:
    """Returns the number of points up to the first solved one, or all."""
    solved = np.flatnonzero(path.excess < SOLVED)
    return int(solved[0]) + 1 if solved.size else len(path.excess)


def _caption(path: Path) -> str:
    ending = f"{path.reached:,} evaluations" if path.reached >= 0 else f"{path.least[-1]:.1e} left"
    rate = "" if np.isnan(path.learning_rate) else f"rate {path.learning_rate:g}, "
    return rate + ending


def draw_values(landscapes: Mapping[str, Landscape], found: Found) -> Figure:
    """Draws a panel for each landscape: the least value so far against evaluations."""
    columns = min(4, len(found))
    rows = -(-(len(found) + 1) // columns)
    figure = Figure(figsize=(12, 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (name, paths) in zip(panels.flat, found.items(), strict=False):
        panel.set_axis_on()
        _draw_landscape_values(panel, paths)
        panel.set_title(landscapes[name].title, fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    legend = panels.flat[len(found)].legend(handles, labels, loc="center", fontsize=7)
    legend.set_in_layout(False)
    return figure


def _draw_landscape_values(panel: Axes, paths: Mapping[str, Path]) -> None:
    for name, path in paths.items():
        x, y = np.maximum(path.evaluations, 1), np.clip(path.least, SOLVED / 10, None)
        end = drawn_until(path)
        panel.plot(
            x[:end],
            y[:end],
            color=COLORS[name],
            linewidth=1.1 if METHODS[name].kind == "grid" else 1.8,
            linestyle=_line_style(name),
            label=METHODS[name].label,
        )
        if path.reached >= 0:
            panel.plot(x[end - 1], SOLVED, "v", color=COLORS[name], markersize=4, clip_on=False)
    panel.axhline(SOLVED, color="black", linewidth=0.8, linestyle=":")
    panel.set(xscale="log", yscale="log")
    panel.set_ylim(SOLVED / 2, None)
    panel.set_xlabel("evaluations", fontsize=8)
    panel.set_ylabel("least value - minimum", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.25)


def draw_network(trainings: Mapping[str, Training]) -> Figure:
    """Draws validation losses against gradients, tuning included, and the test losses."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    curves, points = figure.subplots(1, 2)
    for name, training in trainings.items():
        losses = training.validation.mean(-1)
        style = {"color": COLORS[name], "linestyle": _line_style(name)}
        is_trained = training.gradients > 0
        x, y = training.gradients[is_trained], losses[is_trained]
        curves.plot(x, y, label=METHODS[name].label, linewidth=1.5, **style)
        mean, spread = training.test.mean(), training.test.std()
        points.errorbar(x[-1], mean, spread, marker="o", color=COLORS[name], capsize=2)
    costs = [float(training.gradients[-1]) for training in trainings.values()]
    points.set_xlim(min(costs) / 1.5, max(costs) * 3)
    curves.set_ylabel("validation loss")
    points.set_ylabel("test loss")
    for panel in (curves, points):
        panel.set(xscale="log", yscale="log")
        panel.set_xlabel("gradients, with all learning rates of the grid")
        panel.grid(alpha=0.25, which="both")
        panel.yaxis.set_minor_formatter("{x:.3g}")
        panel.yaxis.set_major_formatter("{x:.3g}")
        panel.tick_params(labelsize=8, which="both")
    _label_points(points, trainings)
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=7.5, ncols=7)
    return figure


def _line_style(name: str) -> str | tuple[float, tuple[float, ...]]:
    """Returns a dashed line for methods without a learning rate to choose."""
    return "-" if METHODS[name].kind == "grid" else (0, (4, 1))


def _label_points(panel: Axes, trainings: Mapping[str, Training]) -> None:
    """Writes the names beside the points; names of points with equal cost do not overlap."""
    by_cost: dict[float, list[str]] = {}
    for name, training in trainings.items():
        by_cost.setdefault(float(training.gradients[-1]), []).append(name)
    gap = 0.035 * float(np.ptp(np.log(panel.get_ylim())))
    for cost, names in by_cost.items():
        losses = {name: float(trainings[name].test.mean()) for name in names}
        ordered = sorted(names, key=losses.__getitem__)
        heights = spread_out(np.log([losses[name] for name in ordered]), gap)
        for name, height in zip(ordered, np.exp(heights), strict=True):
            panel.annotate(
                METHODS[name].title,
                (cost, losses[name]),
                (cost * 1.3, height),
                fontsize=7.5,
                va="center",
                color=COLORS[name],
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": COLORS[name]},
            )


def spread_out(heights: np.ndarray, gap: float) -> np.ndarray:
    """Returns ascending heights, f[n], moved apart by at least `gap`, groups about their mean.

    Example:
      >>> spread_out(np.array([0.0, 0.0, 5.0]), 1.0).tolist()
      [-0.5, 0.5, 5.0]
    """
    groups: list[list[float]] = []  # each with the given heights of adjacent labels
    for height in heights.tolist():
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) < _top(groups[-2], gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return np.concatenate(
        [_bottom(group, gap) + gap * np.arange(len(group)) for group in groups] or [heights]
    )


def _bottom(group: list[float], gap: float) -> float:
    return float(np.mean(group)) - gap * (len(group) - 1) / 2


def _top(group: list[float], gap: float) -> float:
    return float(np.mean(group)) + gap * (len(group) - 1) / 2
