"""The table, notes and figures of the study of long step sizes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments import runner
from experiments.studies.step_sizes.methods import (
    CONSTANT,
    CONSTANT_MEASURED,
    SILVER_MEASURED,
    MethodRun,
    curve_gradients,
)
from experiments.studies.step_sizes.settings import TARGET_GAP, TARGET_RATIO, Settings
from experiments.studies.step_sizes.worst_cases import LONG_HORIZON, WorstCases

ANYTIME_EXPONENT = 1.1195  # of the guarantee of anytime steps
RIVALS = ("Nesterov", "Nesterov, restarted", "OGM", "L-BFGS")
PLOTTED_PROBLEMS = (
    "ridge, products, diabetes",
    "logistic, breast cancer",
    "log-sum-exp",
    "least squares, Gaussian",
)
COLORS = {
    CONSTANT: "#888888",
    CONSTANT_MEASURED: "#bbbbbb",
    "silver": "#e59866",
    "anytime": "#f1c40f",
    SILVER_MEASURED: "#c0392b",
    "Nesterov": "#85c1e9",
    "Nesterov, restarted": "#2e86c1",
    "OGM": "#76448a",
    "L-BFGS": "#1e8449",
    "OBS-F": "#1a5276",
}


class ProblemResult(NamedTuple):
    """Results of all methods on one problem.

    Attributes:
      name: the problem's name.
      dimension: the number of its parameters.
      runs: the run of each method, by the method's name.
      budget: the maximal number of gradients of each method.
    """

    name: str
    dimension: int
    runs: Mapping[str, MethodRun]
    budget: int

    def ratio(self, method: str = SILVER_MEASURED, than: str = CONSTANT) -> float:
        """Returns how many times fewer gradients `method` needs than `than`."""
        return self.gradients(than) / self.gradients(method)

    def gradients(self, method: str) -> float:
        """Returns a method's number of gradients; the budget if it missed the target."""
        return min(self.runs[method].gradients, float(self.budget))


def make_results(
    settings: Settings, results: Sequence[ProblemResult], worst: WorstCases
) -> runner.Results:
    """Returns the table and the notes."""
    names = [*results[0].runs]
    columns = ["problem", "dimension", *names, "Hessian products", "refuted L", "times fewer"]
    rows = [
        [
            result.name,
            str(result.dimension),
            *(_count(result.runs[name].gradients) for name in names),
            str(result.runs[SILVER_MEASURED].products),
            str(result.runs[SILVER_MEASURED].refuted),
            f"{result.ratio():.1f}",
        ]
        for result in results
    ]
    medians = [np.median([result.ratio(name) for result in results]) for name in names]
    rows.append(
        [f"times fewer than {CONSTANT}, median", "", *(f"{x:.1f}" for x in medians), "", "", ""]
    )
    notes = [
        *comparison_notes(results),
        *worst_case_notes(worst),
        f"The table shows the number of gradients until f(x) - f* is {TARGET_GAP:g} of its initial "
        "value; the loss is checked at the points where gradients are evaluated. The last three "
        f'columns describe "{SILVER_MEASURED}": its Hessian-vector products, its estimates of L '
        f"that gradients contradicted, and how many times fewer gradients it needs than "
        f'"{CONSTANT}".',
        "A method with a measured L counts two gradients for each Hessian-vector product. It "
        "measures L at the start and after 63, 127, 255, ... steps, as the top eigenvalue of the "
        f"Hessian plus its residual, times {settings.margin:g} (--margin). The other gradient "
        "methods are given the smallest L that is known to hold everywhere.",
        "The problems were chosen before any method was run on them. One design choice was made "
        "after seeing results on them: the silver schedule continues after a measurement of L "
        "instead of restarting.",
        "Abbreviations: OGM is the optimized gradient method, OBS-F the optimized step sizes of "
        "B. Grimmer, K. Shu and A. Wang for the final function value. OBS-F needs to know the "
        "number of steps in advance, so it is left out of the table. Momentum methods use the "
        "global L; a measured L may help them, too. Anytime steps have a guarantee after every "
        "number of steps, which costs them speed. f* comes from Newton's method. L-BFGS is "
        "scipy's, with a memory of 10.",
    ]
    values = {
        **{
            result.name: {
                name: run._asdict() | {"curve": None} for name, run in result.runs.items()
            }
            for result in results
        },
        "worst cases": worst._asdict(),
    }
    verdict, *notes = notes
    return runner.Results("Long step sizes", columns, rows, notes, values, verdict)


def comparison_notes(results: Sequence[ProblemResult]) -> list[str]:
    """Compares guarded silver steps with every other method; lists the problems they lose on."""
    ratios = {result.name: result.ratio() for result in results}
    below = [f"{name} ({x:.1f})" for name, x in ratios.items() if not x >= TARGET_RATIO]
    exceptions = f" and less on: {'; '.join(below)}" if below else ""
    same_L = [result.ratio(than=CONSTANT_MEASURED) for result in results]
    notes = [
        "Guarded silver steps, which measure L, need "
        f"{np.median([*ratios.values()]):.1f} times fewer gradients than 1/L steps, which are "
        f"given L (median of {len(results)} problems; target: {TARGET_RATIO:g}). The ratio is "
        f"{TARGET_RATIO:g} or more on {len(results) - len(below)} problems{exceptions}.",
        "Part of this gain comes from the measured L, which can be smaller than the global bound: "
        f"1/L steps with the same measurements need {np.median(same_L):.1f} times as many "
        f"gradients as guarded silver steps (median; minimum {min(same_L):.1f}).",
    ]
    for rival in RIVALS:
        won = [result.name for result in results if result.ratio(than=rival) > 1]
        names = f" ({'; '.join(won)})" if won else ""
        median = np.median([result.ratio(than=rival) for result in results])
        notes.append(
            f"Guarded silver steps need fewer gradients than {rival} on {len(won)} of "
            f"{len(results)} problems{names}. {rival} needs {median:.2g} times as many gradients "
            "(median)."
        )
    missed = [
        f"{name} on {result.name}"
        for result in results
        for name, run in result.runs.items()
        if np.isinf(run.gradients)
    ]
    if missed:
        notes.append(
            f"These runs missed the target within {results[0].budget:,} gradients and count as "
            f"{results[0].budget:,}: {'; '.join(missed)}."
        )
    return notes


def worst_case_notes(worst: WorstCases) -> list[str]:
    """Compares the worst cases with published bounds; lists the horizons with worse ones."""
    n = np.arange(1, len(worst.silver) + 1)
    is_silver_horizon = (n & (n + 1)) == 0
    obs_f = np.abs(worst.obs_f - 1 / (2 + 4 * worst.obs_f_sums))
    silver = np.abs(worst.silver - 1 / (2 + 4 * worst.silver_sums))[is_silver_horizon]
    constant = 1 / (4 * n + 2)

    def worse_horizons(gaps: np.ndarray) -> str:
        return ", ".join(map(str, n[np.asarray(gaps) > constant])) or "never"

    source = (
        "exact, computed by PEPit"
        if worst.exact
        else "lower bounds from Huber functions and quadratics, because PEPit is not installed"
    )
    long, strongly_convex = float(worst.obs_f_long), float(worst.strongly_convex)
    notes = [
        f"The worst-case gaps f(x_n) - f* after n = 1 to {n[-1]} steps are {source}. The theory "
        "says L D^2 / (2 + 4 sum(h)), with D the initial distance to a minimizer and h the steps "
        f"times L. OBS-F steps differ from it by at most {obs_f.max():.1e} L D^2, silver steps at "
        f"n = 2^k - 1 by at most {silver.max():.1e} L D^2 (target: 1e-5).",
        "Numbers of steps n after which the worst case is worse than with constant steps: silver "
        f"{worse_horizons(worst.silver)}; anytime {worse_horizons(worst.anytime)}; OBS-F "
        f"{worse_horizons(worst.obs_f)}.",
        f"Anytime steps: the gap is at most {(worst.anytime * n**ANYTIME_EXPONENT).max():.3f} "
        f"L D^2 / n^{ANYTIME_EXPONENT}.",
        f"OBS-F steps leave a gap of {long:.4g} L D^2 after n = {LONG_HORIZON} steps, which is "
        f"{long * LONG_HORIZON ** np.log2(1 + np.sqrt(2)):.5f} L D^2 / n^log2(1 + sqrt(2)) "
        "(target: 0.2114 within 0.0002).",
    ]
    if np.isfinite(strongly_convex):
        notes.append(
            "Silver steps for strongly convex functions with L = 3.2, mu = 0.1 and n = 8 reduce "
            f"the squared distance to the minimizer to {strongly_convex:.6f} of its initial value "
            "(PEPit's documentation: 0.221450)."
        )
    return notes


def _count(gradients: float) -> str:
    return f"{gradients:,.0f}" if np.isfinite(gradients) else "not met"


def draw_gaps(results: Sequence[ProblemResult]) -> Figure:
    """Plots the gap against gradients for a few problems, and the fraction of problems solved."""
    budget = results[0].budget
    plotted = [result for result in results if result.name in PLOTTED_PROBLEMS] or [*results[:1]]
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=[1, 1, 0.04, 1, 1])
    for place, result in enumerate(plotted):
        panel = figure.add_subplot(grid[place // 2, place % 2])
        for name, run in result.runs.items():
            x, y = curve_gradients(budget), np.fmin.accumulate(run.curve)
            end = np.searchsorted(-y, -TARGET_GAP) + 1  # includes the point that meets the target
            panel.plot(x[:end], y[:end], **_line_style(name))
        panel.axhline(TARGET_GAP, color="black", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", yscale="log", ylim=(0.4 * TARGET_GAP, 2))
        met = [run.gradients for run in result.runs.values() if np.isfinite(run.gradients)]
        panel.set_xlim(5, 1.3 * max(met, default=budget))
        panel.set_title(result.name, fontsize=10)
        panel.grid(alpha=0.25)
        if place % 2 == 0:
            panel.set_ylabel("smallest gap so far / initial gap")
        if place >= len(plotted) - 2:
            panel.set_xlabel("gradients")
    _draw_performance_profile(figure.add_subplot(grid[:, 3:]), results)
    return figure


def _draw_performance_profile(panel: Axes, results: Sequence[ProblemResult]) -> None:
    for name in results[0].runs:
        gradients = np.sort([result.runs[name].gradients for result in results])
        met = gradients[np.isfinite(gradients)]
        solved = np.arange(1, len(met) + 1) / len(results)
        panel.step([*met], [*solved], where="post", label=name, **_line_style(name))
    panel.set(xscale="log", ylim=(0, 1.02))
    panel.set_xlabel("gradients; a Hessian-vector product counts as two")
    panel.set_ylabel(
        f"fraction of {len(results)} problems with a relative gap below {TARGET_GAP:g}"
    )
    panel.set_title('"measured": the method estimates L; L-BFGS does not use L; others are given L')
    panel.title.set_fontsize(10)
    panel.grid(alpha=0.25)
    panel.legend(loc="lower right", fontsize=9)


def draw_worst_cases(worst: WorstCases) -> Figure:
    """Plots worst cases relative to constant steps; values above 1 are worse."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    panel = figure.subplots()
    n = np.arange(1, len(worst.silver) + 1)
    panel.axhline(1, color=COLORS[CONSTANT], linewidth=1)
    panel.annotate("constant 1/L", (n[-1], 1), (0, 4), textcoords="offset points", ha="right")
    curves = {"silver": worst.silver, "anytime": worst.anytime, "OBS-F": worst.obs_f}
    for name, gaps in curves.items():
        panel.plot(n, gaps * (4 * n + 2), marker=".", color=COLORS[name], label=name, linewidth=1.3)
    panel.set(yscale="log", xlabel="number of steps n")
    panel.set_ylabel("worst-case gap / worst-case gap of constant steps")
    panel.set_title("Silver steps are good at n = 1, 3, 7, 15, 31; above the line they are worse")
    panel.set_yticks([0.3, 0.5, 1, 2, 3, 5], ["0.3", "0.5", "1", "2", "3", "5"])
    panel.yaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.25)
    panel.legend(loc="upper left")
    return figure


def _line_style(name: str) -> dict[str, Any]:
    style: dict[str, Any] = {"color": COLORS[name]}
    style["linewidth"] = 2.4 if name == SILVER_MEASURED else 1.4
    if name in (CONSTANT_MEASURED, SILVER_MEASURED):
        style["zorder"] = 3
    return style
