"""The figures of the study of shallow networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

import jaxdescent as jd
from experiments.studies.shallow_nets.networks import loss_of
from experiments.studies.shallow_nets.report import Comparisons, mean_over_seeds
from experiments.studies.shallow_nets.settings import AGENTS, REGIMES, RULE, TARGET_REGRET
from experiments.studies.shallow_nets.tasks import TabularTask
from experiments.studies.shallow_nets.training import (
    PruningComparison,
    fit_agents,
    init_agents,
)

PLANE_POINTS = {"smoke": 5, "small": 41, "full": 81}  # along each side of a plane
PLOTTED_TASKS = ("digits", "shells", "diabetes", "Swiss roll")  # in the figure of curves


def draw_paths(task: TabularTask, scale: str, seed: int) -> Figure:
    """Plots the paths of a pruned run's agents, projected on the plane of its three best."""
    result = fit_agents(task, scale, "starts", seed, rule=RULE, record_params=True)
    params, _ = init_agents(jax.random.key(seed), task.train["x"].shape[1], task.outputs)
    best = jnp.argsort(result.population.scores)[:3]
    corners = [jax.tree.map(lambda x, i=i: x[i], result.population.params) for i in best]
    origin, directions, coordinates = jd.landscape.plane_through(*corners)
    history = jax.tree.map(
        lambda start, later: jnp.concatenate([start[None], later]), params, result.history.params
    )
    paths = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)
    projected = jd.landscape.project(paths, origin, directions).coordinates
    low, high = np.min(coordinates, 0), np.max(coordinates, 0)
    border = 1.5 * np.max(high - low)
    points = PLANE_POINTS[scale]
    plane = jd.landscape.plane(
        loss_of(task),
        origin,
        directions,
        task.validation,
        x=np.linspace(low[0] - border, high[0] + border, points),
        y=np.linspace(low[1] - border, high[1] + border, points),
    )
    last = 1 + np.sum(np.asarray(result.history.alive), axis=0)
    return jd.landscape.agents_figure(
        plane,
        projected,
        last,
        winner=int(best[0]),
        title=f"{task.name}: agents, projected on the plane of the three best",
        labels=("from the best to the second best", "orthogonal, toward the third best"),
    )


def draw_regret(comparisons: Comparisons) -> Figure:
    """Plots validation and test regret, a row for each task."""
    figure = Figure(figsize=(13, 0.27 * len(comparisons) + 2.1), layout="constrained")
    panels = figure.subplots(1, len(REGIMES), sharey=True, sharex=True)
    places = np.arange(len(comparisons))
    for panel, (regime, setting) in zip(panels, REGIMES.items(), strict=True):
        means = [mean_over_seeds(regimes[regime]) for regimes in comparisons.values()]
        validation = 100 * np.array([mean.validation_regret for mean in means])
        test = 100 * np.array([mean.test_regret for mean in means])
        unpruned = 100 * np.array([mean.unpruned_test_regret for mean in means])
        panel.axvspan(-1, 100 * TARGET_REGRET, color="#2e86c1", alpha=0.12, linewidth=0)
        panel.hlines(places, unpruned, test, color="#bbbbbb", linewidth=1)
        panel.plot(unpruned, places, "o", color="white", markeredgecolor="#777777",
                   label="without pruning, test")  # fmt: skip
        panel.plot(test, places, "o", color="#777777", markersize=3.5,
                   label="pruned, test")  # fmt: skip
        panel.plot(validation, places, "D", color="#c0392b", markersize=4.5,
                   label="pruned, validation (used for pruning and selection)")  # fmt: skip
        panel.set_title(setting.title, fontsize=10)
        panel.set_xscale("symlog", linthresh=1.0)
        panel.set_xlim(-0.2, 100)
        panel.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1%", "3%", "10%", "30%", "100%"])
        panel.grid(alpha=0.25, axis="x")
    compute = 100 * np.mean([mean_over_seeds(x["starts"]).compute for x in comparisons.values()])
    panels[1].set_xlabel(
        f"regret relative to the range of {AGENTS} full trainings, with {compute:.0f}% of their "
        "compute"
    )
    panels[0].set_yticks(places, [*comparisons], fontsize=8)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_curves(comparisons: Comparisons) -> Figure:
    """Plots validation losses of a few tasks; each ends where its agent is pruned."""
    plotted = {task: comparisons[task] for task in PLOTTED_TASKS if task in comparisons}
    figure = Figure(figsize=(max(3.6 * len(plotted) + 0.4, 9.0), 6.4), layout="constrained")
    panels = figure.subplots(len(REGIMES), max(len(plotted), 1), squeeze=False)
    for column, (task, regimes) in enumerate(plotted.items()):
        for row, (regime, setting) in enumerate(REGIMES.items()):
            panel = panels[row, column]
            _draw_agents(panel, regimes[regime][0])
            panel.set_title(f"{task}, {setting.title}", fontsize=9)
            if row == len(REGIMES) - 1:
                panel.set_xlabel("rung")
            if column == 0:
                panel.set_ylabel("validation loss")
    styles: dict[str, dict[str, Any]] = {
        "survives": {"color": "#154360", "linewidth": 1.6},
        "pruned": {
            "color": "#999999",
            "linewidth": 0.6,
            "marker": "x",
            "markeredgecolor": "#b03a2e",
        },
        "best of the full training": {"color": "#ca8a04", "linestyle": "--"},
    }
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw_agents(panel: Axes, comparison: PruningComparison) -> None:
    curves, rungs = comparison.curves, np.arange(1, len(comparison.curves) + 1)
    last_alive = comparison.alive.sum(0)  # the last rung that an agent survives
    for agent, curve in enumerate(curves.T):
        end = min(last_alive[agent] + 1, len(curves))
        survives = last_alive[agent] == len(curves)
        color = "#154360" if survives else "#999999"
        panel.plot(rungs[:end], curve[:end], color=color, linewidth=1.6 if survives else 0.6,
                   zorder=3 if survives else 1)  # fmt: skip
        if not survives:
            panel.plot(rungs[end - 1], curve[end - 1], "x", color="#b03a2e", markersize=3.5)
    best = np.argmin(comparison.validation)
    panel.plot(rungs, curves[:, best], color="#ca8a04", linewidth=1.1, linestyle="--", zorder=2)
    finite = curves[np.isfinite(curves)]
    low, high = finite.min(), np.quantile(finite, 0.98)
    panel.set(yscale="log", ylim=(0.93 * low, 1.05 * high))
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.2)
