"""A loss around parameters and between them.

    directions = jd.landscape.random_directions(key, params)
    plane = jd.landscape.plane(loss_fn, params, directions, batch)
    jd.landscape.contour_figure(plane).savefig("plane.png")

Every slice is one compiled call that takes the parameters and the data as arguments. A loss that
is not finite is kept and counted. Pictures need matplotlib, and surfaces to be turned plotly:
`pip install 'jaxdescent[landscape]'`.

    line, plane            the loss along a direction, and on the plane of two
    losses_at              at any points of a line or a plane
    path_losses            at the points of a path
    random_directions, filter_normalized
                           directions with the norms of the network's filters
    hessian_plane          of the two greatest eigenvalues
    principal_plane        in which a path varies most, and how far the path is from it
    plane_through          three points
    project                where points lie on a line or a plane
    connectivity, barrier  the line between two points, and its barrier
    epsilon_sharpness      how far the loss rises in a small box
    contour_figure, surface_figure, path_figure, agents_figure
                           pictures by matplotlib
    surface_html           a surface to be turned in a browser, without a network
"""

from jaxdescent.landscape.connectivity import Connectivity as Connectivity
from jaxdescent.landscape.connectivity import barrier as barrier
from jaxdescent.landscape.connectivity import connectivity as connectivity
from jaxdescent.landscape.directions import filter_normalized as filter_normalized
from jaxdescent.landscape.directions import random_directions as random_directions
from jaxdescent.landscape.epsilon import EpsilonSharpness as EpsilonSharpness
from jaxdescent.landscape.epsilon import epsilon_sharpness as epsilon_sharpness
from jaxdescent.landscape.frames import HessianPlane as HessianPlane
from jaxdescent.landscape.frames import PlaneThrough as PlaneThrough
from jaxdescent.landscape.frames import PrincipalPlane as PrincipalPlane
from jaxdescent.landscape.frames import Projection as Projection
from jaxdescent.landscape.frames import hessian_plane as hessian_plane
from jaxdescent.landscape.frames import plane_through as plane_through
from jaxdescent.landscape.frames import principal_plane as principal_plane
from jaxdescent.landscape.frames import project as project
from jaxdescent.landscape.interactive import surface_html as surface_html
from jaxdescent.landscape.pictures import agents_figure as agents_figure
from jaxdescent.landscape.pictures import contour_figure as contour_figure
from jaxdescent.landscape.pictures import path_figure as path_figure
from jaxdescent.landscape.pictures import surface_figure as surface_figure
from jaxdescent.landscape.planes import Line as Line
from jaxdescent.landscape.planes import Plane as Plane
from jaxdescent.landscape.planes import line as line
from jaxdescent.landscape.planes import losses_at as losses_at
from jaxdescent.landscape.planes import path_losses as path_losses
from jaxdescent.landscape.planes import plane as plane
