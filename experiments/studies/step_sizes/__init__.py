"""Long steps: what they promise, exactly, and what they save on twenty problems of unknown L.

First the worst cases of silver, anytime and OBS-F steps after 1 to 31 of them, by PEPit, with
the horizons that lose. Then gradients until the gap is a millionth of the first one: guarded
silver steps measure the smoothness as they go, and every Hessian product counts as two; 1/L
steps, momentum methods and the schedules are given theirs for free, L-BFGS has its own means.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import jaxdescent as jd
from experiments import runner
from experiments.studies.step_sizes import methods as descent
from experiments.studies.step_sizes import problems as convex
from experiments.studies.step_sizes import worst_cases
from experiments.studies.step_sizes.methods import Descent, Goal

OURS, REFERENCE, SAME_L = "silver, measured", "1/L", "1/L, measured"
SMALLER, TARGET = 1e-6, 5.0  # the gap, relative to the first; times fewer gradients
BUDGET = {"smoke": 3_000, "small": 3_000_000, "full": 30_000_000}
HORIZONS = {"smoke": 4, "small": 31, "full": 47}
FEW = ("Huber, diabetes",)  # at smoke
SHOWN = (
    "ridge, products, diabetes",
    "logistic, breast cancer",
    "log-sum-exp",
    "least squares, Gaussian",
)
RATE = 1.1195  # of anytime steps
COLORS = {
    REFERENCE: "#888888",
    SAME_L: "#bbbbbb",
    "silver": "#e59866",
    "anytime": "#f1c40f",
    OURS: "#c0392b",
    "Nesterov": "#85c1e9",
    "Nesterov, restarted": "#2e86c1",
    "OGM": "#76448a",
    "L-BFGS": "#1e8449",
    "OBS-F": "#1a5276",
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of step sizes."""

    margin: float = 1.1
    """What a measured smoothness is multiplied by: too low is worse than too high."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.margin <= 10:
            raise ValueError(f"--margin must be in [1, 10], got {self.margin}")


def methods() -> dict[str, descent.Method]:
    """All but L-BFGS, in the order of the table."""
    constant, silver = optax.constant_schedule(1.0), jd.step_sizes.silver(1.0)
    return {
        REFERENCE: descent.scheduled(constant),
        SAME_L: descent.measured(constant),
        "silver": descent.scheduled(silver),
        "anytime": descent.scheduled(jd.step_sizes.anytime(1.0)),
        OURS: descent.measured(silver),
        "Nesterov": descent.nesterov(restart=False),
        "Nesterov, restarted": descent.nesterov(restart=True),
        "OGM": descent.optimized_gradient(),
    }


class Row(NamedTuple):
    """A problem.

    Attributes:
      name: of the problem.
      dimension: of its parameters.
      outcomes: what each method did.
      budget: the gradients that each had.
    """

    name: str
    dimension: int
    outcomes: Mapping[str, Descent]
    budget: int

    def times_fewer(self, method: str = OURS, than: str = REFERENCE) -> float:
        """The gradients of one method over another's; what was not met took the budget."""
        return self.taken(than) / self.taken(method)

    def taken(self, method: str) -> float:
        """The gradients of a method, at most the budget."""
        return min(self.outcomes[method].gradients, float(self.budget))


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Solves for the worst cases, runs every method and draws two pictures."""
    problems = [
        problem for problem in convex.problems() if settings.scale != "smoke" or problem.name in FEW
    ]
    budget = BUDGET[settings.scale]
    with jax.enable_x64(True), runner.Progress(total=len(problems) + 1) as progress:
        began = time.perf_counter()
        worst = run.once("worst cases", lambda: _worst(HORIZONS[settings.scale]))
        pace = 1 / (time.perf_counter() - began)
        progress.advance(
            "worst cases", steps=1, loss=float(worst["OBS-F"][-1]), steps_per_second=pace
        )
        rows = []
        for problem in problems:
            began = time.perf_counter()
            row = _row(run, problem, settings)
            rows.append(row)
            pace = sum(map(row.taken, row.outcomes)) / (time.perf_counter() - began)
            gap = float(np.nanmin(row.outcomes[OURS].curve))
            progress.advance(problem.name, steps=1, loss=gap, steps_per_second=pace)
    run.save_figure("step_sizes", _draw(rows, budget))
    run.save_figure("worst_cases", _draw_worst(worst))
    return _results(settings, rows, worst)


def _worst(longest: int) -> dict[str, Any]:
    """Gaps after n = 1, 2, ... steps in units of L D^2, and the sums of the steps."""
    exact = worst_cases.installed()
    gap = worst_cases.gap if exact else worst_cases.gap_from_below
    count = jnp.arange(longest)
    silver = np.asarray(jax.vmap(jd.step_sizes.silver(1.0))(count))
    anytime = np.asarray(jax.vmap(jd.step_sizes.anytime(1.0))(count))
    horizons = range(1, longest + 1)
    optimal = [np.asarray(jax.vmap(jd.step_sizes.obs_f(1.0, n))(count))[:n] for n in horizons]
    long = np.asarray(jax.vmap(jd.step_sizes.obs_f(1.0, 1023))(jnp.arange(1023)))
    strongly = np.asarray(jax.vmap(jd.step_sizes.silver_strongly_convex(3.2, 0.1, 8))(count[:8]))
    return {
        "exact": exact,
        "silver": [gap(silver[:n]) for n in horizons],
        "anytime": [gap(anytime[:n]) for n in horizons],
        "OBS-F": [gap(steps) for steps in optimal],
        "silver's sums": [silver[:n].sum() for n in horizons],
        "OBS-F's sums": [steps.sum() for steps in optimal],
        "OBS-F's gap at 1023": worst_cases.gap_from_below(long),
        "strongly convex": (
            worst_cases.squared_distance(3.2 * strongly, 0.1 / 3.2)
            if exact and longest >= 8
            else np.nan
        ),
    }


def _row(run: runner.Run, problem: convex.Convex, settings: Settings) -> Row:
    """What every method does on a problem, computed or read."""
    budget = BUDGET[settings.scale]

    def compute() -> dict[str, Any]:
        first = float(problem.loss(jnp.asarray(problem.start), problem.data))
        goal = Goal(convex.minimum(problem), first, SMALLER, budget, settings.margin)
        done = {name: descent.descend(problem, each, goal) for name, each in methods().items()}
        done["L-BFGS"] = descent.lbfgs(problem, goal)
        return {
            f"{name}/{field}": value
            for name, outcome in done.items()
            for field, value in outcome._asdict().items()
        }

    known = run.once(problem.name, compute)
    outcomes = {
        name: Descent(
            float(known[f"{name}/gradients"]),
            int(known[f"{name}/products"]),
            int(known[f"{name}/refuted"]),
            known[f"{name}/curve"],
        )
        for name in (*methods(), "L-BFGS")
    }
    return Row(problem.name, len(problem.start), outcomes, budget)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the table says, losing rows named."""
    ratios = {row.name: row.times_fewer() for row in rows}
    losers = [f"{name} ({x:.1f})" for name, x in ratios.items() if not x >= TARGET]
    ending = f"; fewer on {'; '.join(losers)}." if losers else "."
    same = [row.times_fewer(than=SAME_L) for row in rows]
    said = [
        f"Guarded silver steps, which measure L, take {np.median([*ratios.values()]):.1f} times "
        f"fewer gradients than 1/L steps, which are given L (median of {len(rows)} problems; the "
        f"target was {TARGET:g}). It is {TARGET:g} times or more on {len(rows) - len(losers)}"
        f"{ending}",
        "Part of that is due to the measured L, which may be below the bound that holds "
        f"everywhere: 1/L steps with the same measurements take {np.median(same):.1f} times as "
        f"many gradients as silver steps (median; the least {min(same):.1f}).",
    ]
    for rival in ("Nesterov", "Nesterov, restarted", "OGM", "L-BFGS"):
        won = [row.name for row in rows if row.times_fewer(than=rival) > 1]
        names = ": " + "; ".join(won) if won else ""
        median = np.median([row.times_fewer(than=rival) for row in rows])
        said.append(
            f"Against {rival} they take fewer gradients on {len(won)} of {len(rows)}"
            f"{names}. {rival} takes {median:.2g} times theirs (median)."
        )
    missed = [
        f"{name} on {row.name}"
        for row in rows
        for name, outcome in row.outcomes.items()
        if np.isinf(outcome.gradients)
    ]
    if missed:
        said.append(
            f"Not there after {rows[0].budget:,} gradients, and counted so: {'; '.join(missed)}."
        )
    return said


def promises(worst: Mapping[str, Any]) -> list[str]:
    """What the worst cases say, losing horizons named."""
    n = np.arange(1, len(worst["silver"]) + 1)
    blocks = (n & (n + 1)) == 0
    optimal = np.abs(worst["OBS-F"] - 1 / (2 + 4 * worst["OBS-F's sums"]))
    silver = np.abs(worst["silver"] - 1 / (2 + 4 * worst["silver's sums"]))[blocks]
    constant = 1 / (4 * n + 2)
    losing = lambda gaps: ", ".join(map(str, n[np.asarray(gaps) > constant])) or "none"
    by = (
        "by PEPit"
        if worst["exact"]
        else "from below by Huber functions and quadratics only, since PEPit is not installed"
    )
    long, exact = float(worst["OBS-F's gap at 1023"]), float(worst["strongly convex"])
    return [
        f"Worst cases up to n = {n[-1]} are {by}. From L D^2 / (2 + 4 sum h) OBS-F is "
        f"{optimal.max():.1e} L D^2 away at most, silver at n = 2^k - 1 {silver.max():.1e} (the "
        "target was 1e-5).",
        f"Horizons at which steps are worse than constant ones: silver {losing(worst['silver'])}; "
        f"anytime {losing(worst['anytime'])}; OBS-F {losing(worst['OBS-F'])}.",
        f"Anytime steps: gap n^{RATE} is at most {(worst['anytime'] * n**RATE).max():.3f} L D^2.",
        f"OBS-F at n = 1023 leaves {long:.4g} L D^2, so its constant is "
        f"{long * 1023 ** np.log2(1 + np.sqrt(2)):.5f} (the target was .2114 within .0002).",
        *(
            [
                f"Strongly convex silver steps, L = 3.2, mu = .1, n = 8: {exact:.6f} of the "
                "squared distance (PEPit's documentation has .221450)."
            ]
            if np.isfinite(exact)
            else []
        ),
    ]


def _results(settings: Settings, rows: Sequence[Row], worst: Mapping[str, Any]) -> runner.Results:
    names = [*rows[0].outcomes]
    columns = ["problem", "d", *names, "products", "refuted", "times fewer"]
    cells = [
        [
            row.name,
            str(row.dimension),
            *(_count(row.outcomes[name].gradients) for name in names),
            str(row.outcomes[OURS].products),
            str(row.outcomes[OURS].refuted),
            f"{row.times_fewer():.1f}",
        ]
        for row in rows
    ]
    medians = [np.median([row.times_fewer(name) for row in rows]) for name in names]
    cells.append(["1/L over it, median", "", *(f"{x:.1f}" for x in medians), "", "", ""])
    notes = [
        *verdicts(rows),
        *promises(worst),
        f"Gradients until the gap is {SMALLER:g} of the first one, looked at where they are taken; "
        "columns with a measured L count two for each product with the Hessian. Given is the "
        "least L that is known to hold everywhere. A measured L is the top eigenvalue and its "
        f"residual, times {settings.margin:g} (--margin), at the start and after 63, 127, 255, "
        "... steps.",
        "The problems were chosen before any method was run on them; that the schedule goes on "
        "when L is measured, instead of starting again, was chosen with a look at them.",
        "Momentum methods have the L that holds everywhere; a measured one may help them, too. "
        "Anytime steps pay for a guarantee at every n. OBS-F needs the horizon, which is not known "
        "here, and is left out. f* is by Newton's method. L-BFGS is scipy's, memory 10.",
    ]
    values = {
        **{
            row.name: {
                name: outcome._asdict() | {"curve": None} for name, outcome in row.outcomes.items()
            }
            for row in rows
        },
        "worst cases": dict(worst),
    }
    return runner.Results("Long steps", columns, cells, notes, values)


def _count(gradients: float) -> str:
    return f"{gradients:,.0f}" if np.isfinite(gradients) else "not met"


def _draw(rows: Sequence[Row], budget: int) -> Figure:
    """Gaps of a few problems against gradients, and the fraction of all that is solved."""
    shown = [row for row in rows if row.name in SHOWN] or list(rows[:1])
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    places = figure.add_gridspec(2, 5, width_ratios=[1, 1, 0.04, 1, 1])
    for place, row in enumerate(shown):
        panel = figure.add_subplot(places[place // 2, place % 2])
        for name, outcome in row.outcomes.items():
            x, y = descent.marks(budget), np.fmin.accumulate(outcome.curve)
            until = np.searchsorted(-y, -SMALLER) + 1  # the target is met there
            panel.plot(x[:until], y[:until], **_style(name))
        panel.axhline(SMALLER, color="black", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", yscale="log", ylim=(0.4 * SMALLER, 2))
        met = [o.gradients for o in row.outcomes.values() if np.isfinite(o.gradients)]
        panel.set_xlim(5, 1.3 * max(met, default=budget))
        panel.set_title(row.name, fontsize=10)
        panel.grid(alpha=0.25)
        if place % 2 == 0:
            panel.set_ylabel("gap / first gap, best so far")
        if place >= len(shown) - 2:
            panel.set_xlabel("gradients")
    _draw_profile(figure.add_subplot(places[:, 3:]), rows)
    return figure


def _draw_profile(panel: Axes, rows: Sequence[Row]) -> None:
    for name in rows[0].outcomes:
        gradients = np.sort([row.outcomes[name].gradients for row in rows])
        met = gradients[np.isfinite(gradients)]
        solved = np.arange(1, len(met) + 1) / len(rows)
        panel.step([*met], [*solved], where="post", label=name, **_style(name))
    panel.set(xscale="log", ylim=(0, 1.02))
    panel.set_xlabel("gradients; a product with the Hessian counts as two")
    panel.set_ylabel(f"fraction of {len(rows)} problems with a gap below {SMALLER:g} of the first")
    panel.set_title("measured: L is not known; L-BFGS has no use for it; others are given it")
    panel.title.set_fontsize(10)
    panel.grid(alpha=0.25)
    panel.legend(loc="lower right", fontsize=9)


def _draw_worst(worst: Mapping[str, Any]) -> Figure:
    """Worst cases relative to constant steps'; above the line a horizon loses."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    panel = figure.subplots()
    n = np.arange(1, len(worst["silver"]) + 1)
    panel.axhline(1, color=COLORS[REFERENCE], linewidth=1)
    panel.annotate("constant 1/L", (n[-1], 1), (0, 4), textcoords="offset points", ha="right")
    for name in ("silver", "anytime", "OBS-F"):
        panel.plot(
            n, worst[name] * (4 * n + 2), marker=".", color=COLORS[name], label=name, linewidth=1.3
        )
    panel.set(yscale="log", xlabel="steps taken, n")
    panel.set_ylabel("worst gap / that of constant steps")
    panel.set_title("Silver steps are good at n = 1, 3, 7, 15, 31; above the line they lose")
    panel.set_yticks([0.3, 0.5, 1, 2, 3, 5], ["0.3", "0.5", "1", "2", "3", "5"])
    panel.yaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.25)
    panel.legend(loc="upper left")
    return figure


def _style(name: str) -> dict[str, Any]:
    measured = name in (OURS, SAME_L)
    return {"color": COLORS[name], "linewidth": 2.4 if name == OURS else 1.4} | (
        {"zorder": 3} if measured else {}
    )
