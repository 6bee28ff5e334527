"""A surface that can be turned in a browser: HTML that needs no network.

It is plotly's, whose script (some 5 MB) is part of the page: once for all surfaces on it.
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxdescent.extras import require
from jaxdescent.landscape.coloring import levels
from jaxdescent.landscape.planes import Plane


def surface_html(
    plane: Plane,
    *,
    path: ArrayLike | None = None,
    path_losses: ArrayLike | None = None,
    ceiling: float | None = None,
    title: str = "",
    labels: tuple[str, str] = ("first direction", "second direction"),
    script: bool = True,
) -> str:
    """A surface over a plane, as an HTML fragment to be turned and zoomed.

    Args:
      plane: the losses.
      path: f[n, 2], coordinates of points on the plane, drawn as a line.
      path_losses: f[n], at which height; needed with a path. Give the true losses and the line
        leaves the surface where the plane misleads.
      ceiling: the highest loss; by default chosen so that nine tenths of the plane show.
      title: above.
      labels: of the axes.
      script: whether the fragment brings plotly's script; a page needs it once.

    Returns:
      A `<div>`, for the body of a page.

    Raises:
      ValueError: no loss is finite, or the path and its losses do not fit.
      ImportError: plotly is not installed.
    """
    graphs = require("plotly.graph_objects", "landscape")
    shown = levels(plane.values, ceiling)
    height = lambda values: (
        np.log10(shown.clip(values)) if shown.logarithmic else shown.clip(values)
    )
    name = "log10 loss" if shown.logarithmic else "loss"
    hover = f"%{{x:.3g}}, %{{y:.3g}}: {name} %{{z:.4g}}<extra></extra>"
    drawn: list[Any] = [
        graphs.Surface(
            x=np.asarray(plane.x),
            y=np.asarray(plane.y),
            z=height(plane.values).round(6),
            colorscale="Viridis",
            opacity=1.0 if path is None else 0.85,  # the path may be below
            colorbar={"title": name, "thickness": 14, "len": 0.7},
            contours={"z": {"show": True, "usecolormap": True, "project": {"z": True}}},
            hovertemplate=hover,
        )
    ]
    if path is not None:
        points, losses = np.asarray(path, np.float64), np.asarray(path_losses, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or losses.shape != (len(points),):
            raise ValueError(
                "path and path_losses must have the shapes (n, 2) and (n,), got "
                f"{points.shape} and {losses.shape}"
            )
        drawn.append(
            graphs.Scatter3d(
                x=points[:, 0],
                y=points[:, 1],
                z=height(losses),
                mode="lines+markers",
                line={"color": "red", "width": 5},
                marker={"size": 3, "color": "red"},
                hovertemplate=hover,
            )
        )
    figure = graphs.Figure(drawn)
    figure.update_layout(
        title={"text": title},
        height=620,
        template="none",
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        showlegend=False,
        scene={
            "xaxis": {"title": {"text": labels[0]}},
            "yaxis": {"title": {"text": labels[1]}},
            "zaxis": {"title": {"text": name}},
            "aspectmode": "cube",
            # From where a path ends: one that starts high up does not hide itself.
            "camera": {"eye": {"x": -1.5, "y": -1.5, "z": 1.1}},
        },
    )
    return figure.to_html(
        full_html=False, include_plotlyjs=script, config={"displaylogo": False, "responsive": True}
    )
