"""Slices and planes through a loss, and what they are worth."""

from jaxdescent.landscape.connectivity import Connectivity as Connectivity
from jaxdescent.landscape.connectivity import connectivity as connectivity
from jaxdescent.landscape.directions import filter_normalised as filter_normalised
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
