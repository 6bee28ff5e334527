"""The figures of the study of test functions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments.studies.functions.methods import Kind, Method
from experiments.studies.functions.report import StudyResult
from experiments.studies.functions.selection_risk import CUTS, STEPS_PER_RUNG

PLOTTED_RULE = jd.pruning.delay(3, jd.pruning.successive_halving(1.15))
BLUES = ("#85c1e9", "#2e86c1", "#154360")


def draw_agents() -> Figure:
    """Plots agents' paths and values on one function; each ends where the agent is pruned."""
    problem = jd.problems.levy(key=jax.random.key(5), rotated=True)
    edge = float(problem.upper[0])
    result = jd.minimize(
        problem,
        optax.adam(optax.exponential_decay(1 / 40, 96, 0.02)),
        key=jax.random.key(1),
        num_agents=64,
        steps=96,
        steps_per_rung=2,
        rule=PLOTTED_RULE,
        record_params=True,
    )
    history = jax.tree.map(np.asarray, result.history)
    figure = Figure(figsize=(13, 5.8), layout="constrained")
    plane, curves = figure.subplots(1, 2, width_ratios=(1, 1.1))
    ticks = np.linspace(-edge, edge, 240)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    heights = np.asarray(jax.vmap(problem.value)(jnp.asarray(grid, jnp.float32))).reshape(240, 240)
    plane.contourf(ticks, ticks, np.log1p(heights - heights.min()), 16, cmap="binary", alpha=0.4)
    rungs = np.sum(np.isfinite(history.values), axis=0)
    for agent in np.argsort(rungs, kind="stable"):
        end = rungs[agent]
        survives = end == len(history.steps) and history.alive[-1, agent]
        path = history.params[:end, agent]
        alpha = 1.0 if survives else 0.3 + 0.5 * end / len(history.steps)
        style = {"color": "#c0392b" if survives else "#2471a3", "alpha": alpha}
        width, marker = (2.0, "o") if survives else (1.1, "x")
        plane.plot(*path.T, linewidth=width, **style)
        plane.plot(*path[-1], marker, markersize=6, **style)
        values = np.maximum(history.values[:end, agent] - float(problem.minimum), 1e-7)
        curves.plot(history.steps[:end], values, linewidth=width, **style)
        curves.plot(history.steps[end - 1], values[-1], marker, **style)
    plane.plot(*np.asarray(problem.optima[0]), "*", color="#f1c40f", ms=16, mec="black")
    plane.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xlabel="x_1", ylabel="x_2")
    plane.set_title("Rotated Levy function: paths of 64 agents (x: pruned, star: minimum)")
    plane.title.set_fontsize(10)
    curves.set(yscale="log", xlabel="step", ylabel="value above the minimum")
    curves.set_title("Values: pruned agents in blue, surviving agents in red", fontsize=10)
    curves.grid(alpha=0.25)
    return figure


def draw_convergence(result: StudyResult) -> Figure:
    """Plots success on the hard functions against gradients, and the risk of pruning the best."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    success, risk = figure.subplots(1, 2)
    _draw_success(success, result)
    _draw_risk(risk, result)
    return figure


def _draw_success(panel: Axes, result: StudyResult) -> None:
    setup, chosen = result.setup, result.chosen
    budgets = sorted(int(factor * setup.budget) for factor in (1.0, *setup.budget_factors))
    curves = [("MAGD", "#c0392b", chosen.magd)]
    for agents, color in zip(setup.unpruned_agents, BLUES, strict=True):
        method = Method(Kind.UNPRUNED, setup.budget, agents)
        curves.append((f"{agents} of the same agents, unpruned", color, method))
    for name, color, method in curves:
        at_budgets = [method._replace(budget=budget) for budget in budgets]
        present = [each for each in at_budgets if each in result.table]
        rates = [result.success(each) for each in present]
        panel.plot([each.budget for each in present], rates, "o-", color=color, label=name)
    points = (
        (f"Adam from {chosen.multistart.agents} starts", "#1e8449", chosen.multistart),
        ("Adam from one start", "#ca8a04", chosen.adam),
        ("gradient descent", "#888888", chosen.gd),
    )
    for name, color, method in points:
        panel.plot(setup.budget, result.success(method), "s", color=color, label=name)
    panel.axhline(95, color="#888888", linestyle=":", linewidth=1)
    panel.set(
        xscale="log", xlabel="gradients", ylabel="success on the hard eight, %", ylim=(0, 102)
    )
    panel.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    panel.minorticks_off()
    panel.legend(fontsize=8)
    panel.grid(alpha=0.25)


def _draw_risk(panel: Axes, result: StudyResult) -> None:
    panel.plot([0, 100], [0, 100], color="#888888", linewidth=0.8)
    for number, (name, risk) in enumerate(result.risks.items()):
        x, y = 100 * risk.predicted.mean(0), 100 * risk.pruned.mean(0)
        for cut, marker in enumerate("o^s"):
            label = name if cut == 0 else None
            panel.plot(x[cut], y[cut], marker, color=f"C{number}", label=label)
    panel.set(xlabel="best agent pruned: predicted, %", ylabel="best agent pruned: measured, %")
    cuts = [
        f"{mark} {(rung + 1) * STEPS_PER_RUNG} steps"
        for mark, rung in zip("●▲■", CUTS, strict=True)
    ]
    panel.set_title(f"pruned after {', '.join(cuts)}", fontsize=10)
    top = 5 + 100 * max(
        max(risk.predicted.mean(0).max(), risk.pruned.mean(0).max())
        for risk in result.risks.values()
    )
    panel.set(xlim=(-1, top), ylim=(-1, top))
    panel.legend(fontsize=8)
    panel.grid(alpha=0.25)
