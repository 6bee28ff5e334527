"""The figures of a landscape: a picture of each slice, and surfaces that can be rotated."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.studies.landscape.subject import Subject
from jaxdescent.landscape import Connectivity


def save_figures(run: runner.Run, subject: Subject, found: Mapping[str, Any]) -> None:
    """Saves the figures of the slices that were evaluated."""
    title = f"{subject.saved.task.name}, step {subject.saved.step:,}: "
    random, labels = found["random"], ("random direction", "another random direction")
    options = {"title": title + "random plane, filter-normalized", "labels": labels}
    run.save_figure("random_plane", jd.landscape.contour_figure(random, **options))
    run.save_figure("random_surface", jd.landscape.surface_figure(random, **options))
    surfaces = [jd.landscape.surface_html(random, **options)]
    if "hessian" in found:
        first, second = found["hessian"].eigenvalues
        labels = f"eigenvalue {first:.3g}", f"eigenvalue {second:.3g}"
        figure = jd.landscape.contour_figure(
            found["hessian"].plane,
            title=title + "plane of the greatest curvature",
            labels=labels,
        )
        run.save_figure("hessian_plane", figure)
    if "principal" in found:
        principal = found["principal"]
        figure = jd.landscape.path_figure(
            principal.plane,
            principal.coordinates,
            principal.true_losses,
            principal.plane_losses,
            principal.distances,
            principal.explained,
            steps=principal.steps,
            title=title + "principal plane of the trajectory",
        )
        run.save_figure("principal_plane", figure)
        surfaces.append(
            jd.landscape.surface_html(
                principal.plane,
                path=principal.coordinates,
                path_losses=principal.true_losses,
                title=title + "trajectory at its true losses, on its principal plane",
                labels=("first principal direction", "second"),
                script=False,
            )
        )
    run.save_fragment("surfaces", "\n".join(surfaces))
    lines = {name: each for name, each in found.items() if isinstance(each, Connectivity)}
    if lines:
        run.save_figure("lines", _draw_lines(lines))


def _draw_lines(lines: Mapping[str, Connectivity]) -> Figure:
    """Draws the loss along each line, and the linear interpolation between its ends."""
    figure = Figure(figsize=(5.8 * len(lines), 4.2), layout="constrained")
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    curves: list[Any] = []
    for panel, (name, line) in zip(panels, lines.items(), strict=True):
        curves = panel.plot(line.x, line.values, color="tab:blue", label="loss")
        curves += panel.plot((0, 1), line.ends, "ko--", markersize=4, label="interpolated loss")
        panel.set(xlabel=f"{name}, from 0 to 1", ylabel="loss")
        panel.set_title(f"barrier {float(line.barrier):.3g}")
        panel.grid(alpha=0.25)
        if line.metrics is not None:
            other = panel.twinx()
            other.set_ylabel("accuracy %")
            style = {"color": "tab:orange", "linewidth": 1, "label": "accuracy"}
            curves += other.plot(line.x, line.metrics, **style)
    figure.legend(handles=curves, loc="outside lower center", ncols=3, fontsize=8)
    return figure
