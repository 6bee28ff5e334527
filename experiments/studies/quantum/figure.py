"""The figure of the study: the error of the energy against executions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments.studies.quantum.methods import METHODS, Course, MethodName
from experiments.studies.quantum.problems import MoleculeName


def draw(
    tasks: Sequence[MoleculeName], courses: Mapping[tuple[MoleculeName, MethodName], Course]
) -> Figure:
    """Draws the error of each method on each molecule, for the first seed."""
    figure = Figure(figsize=(6.5 * len(tasks), 5.5), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    colors = {name: f"C{i % 10}" for i, name in enumerate(METHODS)}
    for panel, task in zip(panels, tasks, strict=True):
        lowest = jd.quantum.molecule(task).ground_energy
        for (found, method), course in courses.items():
            if found == task:
                errors = np.maximum(course.energies[0] - lowest, 1e-10)
                style = "--" if method.startswith("pl_") else "-"
                label = METHODS[method].title
                panel.plot(
                    course.executions[0], errors, style, color=colors[method], lw=1.4, label=label
                )
        panel.axhline(jd.quantum.CHEMICAL_ACCURACY, color="0.5", lw=0.8)
        panel.set_xlim(left=0)
        panel.set(xscale="symlog", yscale="log", xlabel="executions of a circuit", title=task)
        panel.set_ylabel("error of the energy (Hartree)")
        panel.grid(alpha=0.25)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure
