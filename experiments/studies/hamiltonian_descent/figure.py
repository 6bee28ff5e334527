"""The figures of the study: the wave as it settles, and the probabilities of success."""

from collections.abc import Mapping

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments.studies.hamiltonian_descent.functions import BENCHMARKS
from experiments.studies.hamiltonian_descent.methods import Classical, Waves
from experiments.studies.hamiltonian_descent.settings import Settings

DRAWN = ("levy", "rastrigin", "styblinski_tang", "griewank")
"""Functions whose waves are drawn, if the study has them: two successes and two failures."""


def draw_waves(waves: Mapping[str, Waves], settings: Settings) -> Figure:
    """Draws each function and its wave at several times, in units of the box."""
    names = [name for name in DRAWN if name in waves] or list(waves)[:2]
    # The wave is still uniform before.
    shown = np.flatnonzero(waves[names[0]].times >= settings.end_time / 10 * (1 - 1e-6))
    columns = len(shown) + 1
    figure = Figure(figsize=(2.2 * columns, 2.25 * len(names)), layout="constrained")
    rows = figure.subplots(len(names), columns, squeeze=False, sharex=True, sharey=True)
    colors = ScalarMappable(Normalize(-2, 2.5), "magma")
    for name, row in zip(names, rows, strict=True):
        found = waves[name]
        _draw_function(row[0], name)
        row[0].set_ylabel(BENCHMARKS[name].title)
        for panel, record in zip(row[1:], shown, strict=True):
            # The start is uniform, with a density of 1.
            cells = found.cells[record]
            density = cells.T * cells.size
            panel.imshow(
                np.log10(density + 1e-12),
                extent=(0, 1, 0, 1),
                origin="lower",
                cmap=colors.cmap,
                norm=colors.norm,
            )
            x, y = _optimum(name)
            circle = np.exp(1j * np.linspace(0, 2 * np.pi, 100)) * settings.radius
            panel.plot(x + circle.real, y + circle.imag, color="w", lw=0.8)
            time, success = found.times[record], found.success[record]
            panel.set_title(f"t = {time:g}: {success:.3f}", fontsize=9)
            panel.set(xlim=(0, 1), ylim=(0, 1))
    bar = figure.colorbar(colors, ax=rows, shrink=0.8, pad=0.01)
    bar.set_label("log10 of the probability density")
    figure.suptitle(
        "The wave as it settles; the number is its probability in the circle, a success",
        fontsize=10,
    )
    return figure


def _optimum(name: str) -> np.ndarray:
    problem = BENCHMARKS[name].problem()
    return np.asarray((problem.optima[0] - problem.lower) / (problem.upper - problem.lower))


def _draw_function(panel: Axes, name: str) -> None:
    problem = BENCHMARKS[name].problem()
    axis = np.linspace(0, 1, 121)
    mesh = np.stack(np.meshgrid(axis, axis, indexing="xy"), -1)
    points = problem.lower + (problem.upper - problem.lower) * mesh
    values = np.asarray(jax.vmap(jax.vmap(problem.value))(points))
    panel.contourf(axis, axis, values, levels=24, cmap="viridis")
    panel.plot(*_optimum(name), "w*", ms=8, mec="k", mew=0.5)
    panel.set_title("function", fontsize=9)
    panel.set_aspect("equal")


def draw_success(waves: Mapping[str, Waves], classical: Mapping[str, Classical]) -> Figure:
    """Draws the probability of success of each method on each function."""
    names = sorted(waves, key=lambda name: waves[name].success[-1])
    series = {
        "QHD, published": [BENCHMARKS[name].published for name in names],
        "QHD": [waves[name].success[-1] for name in names],
        "one descent": [classical[name].descent for name in names],
        "MAGD": [classical[name].magd for name in names],
        "jd.hybrid": [classical[name].hybrid for name in names],
    }
    styles = ("kx", "C0o", "C7v", "C1s", "C2D")
    figure = Figure(figsize=(8, 1.6 + 0.3 * len(names)), layout="constrained")
    panel = figure.subplots()
    rows = np.arange(len(names))
    # Markers side by side, because many are 0 or 1.
    for number, ((label, values), style) in enumerate(zip(series.items(), styles, strict=True)):
        panel.plot(values, rows + 0.14 * (2 - number), style, ms=5, label=label)
    panel.set_yticks(rows, [BENCHMARKS[name].title for name in names])
    panel.set(xlabel="probability of success", xlim=(-0.02, 1.02), ylim=(-0.6, len(names) - 0.4))
    panel.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    return figure
