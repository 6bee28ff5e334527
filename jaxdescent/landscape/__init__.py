"""The loss landscape: slices, connectivity and figures.

    directions = jd.landscape.random_directions(key, params)
    plane = jd.landscape.plane(loss_fn, params, directions, batch)
    jd.landscape.contour_figure(plane).savefig("plane.png")

Every slice is one compiled call that takes the parameters and the data as arguments. Non-finite
losses are kept and counted. Figures need matplotlib, and interactive surfaces need plotly:
`pip install 'jaxdescent[landscape]'`.

    line, plane            the loss along a direction, and on the plane of two directions
    losses_at              the loss at any points of a line or a plane
    path_losses            the loss at the points of a path
    random_directions, filter_normalized
                           directions with filter normalization
    hessian_plane          plane of the top two Hessian eigenvectors
    principal_plane        plane of largest variance of a path, and distances from it
    plane_through          plane through three points
    project                projections of points onto a line or a plane
    connectivity           the loss between two points, and the barrier between them
    barrier                largest excess of values on a line over the chord between its ends
    epsilon_sharpness      largest increase of the loss in a small box
    contour_figure, surface_figure, path_figure, agents_figure
                           figures by matplotlib
    surface_html           an interactive surface that works offline
"""

from jaxdescent.landscape.connectivity import Connectivity, barrier, connectivity
from jaxdescent.landscape.directions import filter_normalized, random_directions
from jaxdescent.landscape.epsilon import EpsilonSharpness, epsilon_sharpness
from jaxdescent.landscape.figures import (
    agents_figure,
    contour_figure,
    path_figure,
    surface_figure,
)
from jaxdescent.landscape.interactive import surface_html
from jaxdescent.landscape.plane_bases import (
    HessianPlane,
    PlaneThrough,
    PrincipalPlane,
    Projection,
    hessian_plane,
    plane_through,
    principal_plane,
    project,
)
from jaxdescent.landscape.planes import Line, Plane, line, losses_at, path_losses, plane

__all__ = [
    "Connectivity",
    "EpsilonSharpness",
    "HessianPlane",
    "Line",
    "Plane",
    "PlaneThrough",
    "PrincipalPlane",
    "Projection",
    "agents_figure",
    "barrier",
    "connectivity",
    "contour_figure",
    "epsilon_sharpness",
    "filter_normalized",
    "hessian_plane",
    "line",
    "losses_at",
    "path_figure",
    "path_losses",
    "plane",
    "plane_through",
    "principal_plane",
    "project",
    "random_directions",
    "surface_figure",
    "surface_html",
]


def __dir__() -> list[str]:
    return __all__
