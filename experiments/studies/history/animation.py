"""An animation of all paths: HTML with a canvas and a script, without other files.

The page is `animation.html`; this module fills in the paths. Coordinates are integers, thousandths
of the window. Long paths are thinned out: all points of the first evaluations, later points evenly
on a logarithmic scale.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.studies.history.descent import Path
from experiments.studies.history.figures import (
    COLORS,
    Found,
    contour_heights,
    draw_contours,
    drawn_until,
)
from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.methods import METHODS
from experiments.studies.history.settings import SOLVED

FRAMES = 240
EVERY, POINTS = 150, 400
"""All points up to so many evaluations are kept, and so many points in all."""
AGENTS = 32
PIXELS = 620


def animation_html(landscapes: Mapping[str, Landscape], found: Found, budget: int) -> str:
    """Returns the animation as an HTML fragment.

    Args:
      landscapes: the landscapes by name.
      found: their paths.
      budget: the greatest number of evaluations.
    """
    methods = next(iter(found.values()))
    data = {
        "frames": np.unique(np.geomspace(1, budget, FRAMES).round().astype(int)).tolist(),
        "methods": {
            name: {"label": METHODS[name].label, "color": COLORS[name]} for name in methods
        },
        "landscapes": {
            name: _landscape_data(landscapes[name], paths) for name, paths in found.items()
        },
    }
    page = File(__file__).with_name("animation.html").read_text(encoding="utf-8")
    return page.replace("__DATA__", json.dumps(data, separators=(",", ":")))


def _landscape_data(landscape: Landscape, paths: Mapping[str, Path]) -> dict[str, Any]:
    (left, low), (right, high) = landscape.window
    aspect = (high - low) / (right - left)
    figure = Figure(figsize=(PIXELS / 100, PIXELS / 100 * aspect))
    panel = figure.add_axes((0, 0, 1, 1))
    draw_contours(panel, landscape, contour_heights(landscape))
    panel.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    return {
        "title": landscape.title,
        "aspect": aspect,
        "background": base64.b64encode(drawn.getvalue()).decode(),
        "paths": {name: path_data(landscape, path) for name, path in paths.items()},
    }


def path_data(landscape: Landscape, path: Path) -> dict[str, Any]:
    """Returns a path in JSON's types: evaluations t, coordinates x and y, values v, agents."""
    end = drawn_until(path)
    kept = kept_points(end)
    x, y = in_window(landscape, path.points[kept]).T.tolist()
    agents = [
        in_window(landscape, each[np.isfinite(each[:, 0])]).tolist()
        for each in path.agents[kept, :AGENTS]
    ]
    rate = path.learning_rate
    return {
        "t": path.evaluations[kept].tolist(),
        "x": x,
        "y": y,
        "v": [float(f"{v:.2g}") if np.isfinite(v) else None for v in path.excess[kept]],
        "agents": agents if path.agents.shape[1] else [],
        "solved": bool(path.excess[end - 1] < SOLVED),
        "rate": "" if np.isnan(rate) else f"rate {rate:g}",
    }


def kept_points(count: int) -> np.ndarray:
    """Returns the indices of the points that are kept of `count` points, i64[m], ascending."""
    later = np.geomspace(EVERY, max(count - 1, EVERY), POINTS - EVERY).astype(int)
    kept = np.concatenate([np.arange(EVERY), later])
    return np.unique(np.append(kept[kept < count], count - 1))


def in_window(landscape: Landscape, points: np.ndarray) -> np.ndarray:
    """Returns points in thousandths of the window, i64[n, 2], at most one window outside."""
    low, high = np.array(landscape.window)
    fractions = (np.nan_to_num(points.astype(float)) - low) / (high - low)
    return np.clip(1000 * fractions, -1000, 2000).round().astype(int)
