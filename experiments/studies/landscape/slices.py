"""The slices of a landscape: planes, lines and the sharpness in a box."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdescent as jd
from experiments.studies.landscape.settings import POINTS, SUBSPACE, Settings
from experiments.studies.landscape.subject import Subject
from jaxdescent.landscape import Connectivity, Plane

EPSILONS = (1e-3, 5e-4)  # half widths of the box, as in Keskar et al.
MARGIN = 0.25  # around the trajectory, relative to its extent
LINE = (-0.25, 1.25)  # the ends of a line are at 0 and 1


class HessianSlice(NamedTuple):
    """The plane of the Hessian's two greatest eigenvalues.

    Attributes:
      plane: the losses.
      eigenvalues, residuals, converged: [2], as in `jd.sharpness`.
    """

    plane: Plane
    eigenvalues: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray


class PrincipalSlice(NamedTuple):
    """The principal plane of the trajectory of n networks.

    Attributes:
      plane: the losses on the plane.
      coordinates: `f[n, 2]`, of the trajectory's projection.
      distances: `f[n]`, of the trajectory from the plane.
      explained: fractions of the variance that the directions explain.
      plane_losses: `f[n]`, losses at the projections.
      true_losses: `f[n]`, losses of the networks.
      steps: `i64[n]`, of the networks.
    """

    plane: Plane
    coordinates: np.ndarray
    distances: np.ndarray
    explained: np.ndarray
    plane_losses: np.ndarray
    true_losses: np.ndarray
    steps: np.ndarray


class BoxSharpness(NamedTuple):
    """The epsilon-sharpness in percent, for each of `EPSILONS`.

    Attributes:
      full: in all directions.
      subspace: in a random subspace.
    """

    full: np.ndarray
    subspace: np.ndarray


def _axis(settings: Settings, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Returns evenly spaced coordinates; an odd number of them from -1 to 1 contains 0."""
    return np.linspace(low, high, settings.points or POINTS[settings.scale])


def _random_plane(subject: Subject, settings: Settings) -> Plane:
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    directions = jd.landscape.random_directions(key, subject.last)
    return _plane(subject, directions, _axis(settings), _axis(settings))


def _hessian_plane(subject: Subject, settings: Settings) -> HessianSlice:
    """Reaches so far that the greatest eigenvalue accounts for the loss at initialization."""
    found = jd.landscape.hessian_plane(subject.loss_fn, subject.last, subject.batch)
    top = found.sharpness
    losses = jd.landscape.path_losses(subject.loss_fn, subject.trajectory, subject.batch)
    rise = max(float(losses[0] - losses[-1]), 0.1 * float(losses[-1]))
    reach = float(np.sqrt(2 * rise / max(float(top.values[0]), 1e-12)))
    side = _axis(settings, -reach, reach)
    return HessianSlice(
        plane=_plane(subject, found.directions, side, side),
        eigenvalues=np.asarray(top.values),
        residuals=np.asarray(top.residuals),
        converged=np.asarray(top.converged),
    )


def _principal_plane(subject: Subject, settings: Settings) -> PrincipalSlice:
    found = jd.landscape.principal_plane(subject.trajectory)
    coordinates = np.asarray(found.coordinates)
    low, high = coordinates.min(0), coordinates.max(0)
    margin = MARGIN * np.max(high - low)
    sides = [_axis(settings, a - margin, b + margin) for a, b in zip(low, high, strict=True)]
    plane_losses = jd.landscape.losses_at(
        subject.loss_fn, found.origin, found.directions, coordinates, subject.batch
    )
    true_losses = jd.landscape.path_losses(subject.loss_fn, subject.trajectory, subject.batch)
    return PrincipalSlice(
        plane=_plane(subject, found.directions, *sides),
        coordinates=coordinates,
        distances=np.asarray(found.distances),
        explained=np.asarray(found.explained),
        plane_losses=np.asarray(plane_losses),
        true_losses=np.asarray(true_losses),
        steps=subject.steps,
    )


def _plane(subject: Subject, directions: Sequence[Any], x: np.ndarray, y: np.ndarray) -> Plane:
    return jd.landscape.plane(subject.loss_fn, subject.last, directions, subject.batch, x=x, y=y)


def _initial_to_last(subject: Subject, settings: Settings) -> Connectivity:
    initial = jax.tree.map(lambda leaf: leaf[0], subject.trajectory)
    return _line(subject, settings, initial, subject.last)


def _between_networks(subject: Subject, settings: Settings) -> Connectivity:
    other = jax.device_put(subject.saved.network(1)["params"])
    return _line(subject, settings, subject.last, other)


def _line(subject: Subject, settings: Settings, first: Any, second: Any) -> Connectivity:
    return jd.landscape.connectivity(
        subject.loss_fn,
        first,
        second,
        subject.batch,
        x=np.linspace(*LINE, 2 * (settings.points or POINTS[settings.scale]) - 1),
        metric_fn=subject.metric_fn,
    )


def _box(subject: Subject, settings: Settings) -> BoxSharpness:
    def sharpness(subspace: int | None) -> np.ndarray:
        found = [
            jd.landscape.epsilon_sharpness(
                subject.loss_fn, subject.last, subject.batch, epsilon=epsilon, subspace=subspace
            )
            for epsilon in EPSILONS
        ]
        return np.array([each.value for each in found])

    return BoxSharpness(full=sharpness(None), subspace=sharpness(SUBSPACE[settings.scale]))


class Slice(NamedTuple):
    """A part of the landscape.

    Attributes:
      record: the type of its result.
      evaluate: Called as `evaluate(subject, settings)`; returns the result.
      min_steps: networks that the trajectory must have.
      min_networks: networks that the run must have.
    """

    record: type[Any]
    evaluate: Callable[[Subject, Settings], Any]
    min_steps: int = 1
    min_networks: int = 1

    def possible(self, subject: Subject) -> bool:
        """Returns True if the run has the networks that the slice needs."""
        enough_steps = len(subject.steps) >= self.min_steps
        return enough_steps and subject.saved.settings.seeds >= self.min_networks


SLICES = {
    "random": Slice(Plane, _random_plane),
    "hessian": Slice(HessianSlice, _hessian_plane, min_steps=2),
    "principal": Slice(PrincipalSlice, _principal_plane, min_steps=3),
    "initial to last": Slice(Connectivity, _initial_to_last, min_steps=2),
    "two networks": Slice(Connectivity, _between_networks, min_networks=2),
    "box": Slice(BoxSharpness, _box),
}
