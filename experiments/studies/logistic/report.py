"""The table, notes and figure of the study of separable logistic regression."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

import jaxdescent as jd
from experiments import runner
from experiments.studies.logistic.data_sets import SeparableData
from experiments.studies.logistic.descent import (
    CLASSICAL,
    OVER_LOSS,
    OVER_LOSS_FACTOR,
    STEP_100_MARGIN,
    STEP_HORIZON,
    STEP_MARGIN,
    LossCurves,
    bound_violations,
    log_bound,
    step_sizes,
)
from experiments.studies.logistic.settings import CLASSICAL_STEP, TARGET_GAIN, TWO_POINTS_MARGIN

STYLES = {
    CLASSICAL: ("#222222", "-"),
    STEP_MARGIN: ("#f5b041", "-"),
    STEP_100_MARGIN: ("#ca6f1e", "-"),
    STEP_HORIZON: ("#922b21", "-"),
    OVER_LOSS: ("#8e44ad", "-"),
    "0.5 / loss": ("#5dade2", "--"),
    "growing, proven bound": ("#58d68d", "--"),
    "growing, asymptotic bound": ("#1e8449", "--"),
}
"""Colors and line styles; step sizes that are meant to be stable are dashed."""


class StudyResult(NamedTuple):
    """All results of the study.

    Attributes:
      steps: the number of steps T.
      sets: the data sets.
      curves: the losses, by the name of the step size.
      two_points: loss x margin^2 x step x T of the classical step on two points.
    """

    steps: int
    sets: Sequence[SeparableData]
    curves: Mapping[str, LossCurves]
    two_points: float

    @property
    def margins(self) -> np.ndarray:
        """f64[sets], the margins."""
        return np.array([each.margin for each in self.sets])

    def is_averaged(self, name: str) -> bool:
        """True if a step size is evaluated at the average of its iterates."""
        return step_sizes(self.steps)[name].averaged

    def evaluated(self, name: str) -> np.ndarray:
        """Returns the losses at the evaluated parameters as powers of ten, f64[sets, steps + 1]."""
        curves = self.curves[name]
        return (curves.average if self.is_averaged(name) else curves.last) / np.log(10)


def make_results(result: StudyResult) -> runner.Results:
    """Returns the table and the notes."""
    final = {name: result.evaluated(name)[:, -1] for name in result.curves}
    rows = [
        (
            each.name,
            str(each.examples.shape[0]),
            f"{each.margin:.4f}",
            *(f"{powers[i]:.1f}" for powers in final.values()),
        )
        for i, each in enumerate(result.sets)
    ]
    medians = [f"{np.median(powers):.1f}" for powers in final.values()]
    rows.append(("median", "", f"{np.median(result.margins):.4f}", *medians))
    gains = {
        name: float(np.median(final[CLASSICAL] - final[name]))
        for name in final
        if name != CLASSICAL
    }
    certified = max(each.upper_bound - each.margin for each in result.sets)
    notes = [
        f"Cells show log10 of the loss after T = {result.steps:,} steps. The margin is the "
        "distance of the closest example to the best separating hyperplane through the origin, "
        f"relative to the largest norm of an example; it is certified to {certified:.0e}. "
        '"step x" is the constant step size x, and "c / loss" is c divided by the current loss. '
        "The growing step sizes follow a proven or an asymptotic bound on the loss; with the "
        "proven bound the loss never increases.",
        _gain_note(result, gains),
        _stability_note(result),
        *(
            _constant_step_note(result, name)
            for name in (STEP_MARGIN, STEP_100_MARGIN, STEP_HORIZON)
        ),
        _classical_step_note(result),
        _over_loss_note(result),
    ]
    values: dict[str, Any] = {
        name: {
            "log10_loss": final[name],
            "increases": curves.increases.sum(1),
            "last_increase": curves.last_increase,
            "gain": gains.get(name, 0.0),
        }
        for name, curves in result.curves.items()
    }
    values["data"] = {each.name: each.margin for each in result.sets}
    values["two_points"] = result.two_points
    columns = ("data", "examples", "margin", *final)
    title, verdict = "Separable logistic regression", _verdict(result, gains)
    return runner.Results(title, columns, rows, notes, values, verdict)


def _verdict(result: StudyResult, gains: Mapping[str, float]) -> str:
    """Returns how many step sizes are better than the classical one, the best and the worst."""
    better = sum(gain >= TARGET_GAIN for gain in gains.values())
    best, worst = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
    stable = sum(not curves.increases.any() for curves in result.curves.values())
    return (
        f"After {result.steps:,} steps the loss is at least 1e{TARGET_GAIN:g} times lower than "
        f"with {CLASSICAL} for {better} of {len(gains)} large step sizes (median over "
        f"{len(result.sets)} data sets): {_factor(gains[best])} with the best, {best}, and "
        f"{_factor(gains[worst])} with the worst, {worst}. {stable} of {len(result.curves)} step "
        "sizes never increase the loss."
    )


def _factor(gain: float) -> str:
    return f"1e{abs(gain):.1f} times {'lower' if gain > 0 else 'higher'}"


def _gain_note(result: StudyResult, gains: Mapping[str, float]) -> str:
    reached = [f"{name} (1e{gain:.1f})" for name, gain in gains.items() if gain >= TARGET_GAIN]
    missed = [f"{name} (1e{gain:.1f})" for name, gain in gains.items() if gain < TARGET_GAIN]
    return (
        f"Factor by which the loss is lower than with {CLASSICAL}, median over {len(result.sets)} "
        f"data sets: at least 1e{TARGET_GAIN:g} with {'; '.join(reached) or 'no step size'}; less "
        f"with {'; '.join(missed) or 'no step size'}."
    )


def _stability_note(result: StudyResult) -> str:
    counts = {name: int(curves.increases.sum()) for name, curves in result.curves.items()}
    stable = [name for name, count in counts.items() if not count]
    unstable = [f"{name} ({count:,} steps)" for name, count in counts.items() if count]
    return (
        "Step sizes that never increased the loss, over all data sets: "
        f"{'; '.join(stable) or 'no step size'}. Step sizes that did: "
        f"{'; '.join(unstable) or 'no step size'}."
    )


def _constant_step_note(result: StudyResult, name: str) -> str:
    """Compares a large constant step with the theory of J. Wu et al."""
    margins, steps = result.margins, result.steps
    curves = result.curves[name]
    step = {
        STEP_MARGIN: _large_constant(margins, steps, 1.0),
        STEP_100_MARGIN: _large_constant(margins, steps, 100.0),
        STEP_HORIZON: np.full(len(margins), float(steps)),
    }[name]
    sizes = np.array([len(each.examples) for each in result.sets])
    last, predicted = curves.last_increase, np.maximum(step, sizes) / margins**2
    product = np.exp(curves.last[:, -1]) * margins**2 * step * steps
    return (
        f"{name}: the last step that increased the loss is number {np.median(last):,.0f} in the "
        f"median (0 if the loss never increased) and {last.max():,} at most. It is at most "
        f"{(last / predicted).max():.2g} times max(step, examples) / margin² (theory: at most of "
        f"order 1). The final loss x margin² x step x T is {np.median(product):.1e} in the median "
        f"and {product.max():.2g} at most (theory: at most of order 1)."
    )


def _large_constant(margins: np.ndarray, steps: int, multiple: float) -> np.ndarray:
    return np.asarray(jd.step_sizes.large_constant(margins, steps, multiple=multiple)(0))


def _classical_step_note(result: StudyResult) -> str:
    last = result.curves[CLASSICAL].last[:, -1]
    product = np.exp(last) * result.margins**2 * CLASSICAL_STEP * result.steps
    return (
        f"{CLASSICAL}: the final loss x margin² x step x T is {np.median(product):.2f} in the "
        f"median ({product.min():.2f} to {product.max():.2f}; theory: 1 in the limit). On two "
        f"points with margin {TWO_POINTS_MARGIN:g} it is {result.two_points:.3f} after "
        f"{4 * result.steps:,} steps."
    )


def _over_loss_note(result: StudyResult) -> str:
    curves, margins = result.curves[OVER_LOSS], result.margins
    violations = bound_violations(curves, margins, OVER_LOSS_FACTOR)
    step = np.minimum(np.ceil(2 / margins**2).astype(int), result.steps)
    losses = curves.average[np.arange(len(step)), step] / np.log(10)
    return (
        f"{OVER_LOSS}, evaluated at the average of the iterates: the loss exceeds the bound "
        f"exp(-32 (margin² t - 1)) at {violations} steps t. After 2 / margin² steps (at most "
        f"{result.steps:,}) the loss is 1e{np.median(losses):.1f} in the median; the bound is "
        f"1e{-32 / np.log(10):.1f}."
    )


def draw(result: StudyResult) -> Figure:
    """Plots curves of the data set with the median margin, and all final losses."""
    margins = result.margins
    order = np.argsort(margins)
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    curves, finals = figure.subplots(1, 2)
    _draw_curves(curves, result, int(order[len(margins) // 2]))
    for name in result.curves:
        color, style = STYLES[name]
        losses = -result.evaluated(name)[order, -1]
        finals.plot(
            margins[order], losses, "o", markersize=4, linewidth=1, color=color, linestyle=style
        )
    finals.set(xscale="log", yscale="log", xlabel="margin", ylabel="-log10 of the final loss")
    finals.set_title(f"{len(margins)} data sets after {result.steps:,} steps: higher is better")
    finals.xaxis.set_minor_formatter(NullFormatter())
    finals.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    finals.xaxis.set_major_formatter("{x:g}")
    finals.grid(alpha=0.25)
    return figure


def _draw_curves(panel: Axes, result: StudyResult, index: int) -> None:
    """Plots the loss of every step size on one data set, with theory."""
    data, steps = result.sets[index], result.steps
    t = np.unique(np.geomspace(1, steps, 800).astype(int))
    for name in result.curves:
        color, style = STYLES[name]
        label = f"{name}, averaged" if result.is_averaged(name) else name
        curve = result.evaluated(name)[index, t]
        panel.plot(t, curve, linewidth=1.6, label=label, color=color, linestyle=style)
    for step in (CLASSICAL_STEP, float(steps)):
        theory = -np.log10(data.margin**2 * step * t)
        label = "1 / (margin² step t)" if step == CLASSICAL_STEP else None
        panel.plot(t, theory, color="#999999", linestyle=":", linewidth=1.2, label=label)
    bound = log_bound(OVER_LOSS_FACTOR, data.margin, t) / np.log(10)
    label = f"bound of {OVER_LOSS}"
    panel.plot(t, bound, color=STYLES[OVER_LOSS][0], linestyle=":", linewidth=1.2, label=label)
    panel.set(xscale="log", xlabel="step t", ylabel="log10 of the loss", ylim=(-40, 5))
    panel.set_title(f"{data.name}, margin {data.margin:.3f}; dashed: meant to be stable")
    panel.legend(fontsize=8, loc="lower left")
    panel.grid(alpha=0.25)
