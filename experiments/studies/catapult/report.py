"""The table, notes and figure of the catapult study."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import runner
from experiments.studies.catapult.linear import TrainingCurves
from experiments.studies.catapult.relu import ReluResult
from experiments.studies.catapult.settings import (
    CONVERGED,
    PREDICTED,
    RELU_CONVERGED,
    RELU_EXAMPLES,
    WARMUP_STEPS,
)

COLUMNS = (
    "training",
    "rate x sharpness",
    "converged",
    "steps",
    "highest loss",
    "initial sharpness",
    "final sharpness",
    "rate x final sharpness",
)


class StudyResult(NamedTuple):
    """All results of the study.

    Attributes:
      width: the width of the linear networks.
      steps: the number of their training steps.
      constant: curves with a constant learning rate, by learning rate x initial sharpness.
      warmup: curves with a warmup, by final learning rate x initial sharpness.
      relu: the ReLU networks.
    """

    width: int
    steps: int
    constant: Mapping[float, TrainingCurves]
    warmup: Mapping[float, TrainingCurves]
    relu: ReluResult


def make_results(result: StudyResult) -> runner.Results:
    """Returns the table and the notes."""
    rows = [_row("constant rate", multiple, curves) for multiple, curves in result.constant.items()]
    rows += [
        _row("catapult warmup", multiple, curves) for multiple, curves in result.warmup.items()
    ]
    rows += [_relu_row(result.relu, i) for i in rows_near_limit(result.relu.converged)]
    values = {
        f"{name} {multiple:g}": {
            "converged": curves.converged,
            "steps": curves.steps,
            "initial_sharpness": curves.sharpnesses[:, 0],
            "final_sharpness": curves.sharpnesses[:, -1],
            "learning_rates": curves.learning_rates,
            "warmup_starts": curves.warmup_starts,
        }
        for name, by_multiple in (("constant", result.constant), ("warmup", result.warmup))
        for multiple, curves in by_multiple.items()
    }
    values["ReLU"] = {
        "multiples": result.relu.multiples,
        "converged": result.relu.converged.sum(1),
    }
    return runner.Results("Catapults", COLUMNS, rows, _notes(result), values, _verdict(result))


def _verdict(result: StudyResult) -> str:
    """Returns the prediction's agreement and the largest learning rates that converge."""
    constant, relu = result.constant, result.relu
    agree = sum(_as_predicted(multiple, curves) for multiple, curves in constant.items())
    warmup = [(multiple, curves.converged) for multiple, curves in result.warmup.items()]
    reached = [multiple for multiple, converged in warmup if converged.all()]
    largest = f"{max(reached):g}" if reached else "not a single multiple"
    every = relu.multiples[: _count_leading(relu.converged.all(1))]
    limit = (
        f"All seeds of ReLU networks converge up to {every[-1]:g} / sharpness"
        if len(every)
        else f"Not all seeds of ReLU networks converge at {relu.multiples[0]:g} / sharpness"
    )
    return (
        f"Linear networks converge or diverge as predicted at {agree} of {len(constant)} learning "
        f"rates around the limit of 4 / sharpness. After a warmup all seeds converge at up to "
        f"{largest} / sharpness, of {max(multiple for multiple, _ in warmup):g} tried. {limit}; "
        "the published limit is about 12."
    )


def _as_predicted(multiple: float, curves: TrainingCurves) -> bool:
    return bool(np.all(curves.converged == PREDICTED[multiple]))


def _notes(result: StudyResult) -> list[str]:
    steps = np.concatenate([curves.steps for curves in result.constant.values()])
    slowest = steps[np.isfinite(steps)].max(initial=0)
    unexpected = [
        f"{multiple:g} ({curves.converged.sum()} of {len(curves.converged)} converge)"
        for multiple, curves in result.constant.items()
        if not _as_predicted(multiple, curves)
    ]
    prediction = "all seeds converge at 1.5, 2.2, 3.0 and 3.8, and not a single one at 4.5"
    start = np.concatenate(
        [curves.warmup_starts * curves.sharpnesses[:, 0] for curves in result.warmup.values()]
    )
    return [
        '"rate x sharpness" is the learning rate, or the final learning rate of the warmup, times '
        "the initial sharpness. "
        f"Linear networks of width {result.width:,} are trained for {result.steps:,} steps. A run "
        f"converges if its final loss is below {CONVERGED:g} of the initial loss. The slowest "
        f"converging run with a constant rate needs {slowest:,.0f} steps: a catapult can end "
        "where the loss is flat. Other columns are medians over the converging seeds, or over all "
        "seeds if not a single one converges.",
        f"The results agree with the prediction: {prediction}."
        if not unexpected
        else f"The prediction is: {prediction}. The results differ at {', '.join(unexpected)}.",
        f"The warmup's search finds an initial rate from {start.min():.3f} to {start.max():.3f} "
        "times 1 / sharpness. To second order, rates above 2 / sharpness raise the loss; constant "
        "rates above 4 / sharpness diverge. From there the warmup increases the rate to the value "
        f"in the table, at a slope that would reach it from 0 in {WARMUP_STEPS} steps.",
        f"ReLU networks have two hidden layers and are trained on {RELU_EXAMPLES} examples. A run "
        f"converges if its final loss is below {RELU_CONVERGED:g} of the initial loss. Their "
        f"sharpness is the top eigenvalue of the Gauss-Newton matrix. {_relu_limits(result.relu)} "
        "The published limit for ReLU networks is about 12.",
    ]


def _relu_limits(relu: ReluResult) -> str:
    multiples = relu.multiples
    every = multiples[: _count_leading(relu.converged.all(1))]
    some = multiples[relu.converged.any(1)]
    all_seeds = (
        f"All seeds converge at all multiples of 1 / sharpness from {every[0]:g} to {every[-1]:g}"
        if len(every)
        else f"Not all seeds converge at the smallest multiple of 1 / sharpness, {multiples[0]:g}"
    )
    some_seeds = f"some converge up to {some[-1]:g}" if len(some) else "not a single one at any"
    return f"{all_seeds}, and {some_seeds}; the largest multiple tested is {multiples[-1]:g}."


def _count_leading(flags: Any) -> int:
    """Returns the number of flags that are True before the first that is False."""
    return int(np.cumprod(flags).sum())


def rows_near_limit(converged: np.ndarray) -> Sequence[int]:
    """Returns the multiples to show, given bool[multiples, seeds].

    They are the last one up to which all seeds converge, the last at which any seed converges,
    and the next.
    """
    every = _count_leading(converged.all(1))
    some = np.flatnonzero(converged.any(1))
    last = int(some[-1]) if len(some) else 0
    return sorted({max(every - 1, 0), last, min(last + 1, len(converged) - 1)})


def _row(name: str, multiple: float, curves: TrainingCurves) -> tuple[str, ...]:
    kept = _converged_or_all(curves.converged)

    def median(x: np.ndarray) -> float:
        return float(np.median(x[kept]))

    final = curves.sharpnesses[:, -1]
    return (
        name,
        f"{multiple:.1f}",
        f"{curves.converged.sum()} of {len(curves.converged)}",
        _number(median(curves.steps), ".0f"),
        _number(median(curves.losses.max(1)), ".3g"),
        _number(median(curves.sharpnesses[:, 0]), ".3f"),
        _number(median(final), ".3f"),
        _number(median(curves.learning_rates * final), ".2f"),
    )


def _relu_row(relu: ReluResult, index: int) -> tuple[str, ...]:
    multiple, converged = float(relu.multiples[index]), relu.converged[index]
    kept = _converged_or_all(converged)
    initial, final = relu.initial_sharpness[index][kept], relu.final_sharpness[index][kept]
    return (
        "ReLU network",
        f"{multiple:.1f}",
        f"{converged.sum()} of {len(converged)}",
        "",
        "",
        _number(float(np.median(initial)), ".3f"),
        _number(float(np.median(final)), ".3f"),
        _number(float(np.median(multiple * final / initial)), ".2f"),
    )


def _converged_or_all(converged: np.ndarray) -> np.ndarray:
    return converged if converged.any() else np.ones(len(converged), bool)


def _number(x: float, form: str) -> str:
    return format(x, form) if np.isfinite(x) else "-"


def draw(result: StudyResult) -> Figure:
    """Plots losses, rate x sharpness, and the fraction of ReLU networks that converge."""
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    losses, sharpnesses, fraction = figure.subplots(1, 3)
    colors = ("#2e86c1", "#1e8449", "#ca8a04", "#ca6f1e", "#922b21")
    for color, (multiple, curves) in zip(colors, result.constant.items(), strict=True):
        _plot_seeds(losses, np.clip(curves.losses, 1e-12, 1e9), color, f"{multiple:g}")
        rate_sharpness = curves.learning_rates[:, None] * curves.sharpnesses
        _plot_seeds(sharpnesses, rate_sharpness, color, None)
    losses.set(yscale="log", ylim=(1e-10, 1e6), xlabel="step", ylabel="loss", xlim=(0, 80))
    losses.set_title("linear network: loss of each seed", fontsize=10)
    legend = losses.legend(title="rate x sharpness", fontsize=8, title_fontsize=8)
    for handle in legend.get_lines():
        handle.set(alpha=1, linewidth=2)
    for height in (2, 4):
        sharpnesses.axhline(height, color="#888888", linestyle=":", linewidth=1)
    sharpnesses.set(ylim=(0, 5), xlim=(0, 80), xlabel="step", ylabel="rate x sharpness")
    sharpnesses.set_title("linear network: sharpness of each seed", fontsize=10)
    relu = result.relu
    fraction.plot(relu.multiples, relu.converged.mean(1), "o-", color="#222222", markersize=4)
    for place, label in ((4, "4: linear"), (12, "12: ReLU, published")):
        fraction.axvline(place, color="#888888", linestyle=":", linewidth=1)
        fraction.annotate(label, (place, 0.5), rotation=90, fontsize=8, ha="right", va="center")
    fraction.set(xlabel="rate x initial sharpness", ylabel="fraction of seeds that converge")
    fraction.set_title("ReLU network", fontsize=10)
    for panel in (losses, sharpnesses, fraction):
        panel.grid(alpha=0.25)
    return figure


def _plot_seeds(panel: Axes, values: np.ndarray, color: str, label: str | None) -> None:
    for i, curve in enumerate(values[:10, :100]):
        finite = np.where(np.isfinite(curve), curve, np.nan)
        panel.plot(finite, color=color, linewidth=0.9, alpha=0.6, label=label if i == 0 else None)
