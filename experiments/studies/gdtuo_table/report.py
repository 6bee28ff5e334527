"""What the lines came to, beside what the paper prints."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import runner
from experiments.studies.gdtuo_table.published import Published
from experiments.studies.gdtuo_table.training import Line, Outcome, Outcomes, Task

EXAMPLE_EPOCHS = 5  # of the package's README


def standard_error(errors: np.ndarray) -> float:
    """Of the mean over seeds."""
    return float(errors.std(ddof=1) / np.sqrt(len(errors)))


def deviation(errors: np.ndarray, published: Published, *, runs: int = 1) -> float:
    """How far the mean is from the published one, in joint standard errors.

    Args:
      errors: f32[seeds].
      published: the mean, and its standard error; or, with `runs`, the standard deviation
        of so many runs.
      runs: 1 if the paper's ± is a standard error.

    Example:
      >>> round(deviation(np.array([5.0, 6.0, 7.0]), Published(4.0, 0.0)), 3)
      3.464
    """
    joint = np.hypot(standard_error(errors), published.spread / np.sqrt(runs))
    return float((errors.mean() - published.error) / joint) if joint else float("inf")


def results(task: Task, outcomes: Outcomes) -> runner.Results:
    """The table and its notes; beside the paper's numbers if the data is the paper's."""
    on_mnist = task.name == "mnist"
    epochs, seeds = outcomes[0][1].errors.shape
    notes = [
        f"{task.name}: {task.source}",
        f"{task.train.inputs.shape[1]}-{task.hidden}-10, tanh after both layers, batches of "
        f"{task.batch_size}, {epochs} epochs, {seeds} seeds. Test errors in percent, as "
        "they are after an epoch and not the best of them, with standard errors of the mean over "
        "seeds; learned values are means over seeds.",
        "(x): the plain rule, with its values fixed at what the tower learned"
        + (" in the paper." if on_mnist else " here."),
    ]
    if not on_mnist:
        notes.append("Not the paper's data: its numbers are not for comparison with these.")
        columns = ("line", "test error %", "learned")
        rows = [
            (line.name, _error(outcome.errors[-1]), _shown(outcome.learned_after(-1)))
            for line, outcome in outcomes
        ]
        return runner.Results("Table 1 on the digits", columns, rows, notes, _values(outcomes))
    rows = [_beside_the_paper(line, outcome) for line, outcome in outcomes]
    after = _compared(epochs)
    columns = ["line", "paper %", *(f"{e} epochs %, apart" for e in after), "within two"]
    columns += ["paper learned", *(f"learned in {e}" for e in after)]
    notes += _notes_on_the_paper(outcomes)
    return runner.Results("Table 1 of the paper", columns, rows, notes, _values(outcomes))


def _compared(epochs: int) -> list[int]:
    """After how many epochs a line is compared with the paper."""
    return [epochs, EXAMPLE_EPOCHS] if epochs > EXAMPLE_EPOCHS else [epochs]


def _notes_on_the_paper(outcomes: Outcomes) -> list[str]:
    epochs = len(outcomes[0][1].errors)
    pairs = [(line.published, outcome.errors) for line, outcome in outcomes if line.published]

    def within(epoch: int, runs: int) -> np.ndarray:
        found = [deviation(errors[epoch - 1], known, runs=runs) for known, errors in pairs]
        return np.abs(found) <= 2

    after = _compared(epochs)
    counts = [f"{within(e, 1).sum()} after {e} epochs ({within(e, 3).sum()})" for e in after]
    either = [np.any([within(e, runs) for e in after], axis=0).sum() for runs in (1, 3)]
    return [
        "Apart: ours less the paper's, in joint standard errors, if what the paper prints behind "
        f"its ± is one. Within two of them, of {len(pairs)} lines: {', '.join(counts)}, "
        f"{either[0]} after one or the other ({either[1]}); in brackets, if it is "
        "the standard deviation of its three runs instead. With standard errors of three runs "
        "each, chance alone puts one line in nine outside.",
        f"The paper says 30 epochs; {EXAMPLE_EPOCHS} are those of the example in the package's "
        "README.",
        "The number behind a tower's topmost rule is that rule's rate. Where there is none the "
        "package's default is taken, 0.01, or 0.001 for Adam. The paper prints what it learned "
        "in four decimals, and (x) has no more of them.",
    ]


def _beside_the_paper(line: Line, outcome: Outcome) -> tuple[str, ...]:
    after = _compared(len(outcome.errors))
    errors = [outcome.errors[epoch - 1] for epoch in after]
    tower = not line.structure.startswith("fixed")
    learned = [_shown(outcome.learned_after(epoch - 1)) if tower else "-" for epoch in after]
    if line.published is None:
        return line.name, "-", *map(_error, errors), "-", "-", *learned
    apart = [deviation(each, line.published) for each in errors]
    within = [f"in {epoch}" for epoch, far in zip(after, apart, strict=True) if abs(far) <= 2]
    return (
        line.name,
        f"{line.published.error:.2f} ± {line.published.spread:.2f}",
        *(f"{_error(each)}, {far:+.1f}" for each, far in zip(errors, apart, strict=True)),
        " and ".join(within) or "no",
        _shown(line.paper_learned) if line.paper_learned else "-",
        *learned,
    )


def _error(errors: np.ndarray) -> str:
    return f"{errors.mean():.2f} ± {standard_error(errors):.2f}"


def _shown(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.4f}".removeprefix("0") for value in values.values())


def _values(outcomes: Outcomes) -> dict[str, Any]:
    return {
        line.name: {
            "error": outcome.errors[-1],
            "error_by_epoch": outcome.errors.mean(1),
            "loss": outcome.losses[-1],
            "learned": {name: values[-1] for name, values in outcome.learned.items()},
            "published": line.published._asdict() if line.published else None,
            "paper_learned": line.paper_learned,
        }
        for line, outcome in outcomes
    }


def draw(outcomes: Outcomes) -> Figure:
    """Test errors, ours in blue and the paper's in black, a line each."""
    figure = Figure(figsize=(8, 0.3 * len(outcomes) + 1.2), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(outcomes))
    after = _compared(len(outcomes[0][1].errors))
    for epochs, color, shift in zip(after, ("#2e86c1", "#a9cce3"), (0.15, 0.3), strict=False):
        errors = [outcome.errors[epochs - 1] for _, outcome in outcomes]
        axis.errorbar(
            [each.mean() for each in errors],
            places + shift,
            xerr=[2 * standard_error(each) for each in errors],
            fmt="o",
            color=color,
            markersize=4,
            label=f"here after {epochs} epochs, two standard errors",
        )
    known = [(place, line.published) for place, (line, _) in enumerate(outcomes) if line.published]
    if known:
        axis.errorbar(
            [published.error for _, published in known],
            [place - 0.15 for place, _ in known],
            xerr=[2 * published.spread for _, published in known],
            fmt="s",
            color="#222222",
            markersize=4,
            label="paper, twice its ±",
        )
    axis.set(xlabel="test error %", xscale="log")
    ticks = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100]
    low, high = axis.get_xlim()
    axis.set_xticks([tick for tick in ticks if low <= tick <= high])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_yticks(places, [line.name for line, _ in outcomes], fontsize=8)
    axis.set_ylim(len(outcomes) - 0.4, -0.6)
    axis.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure
