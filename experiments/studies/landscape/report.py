"""The table of a landscape, with its notes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import runner
from experiments.studies.landscape.settings import Settings
from experiments.studies.landscape.slices import (
    EPSILONS,
    BoxSharpness,
    HessianSlice,
    PrincipalSlice,
)
from experiments.studies.landscape.subject import Subject
from experiments.studies.train.report import report_title
from jaxdescent.landscape import Connectivity, Plane

Rows = list[tuple[str, str, str]]


def results(settings: Settings, subject: Subject, found: Mapping[str, Any]) -> runner.Results:
    """Returns the table, the notes and the numbers.

    Args:
      settings: of the study.
      subject: the network.
      found: names to the slices that were evaluated.
    """
    saved, count = subject.saved, len(subject.batch[1])
    statistics = (
        "recomputed at each point"
        if settings.statistics == "batch"
        else "the running averages of the last step"
    )
    notes = [
        f"{saved.folder}, network 1 of {saved.settings.seeds} at step {saved.step:,}. Losses are "
        f"means over the same {count:,} training examples, in float32, without dropout. "
        f"Statistics of batch normalization, if there are any, are {statistics}.",
        "Random directions are filter-normalized: each filter has the norm of the network's. "
        "Biases and normalization scales do not move (Li et al. 2018). Coordinates of the other "
        "planes are Euclidean distances.",
        "Barrier: the largest excess of the loss on the line over the linear interpolation of the "
        "losses at its ends (Entezari et al. 2022). Instability: the largest excess over their "
        "mean (Frankle et al. 2020).",
        "Epsilon-sharpness: the increase of the loss in a box, in percent of 1 + loss (Keskar et "
        "al. 2017). It is a lower bound, from 10 steps of ascent from 2 starting points.",
        *notes_on_missing_networks(subject),
    ]
    if "principal" in found:
        shares = random_walk_shares(len(subject.steps))
        notes.append(
            f"A random walk with the same number of points ({len(subject.steps)}) would have "
            f"{100 * shares.sum():.1f}% of its variance in two directions "
            "(Antognini and Sohl-Dickstein 2018)."
        )
    rows = [row for name, each in found.items() for row in _ROWS[name](each)]
    values = {
        name: {
            field: value
            for field, value in _flat(each).items()
            if value is not None and np.size(value) <= 100
        }
        for name, each in found.items()
    }
    name = report_title(saved.task.name, saved.settings)
    columns = ("slice", "quantity", "value")
    return runner.Results(f"The landscape of {name}", columns, rows, notes, values, _verdict(found))


def _verdict(found: Mapping[str, Any]) -> str:
    """Returns the curvature, the barriers, and how much of the path the principal plane shows."""
    sentences = []
    if hessian := found.get("hessian"):
        top = f"The greatest curvature at the last parameters is {hessian.eigenvalues[0]:.3g}"
        sentences.append(top if hessian.converged[0] else f"{top} (not converged)")
    if box := found.get("box"):
        rise = f"in a box of half width {EPSILONS[0]:g} the loss rises by {box.full[0]:.3g}%"
        sentences.append(f"{rise} of 1 + loss at least")
    ends = {"initial to last": "initial to the last parameters", "two networks": "network 1 to 2"}
    sentences += [
        f"the barrier from {ends[name]} is {float(found[name].barrier):.3g}"
        for name in ends
        if name in found
    ]
    if principal := found.get("principal"):
        share = f"the principal plane has {100 * principal.explained[:2].sum():.1f}%"
        sentences.append(f"{share} of the trajectory's variance")
    text = "; ".join(sentences)
    return f"{text[:1].upper()}{text[1:]}."


def _flat(record: Any) -> dict[str, Any]:
    """Returns the fields of a record, with the fields of its plane in place of the plane."""
    fields = record._asdict()
    plane = fields.pop("plane", None)
    return fields if plane is None else {**plane._asdict(), **fields}


def notes_on_missing_networks(subject: Subject) -> list[str]:
    """Returns a sentence for each kind of network that the run does not have."""
    notes = []
    if not len(subject.saved.trajectory.steps):
        notes.append(
            "The run has no trajectory, because it is older than trajectories or too large to "
            "save one. There is no principal plane, and the initial parameters are drawn again "
            "from the run's seed."
        )
    if len(subject.steps) < 2:
        notes.append("The run was a warm start, so its initial parameters are unknown.")
    return notes


def random_walk_shares(points: int) -> np.ndarray:
    """Returns the fractions of variance that two principal directions of a random walk explain.

    The walk has many dimensions, so that its points have inner products min(i, j), centered.

    Returns:
      `f64[2]`.

    Example:
      >>> random_walk_shares(1_000).round(2).tolist()  # 6 / pi^2 and a quarter of it
      [0.61, 0.15]
    """
    times = np.arange(points, dtype=float)
    inner = np.minimum(times[:, None], times)
    centered = inner - inner.mean(0) - inner.mean(1)[:, None] + inner.mean()
    variances = np.linalg.eigvalsh(centered)[::-1]
    return variances[:2] / variances.sum()


def _plane_rows(title: str, plane: Plane) -> Rows:
    heights = np.asarray(plane.values, float)
    finite = heights[np.isfinite(heights)]
    rows = [(title, "lowest and highest loss", f"{finite.min():.4g} to {finite.max():.4g}")]
    if int(plane.not_finite):
        rows.append((title, "points that are not finite", f"{int(plane.not_finite)}"))
    return rows


def _random_rows(plane: Plane) -> Rows:
    return _plane_rows("random plane", plane)


def _hessian_rows(found: HessianSlice) -> Rows:
    certified = zip(found.eigenvalues, found.residuals, found.converged, strict=True)
    shown = [
        f"{value:.4g} ± {residual:.1g}" + ("" if converged else ", not converged")
        for value, residual, converged in certified
    ]
    title = "plane of greatest curvature"
    return [
        *_plane_rows(title, found.plane),
        (title, "greatest eigenvalue", shown[0]),
        (title, "second eigenvalue", shown[1]),
    ]


def _principal_rows(found: PrincipalSlice) -> Rows:
    explained, title = found.explained, "principal plane"
    true, on_plane = found.true_losses, found.plane_losses
    positive = np.all(true > 0) and np.all(on_plane > 0)
    difference = np.abs(np.log(on_plane / true)) if positive else np.abs(on_plane - true)
    worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
    losses = f"{true[worst]:.4g}, {on_plane[worst]:.4g}, step {found.steps[worst]:,}"
    extent = float(np.linalg.norm(found.coordinates[0]))
    distance = f"{np.max(found.distances):.3g}; from the initial to the last {extent:.3g}"
    return [
        *_plane_rows(title, found.plane),
        (title, "variance explained, two directions", f"{100 * explained[:2].sum():.1f}%"),
        (title, "first and second", f"{100 * explained[0]:.1f}%, {100 * explained[1]:.1f}%"),
        (title, "largest distance of the trajectory from the plane", distance),
        (title, "true loss and loss on the plane, where they differ most", losses),
    ]


def _line_rows(title: str, line: Connectivity) -> Rows:
    first, second = line.ends
    rows = [
        (title, "losses at the ends", f"{first:.4g}, {second:.4g}"),
        (title, "barrier", f"{float(line.barrier):.4g}"),
        (title, "instability", f"{float(line.instability):.4g}"),
    ]
    if line.metric_barrier is not None:
        barrier = f"{float(line.metric_barrier):.3g} points"
        rows.append((title, "barrier of the accuracy", barrier))
    return rows


def _initial_to_last_rows(line: Connectivity) -> Rows:
    return _line_rows("initial to last parameters", line)


def _two_networks_rows(line: Connectivity) -> Rows:
    return _line_rows("network 1 to 2", line)


def _box_rows(found: BoxSharpness) -> Rows:
    spaces = (("all directions", found.full), ("a random subspace", found.subspace))
    return [
        ("box", f"epsilon-sharpness, epsilon {epsilon:g}, {space}", f"{value:.3g}%")
        for space, values in spaces
        for epsilon, value in zip(EPSILONS, values, strict=True)
    ]


_ROWS = {
    "random": _random_rows,
    "hessian": _hessian_rows,
    "principal": _principal_rows,
    "initial to last": _initial_to_last_rows,
    "two networks": _two_networks_rows,
    "box": _box_rows,
}
