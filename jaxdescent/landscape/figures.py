"""Figures of planes by matplotlib: contours, surfaces, a path with its losses, agents.

A path is drawn at its projection onto the plane, where the loss can differ from the loss on the
path. `path_figure` shows both losses, the variance that the plane explains, and the distance of the
path from the plane. Each function returns a `matplotlib.figure.Figure` and uses no window and no
global state.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.extras import require
from jaxdescent.landscape.color_levels import Levels, levels
from jaxdescent.landscape.planes import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = "viridis"
_OUTLINED = {"color": "white", "markeredgecolor": "black"}


def contour_figure(
    plane: Plane,
    *,
    ceiling: float | None = None,
    title: str = "",
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> "Figure":
    """Draws filled contours of a plane, with a star at its origin.

    Args:
      plane: the losses.
      ceiling: highest level; by default the 90th percentile of the losses.
      title: title of the figure.
      labels: labels of the axes.

    Raises:
      ValueError: no loss is finite, or the ceiling is not above the smallest loss.
      ImportError: matplotlib is not installed.
    """
    figure = _figure((6.2, 5.2))
    axes = figure.subplots()
    _contours(figure, axes, plane, levels(plane.values, ceiling))
    axes.plot(0, 0, "*", markersize=14, **_OUTLINED)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    return figure


def surface_figure(
    plane: Plane,
    *,
    ceiling: float | None = None,
    title: str = "",
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> "Figure":
    """Draws a plane as a surface; arguments and errors as for `contour_figure`."""
    shown = levels(plane.values, ceiling)
    figure = _figure((6.6, 5.4))
    axes: Any = figure.add_subplot(projection="3d")
    heights = shown.clip(plane.values)
    heights = np.log10(heights) if shown.logarithmic else heights
    grid = np.meshgrid(plane.x, plane.y)
    limits = {"vmin": np.nanmin(heights), "vmax": np.nanmax(heights)}
    axes.plot_surface(*grid, heights, cmap=_COLORS, rcount=80, ccount=80, linewidth=0, **limits)
    axes.contour(*grid, heights, levels=10, cmap=_COLORS, offset=limits["vmin"], linewidths=0.8)
    name = "log10 of the loss" if shown.logarithmic else "loss"
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1], zlabel=name)
    axes.view_init(elev=35, azim=-60)
    if shown.caption:
        figure.supxlabel(shown.caption, fontsize=8)
    return figure


def path_figure(
    plane: Plane,
    coordinates: ArrayLike,
    true_losses: ArrayLike,
    plane_losses: ArrayLike,
    distances: ArrayLike,
    explained: ArrayLike,
    *,
    steps: ArrayLike | None = None,
    ceiling: float | None = None,
    title: str = "",
) -> "Figure":
    """Draws a path on a plane, with its true losses, its losses on the plane and distances.

    Args:
      plane: the losses, such as on a `principal_plane`.
      coordinates: f[n, 2], coordinates of the path on the plane.
      true_losses: f[n], losses at the points of the path, from `path_losses`.
      plane_losses: f[n], losses at their projections, from `losses_at`.
      distances: f[n], distances of the points from the plane.
      explained: f[2 or more], fractions of the variance of the path in its principal directions.
      steps: f[n], training steps of the points; by default 0, 1, 2, ...
      ceiling: highest level; by default the 90th percentile of the losses, or higher to show the
        whole path.
      title: title of the figure.

    Raises:
      ValueError: the lengths differ, or as for `contour_figure`.
      ImportError: matplotlib is not installed.
    """
    path = _path("coordinates", coordinates, 2)
    when = np.arange(len(path)) if steps is None else np.asarray(steps)
    series = {"true_losses": true_losses, "plane_losses": plane_losses, "distances": distances}
    columns = {name: np.asarray(values, np.float64) for name, values in series.items()}
    for name, values in {**columns, "steps": when}.items():
        if values.shape != (len(path),):
            raise ValueError(f"{name} must have the shape ({len(path)},), got {values.shape}")
    shares = validation.finite_array("explained", explained)
    shown = levels(plane.values, ceiling)
    highest = np.max(
        columns["plane_losses"], initial=-np.inf, where=columns["plane_losses"] < np.inf
    )
    if ceiling is None and highest > shown.levels[-1]:
        shown = levels(plane.values, float(highest))
    figure: Any = _figure((12.4, 5.4))
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axes = left.subplots()
    _contours(left, axes, plane, shown)
    axes.plot(*path.T, "-", color="white", linewidth=1.2)
    axes.plot(*path.T, ".", color="black", markersize=4)
    axes.plot(*path[0], "o", label="start", **_OUTLINED)
    axes.plot(*path[-1], "*", markersize=14, label="end", **_OUTLINED)
    first, second = (f"{100 * share:.1f}%" for share in shares[:2])
    axes.set(
        title=title,
        xlabel=f"first principal direction, {first} of the variance",
        ylabel=f"second, {second}",
    )
    axes.set_aspect("equal")
    axes.legend(loc="best", fontsize=8)
    losses, gaps = right.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    losses.plot(when, columns["true_losses"], "o-", markersize=3, label="on the path")
    losses.plot(when, columns["plane_losses"], "s--", markersize=3, label="its projection")
    drawn = np.concatenate([columns["true_losses"], columns["plane_losses"]])
    losses.set(ylabel="loss", yscale="log" if np.all(drawn[np.isfinite(drawn)] > 0) else "linear")
    losses.legend(fontsize=8)
    gaps.plot(when, columns["distances"], "o-", markersize=3, color="tab:gray")
    gaps.set(ylabel="distance\nfrom the plane", xlabel="point" if steps is None else "step")
    for panel in (losses, gaps):
        panel.grid(alpha=0.25)
    return figure


def agents_figure(
    plane: Plane,
    paths: ArrayLike,
    pruned: ArrayLike | None = None,
    *,
    winner: int | None = None,
    ceiling: float | None = None,
    title: str = "",
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> "Figure":
    """Draws the paths of many agents on one plane; the paths of pruned agents fade out.

    Args:
      plane: the losses, such as of a function of two variables.
      paths: f[agents, time, 2], coordinates on the plane, from `project`. Points after an agent
        was pruned are ignored.
      pruned: i[agents], the last time index at which each agent moved; `time` or more for agents
        that were not pruned. By default all agents survive.
      winner: index of the agent that is drawn in red.
      ceiling: highest level; by default the 90th percentile of the losses.
      title: title of the figure.
      labels: labels of the axes.

    Raises:
      ValueError: the shapes differ, `pruned` has a negative number, `winner` is not the index of an
        agent, or as for `contour_figure`.
      ImportError: matplotlib is not installed.
    """
    tracks = _path("paths", paths, 3)
    agents, time = tracks.shape[:2]
    last = np.full(agents, time) if pruned is None else np.asarray(pruned)
    if last.shape != (agents,) or not np.issubdtype(last.dtype, np.integer) or last.min() < 0:
        raise ValueError(
            f"pruned must hold {agents} integers in [0, inf), one per agent, got {pruned!r}"
        )
    if winner is not None:
        validation.integer_in("winner", winner, 0, agents - 1)
    figure = _figure((6.8, 5.6))
    axes = figure.subplots()
    _contours(figure, axes, plane, levels(plane.values, ceiling))
    for agent in np.argsort(last, kind="stable"):  # survivors on top
        track = tracks[agent, : last[agent] + 1]
        _draw_agent(axes, track, survives=last[agent] >= time, wins=agent == winner)
    axes.plot([], [], "o", label=f"alive at the end: {int(np.sum(last >= time))}", **_OUTLINED)
    axes.plot([], [], "kx", label=f"pruned: {int(np.sum(last < time))}")
    axes.legend(loc="best", fontsize=8, facecolor="lightgray")
    axes.set(
        title=title,
        xlabel=labels[0],
        ylabel=labels[1],
        xlim=(float(plane.x[0]), float(plane.x[-1])),
        ylim=(float(plane.y[0]), float(plane.y[-1])),
    )
    return figure


def _figure(size: tuple[float, float]) -> "Figure":
    return require("matplotlib.figure", "landscape").Figure(figsize=size, layout="constrained")


def _contours(figure: Any, axes: "Axes", plane: Plane, shown: Levels) -> None:
    """Draws filled contours with thin lines, a color bar, and a caption on clipped points."""
    colors = require("matplotlib.colors", "landscape")
    values = shown.clip(plane.values)
    x, y = np.asarray(plane.x), np.asarray(plane.y)
    axes.patch.set(facecolor="0.85", hatch="////", edgecolor="0.6")
    norm = colors.BoundaryNorm(shown.levels, 256)
    filled = axes.contourf(x, y, values, levels=shown.levels, cmap=_COLORS, norm=norm)
    axes.contour(x, y, values, levels=shown.levels, colors="white", linewidths=0.4, alpha=0.6)
    bar_axes = axes.inset_axes((1.03, 0, 0.045, 1))  # as high as the plane, for any aspect ratio
    bar = figure.colorbar(filled, cax=bar_axes, format="%.3g", ticks=shown.levels[::2])
    bar.set_label("loss, on a logarithmic scale" if shown.logarithmic else "loss")
    if shown.caption:
        figure.supxlabel(shown.caption, fontsize=8)


def _draw_agent(axes: Any, track: np.ndarray, *, survives: bool, wins: bool) -> None:
    """Draws the path of an agent with a marker at its end; a pruned agent's path fades out."""
    collections = require("matplotlib.collections", "landscape")
    color = (0.9, 0.1, 0.1) if wins else (1.0, 1.0, 1.0)
    opacity = np.ones(len(track)) if survives else np.linspace(0.75, 0.15, len(track))
    line = collections.LineCollection(
        np.stack([track[:-1], track[1:]], axis=1),
        colors=[(*color, each) for each in opacity[1:]],
        linewidths=2.2 if wins else 1.3 if survives else 0.9,
    )
    axes.add_collection(line)
    if survives:
        axes.scatter(*track[-1], color=[color], s=26, edgecolors="black", linewidths=0.8, zorder=3)
    else:
        axes.scatter(*track[-1], color=[color], s=22, marker="x", linewidths=1.0, zorder=3)


def _path(name: str, values: ArrayLike, ndim: int) -> np.ndarray:
    array = validation.real_array(name, values)
    if array.ndim != ndim or array.shape[-1] != 2:
        shape = "(time, 2)" if ndim == 2 else "(agents, time, 2)"
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
    return array
