"""The table, notes and figure of the clipping study."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import runner
from experiments.studies.clipping.cosh import StepCounts
from experiments.studies.clipping.noisy import (
    ADAPTIVE,
    COORDINATE,
    GLOBAL_NORM,
    GROWING_NORM,
    NO_CLIPPING,
    Noise,
    clippings,
)
from experiments.studies.clipping.settings import DIMENSIONS, TARGET_SLOPE, THRESHOLD
from experiments.studies.clipping.theory import (
    Fit,
    PredictedExponents,
    clipping_bias,
    fit_exponent,
    growing_norm_loss,
    predict_exponents,
)

COLUMNS = (
    "noise",
    "clipping",
    "mean loss",
    "median loss",
    "largest loss",
    "exponent of the mean (95%)",
    "theory",
    "exponent of the median (95%)",
    "theory",
)
STYLES = {
    NO_CLIPPING: ("#222222", "-"),
    GROWING_NORM: ("#2e86c1", "-"),
    GLOBAL_NORM: ("#1e8449", "-"),
    COORDINATE: ("#ca8a04", "-"),
    ADAPTIVE: ("#922b21", "--"),
}
TOLERANCE = 0.05  # for exponents, beyond their 95% interval


class StudyResult(NamedTuple):
    """All results of the study.

    Attributes:
      grid: i64[grid], the numbers of steps T.
      losses: f64[methods, grid, seeds] by noise; methods as in `clippings`.
      cosh: the numbers of steps on cosh.
    """

    grid: np.ndarray
    losses: Mapping[Noise, np.ndarray]
    cosh: Sequence[StepCounts]

    def losses_of(self, noise: Noise, clipping: str) -> np.ndarray:
        """Returns the losses of one method, f64[grid, seeds]."""
        return self.losses[noise][[*clippings(noise.p)].index(clipping)]


class SeriesSummary(NamedTuple):
    """Summary of one method under one noise.

    Attributes:
      noise: the noise.
      clipping: the name of the clipping.
      losses: f64[grid, seeds].
      mean, median: the fitted exponents of the mean and the median loss.
      predicted: the exponents that theory predicts.
    """

    noise: Noise
    clipping: str
    losses: np.ndarray
    mean: Fit
    median: Fit
    predicted: PredictedExponents


def make_results(result: StudyResult) -> runner.Results:
    """Returns the table and the notes."""
    summaries = [
        _summarize(result, noise, clipping)
        for noise in result.losses
        for clipping in clippings(noise.p)
    ]
    values: dict[str, Any] = {noise.name: {} for noise in result.losses}
    for each in summaries:
        values[each.noise.name][each.clipping] = {
            "mean": each.losses.mean(1),
            "median": np.median(each.losses, 1),
            "exponent": each.mean,
            "median_exponent": each.median,
        }
    values["cosh"] = [each._asdict() for each in result.cosh]
    rows = [_row(each) for each in summaries]
    notes, verdict = _notes(result, summaries), _verdict(result, summaries)
    return runner.Results("Clipping", COLUMNS, rows, notes, values, verdict)


def _verdict(result: StudyResult, summaries: Sequence[SeriesSummary]) -> str:
    """Returns where clipping helps, as theory says, and where it harms."""
    compared = [each for each in summaries if _has_theory(each)]
    agree = sum(not _deviations(each) for each in compared)
    skewed = next(noise for noise in result.losses if noise.skewed)
    constant, without = (
        np.median(result.losses_of(skewed, name)[-1]) for name in (COORDINATE, NO_CLIPPING)
    )
    savings = [each.constant / each.clipped for each in result.cosh]
    return (
        "Without clipping the mean loss under heavy-tailed noise is infinite; with clipping it "
        f"falls at the rate of the theory in {agree} of {len(compared)} rows. Under skewed noise a "
        f"constant threshold {'harms' if constant > without else 'does no harm'}: the median loss "
        f"is {constant:.2g} with it, {without:.2g} without clipping. Without noise, on cosh, the "
        f"best constant step size takes {min(savings):.3g} to {max(savings):.3g} times the steps "
        "that clipping takes."
    )


def _summarize(result: StudyResult, noise: Noise, clipping: str) -> SeriesSummary:
    losses = result.losses_of(noise, clipping)
    return SeriesSummary(
        noise,
        clipping,
        losses,
        fit_exponent(losses, result.grid, np.mean),
        fit_exponent(losses, result.grid, np.median),
        predict_exponents(noise, clipping, result.grid),
    )


def _row(each: SeriesSummary) -> tuple[str, ...]:
    final, predicted = each.losses[-1], each.predicted
    return (
        each.noise.name,
        each.clipping,
        f"{final.mean():.2e}",
        f"{np.median(final):.2e}",
        f"{final.max():.1e}",
        _interval(each.mean) if each.clipping != NO_CLIPPING else "no mean",
        _exponent(predicted.mean, predicted.finite_mean),
        _interval(each.median),
        _exponent(predicted.median),
    )


def _interval(fit: Fit) -> str:
    return f"{fit.exponent:.2f} ({fit.low:.2f} .. {fit.high:.2f})"


def _exponent(limit: float | None, finite: float | None = None) -> str:
    if limit is None:
        return "-"
    if finite is not None:
        return f"{finite:.2f} -> {limit:.2f}"
    return f"{limit:.2f}" if np.isfinite(limit) else "no mean"


def _has_theory(each: SeriesSummary) -> bool:
    return each.predicted.mean is not None and bool(np.isfinite(each.predicted.mean))


def _deviations(each: SeriesSummary) -> list[str]:
    """Returns the predictions from which the exponent of the mean differs, with the difference."""
    mean, predicted = each.mean, each.predicted
    found = []
    for value, name in ((predicted.mean, "the limit"), (predicted.finite_mean, "these T")):
        if value is not None and not mean.low - TOLERANCE <= value <= mean.high + TOLERANCE:
            difference = f"{mean.exponent - value:+.2f} from theory for {name}"
            found.append(f"{each.noise.name}, {each.clipping} ({difference})")
    return found


def _notes(result: StudyResult, summaries: Sequence[SeriesSummary]) -> list[str]:
    grid = result.grid
    seeds = next(iter(result.losses.values())).shape[-1]
    skewed = next(noise for noise in result.losses if noise.skewed)
    biased_loss = DIMENSIONS * clipping_bias(skewed, THRESHOLD) ** 2 / 2
    measured = np.median(result.losses_of(skewed, COORDINATE)[-1])
    unclipped = np.median(result.losses_of(skewed, NO_CLIPPING)[-1])
    ratios = []
    for noise in result.losses:
        if noise.p > 1 and not noise.skewed:
            mean = result.losses_of(noise, GROWING_NORM)[-1].mean()
            predicted = growing_norm_loss(noise.p, grid)[-1]
            ratios.append(f"{mean / predicted:.2f} at p = {noise.p:g}")
    deviations = [text for each in summaries if _has_theory(each) for text in _deviations(each)]
    counts = ", ".join(
        f"{each.constant:,} against {each.clipped:,} from {each.start:g}" for each in result.cosh
    )
    return [
        f'The clipping functions are optax\'s; "{GROWING_NORM}" clips the gradient norm at '
        f"t^(1/p) in step t. Losses are taken after T = {grid[-1]:,} steps, for {seeds:,} seeds in "
        f"{DIMENSIONS} dimensions. Exponents of T are fitted from {grid[0]:,} to {grid[-1]:,} "
        "steps, with intervals by resampling seeds. Without clipping the mean loss is infinite; "
        "the table shows the sample mean. The parameters are a single vector, for which "
        "clip_by_block_rms equals clip_by_global_norm.",
        "Rows whose 95% interval for the exponent of the mean is more than "
        f"{TOLERANCE:g} away from theory: "
        f"{'; '.join(deviations) or 'not a single row'}.",
        f'Measured over predicted mean losses for "{GROWING_NORM}": {", ".join(ratios)}. The '
        "prediction uses the exact variance of clipped noise, which grows slowly near p = 2. The "
        "theory column shows the exponent of this prediction over these T, then its limit.",
        f'Theory: the exponent for "{GROWING_NORM}" is the published one, which needs p > 1. Under '
        "symmetric noise a constant threshold gives a finite variance without bias, hence 1 / T. "
        "Without clipping the width of the average is T^(1/p - 1), so the median loss decreases "
        "as fast as the mean loss with clipping; at p = 1 it does not decrease.",
        f"Where clipping is worse: under skewed noise a constant threshold of {THRESHOLD:g} per "
        f"coordinate ends at a median loss of {measured:.4f}. Theory predicts {biased_loss:.4f}, "
        "the loss at the point where the mean of the clipped gradient is 0. Without clipping the "
        f"median loss is {unclipped:.1e} and still decreases.",
        f"Without noise, on cosh: the number of steps to a slope of {TARGET_SLOPE:g} with the best "
        "of 20 constant step sizes against min(1, 1 / slope), which is optax's "
        f"clip_by_global_norm(1); the maximum over ten starts: {counts}.",
    ]


def draw(result: StudyResult) -> Figure:
    """Plots mean losses against steps, a panel for each noise, with the predicted loss."""
    figure = Figure(figsize=(3.1 * len(result.losses), 4.8), layout="constrained")
    panels = figure.subplots(1, len(result.losses), sharey=True)
    for panel, noise in zip(panels, result.losses, strict=True):
        _draw_noise(panel, result, noise)
    panels[0].set_ylabel("mean loss over seeds")
    figure.legend(
        *panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8
    )
    return figure


def _draw_noise(panel: Axes, result: StudyResult, noise: Noise) -> None:
    grid = result.grid
    for clipping, (color, style) in STYLES.items():
        losses = result.losses_of(noise, clipping)
        panel.plot(grid, losses.mean(1), style, color=color, linewidth=1.6, label=clipping)
        if clipping == NO_CLIPPING:
            label = f"{NO_CLIPPING}, median"
            panel.plot(grid, np.median(losses, 1), ":", color=color, linewidth=1.6, label=label)
    if noise.p > 1 and not noise.skewed:
        predicted = growing_norm_loss(noise.p, grid)
        label = f"{GROWING_NORM}, predicted"
        panel.plot(grid, predicted, "o", color="#85c1e9", markersize=4, label=label)
    panel.set(xscale="log", yscale="log", xlabel="steps T", ylim=(1e-5, 1e5))
    panel.set_title(f"{noise.name} noise", fontsize=10)
    panel.grid(alpha=0.25)
