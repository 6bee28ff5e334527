"""An interactive surface as HTML that works offline.

It is drawn by plotly. The page includes plotly's script (about 5 MB), once for all its surfaces.
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxdescent.extras import require
from jaxdescent.landscape.color_levels import levels
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
    """Draws the loss on a plane as an interactive surface, an HTML fragment.

    Args:
      plane: the losses.
      path: f[n, 2], coordinates of points on the plane, drawn as a line.
      path_losses: f[n], heights of the path; required with a path. With the true losses, the
        line leaves the surface where the loss on the plane differs from the loss on the path.
      ceiling: highest loss shown; by default the 90th percentile on the plane, or higher to show
        the whole path.
      title: title of the figure.
      labels: labels of the axes.
      script: True to include plotly's script; a page needs it once.

    Returns:
      A `<div>` element for the body of a page.

    Raises:
      ValueError: no loss is finite, or the path and its losses differ in length.
      ImportError: plotly is not installed.
    """
    graphs = require("plotly.graph_objects", "landscape")
    shown = levels(plane.values, _ceiling(plane, path_losses, ceiling))

    def height(values: ArrayLike) -> np.ndarray:
        clipped = shown.clip(values)
        return np.log10(clipped) if shown.logarithmic else clipped

    name = "log10 loss" if shown.logarithmic else "loss"
    hover = f"%{{x:.3g}}, %{{y:.3g}}: {name} %{{z:.4g}}<extra></extra>"
    drawn: list[Any] = [
        graphs.Surface(
            x=np.asarray(plane.x),
            y=np.asarray(plane.y),
            z=height(plane.values),
            colorscale="Viridis",
            opacity=1.0 if path is None else 0.85,  # the path may lie below the surface
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
        title={"text": title, "subtitle": {"text": shown.caption.removesuffix(", hatched")}},
        height=620,
        template="none",
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        showlegend=False,
        scene={
            "xaxis": {"title": {"text": labels[0]}},
            "yaxis": {"title": {"text": labels[1]}},
            "zaxis": {"title": {"text": name}},
            "aspectmode": "cube",
            # Seen from the end of a path, so that a high start does not hide the rest.
            "camera": {"eye": {"x": -1.5, "y": -1.5, "z": 1.1}},
        },
    )
    return figure.to_html(
        full_html=False, include_plotlyjs=script, config={"displaylogo": False, "responsive": True}
    )


def _ceiling(plane: Plane, path_losses: ArrayLike | None, ceiling: float | None) -> float | None:
    """Returns a ceiling that is high enough to show the whole path."""
    if ceiling is not None or path_losses is None:
        return ceiling
    losses = np.asarray(path_losses, np.float64)
    highest = float(np.max(losses, initial=-np.inf, where=np.isfinite(losses)))
    return highest if highest > levels(plane.values).levels[-1] else None
