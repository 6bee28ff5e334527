"""Our table beside the paper's, with notes on how far they agree."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import runner
from experiments.studies.gdtuo_table import published
from experiments.studies.gdtuo_table.published import Published
from experiments.studies.gdtuo_table.training import (
    EpochHistory,
    ImageTask,
    RowHistories,
    TableRow,
)

EXAMPLE_EPOCHS = 5  # of the example in the package's README


def standard_error(errors: np.ndarray) -> float:
    """Returns the standard error of the mean over seeds."""
    return float(errors.std(ddof=1) / np.sqrt(len(errors)))


def deviation(errors: np.ndarray, published: Published, *, runs: int = 1) -> float:
    """Returns our mean minus the published one, in joint standard errors.

    Args:
      errors: `f32[seeds]`.
      published: the mean and its spread.
      runs: 1 if the spread is a standard error; otherwise it is the standard deviation of this
        number of runs.

    Example:
      >>> round(deviation(np.array([5.0, 6.0, 7.0]), Published(4.0, 0.0)), 3)
      3.464
    """
    joint = np.hypot(standard_error(errors), published.spread / np.sqrt(runs))
    return float((errors.mean() - published.error) / joint) if joint else float("inf")


def results(task: ImageTask, histories: RowHistories) -> runner.Results:
    """Returns the table, the notes and the numbers; on MNIST beside the paper's."""
    on_mnist, verdict = task.name == "mnist", _verdict(histories)
    epochs, seeds = histories[0][1].errors.shape
    notes = [
        f"{task.name}: {task.source}",
        f"Network {task.train.inputs.shape[1]}-{task.hidden}-10 with tanh after both layers, "
        f"batches of {task.batch_size}, {epochs} epochs, {seeds} seeds. Test errors are in percent "
        "after the given epoch, which may not be the best, with the standard error of the mean "
        "over seeds. Learned values are means over seeds.",
        "(x): the plain rule, with the hyperparameters that the tower learned"
        + (" in the paper" if on_mnist else " here")
        + " as fixed ones. A/B(r): rule A, whose hyperparameters are learned by rule B with "
        "learning rate r. ^a: only the learning rate is learned; ^a,g: also the decay gamma.",
    ]
    if not on_mnist:
        notes.append("The data is not the paper's: its numbers cannot be compared with these.")
        columns = ("row", "test error %", "learned")
        rows = [
            (row.name, _error(history.errors[-1]), _format(history.learned_after(-1)))
            for row, history in histories
        ]
        title = "Table 1 on the digits"
        return runner.Results(title, columns, rows, notes, _values(histories), verdict)
    rows = [_cells_beside_the_paper(row, history) for row, history in histories]
    compared = compared_epochs(epochs)
    columns = ["row", "paper %", *(f"{e} epochs %, deviation" for e in compared)]
    columns += ["within two", "paper learned", *(f"learned in {e}" for e in compared)]
    notes += _notes_on_the_paper(histories)
    verdict = f"{_agreement(histories)} {verdict}"
    title = "Table 1 of the paper"
    return runner.Results(title, columns, rows, notes, _values(histories), verdict)


def _verdict(histories: RowHistories) -> str:
    """Returns how the towers and self-tuning compare with plain rules, by their test errors."""
    errors = {row.name: history.errors[-1].mean() for row, history in histories}
    towers = [each for each in published.ROWS if each.learned and each.base in errors]
    bases = {each.name: each.base for each in towers}
    lower = sum(errors[name] < errors[base] for name, base in bases.items())
    again = sum(errors[f"{name} (x)"] < errors[base] for name, base in bases.items())
    best = min(errors, key=errors.__getitem__)
    tuned = ", ".join(f"{n} {errors[n]:.2f}%" for n in errors if n.startswith("self-tuning"))
    return (
        f"Of {len(bases)} towers, {lower} have a lower test error than their plain rule with its "
        f"default hyperparameters, and so have {again} of the plain rules with the hyperparameters "
        "that the towers learned. The lowest "
        f"error is {errors[best]:.2f}% ({best}); {tuned}."
    )


def _agreement(histories: RowHistories) -> str:
    """Returns how many rows agree with the paper."""
    epochs = len(histories[0][1].errors)
    pairs = [(row.published, history.errors) for row, history in histories if row.published]
    counts = [
        f"{sum(abs(deviation(errors[e - 1], printed)) <= 2 for printed, errors in pairs)} after {e}"
        for e in compared_epochs(epochs)
    ]
    return (
        f"Of {len(pairs)} rows of the paper, within two joint standard errors are "
        f"{' and '.join(counts)} epochs."
    )


def compared_epochs(epochs: int) -> list[int]:
    """Returns the numbers of epochs after which rows are compared with the paper."""
    return [epochs, EXAMPLE_EPOCHS] if epochs > EXAMPLE_EPOCHS else [epochs]


def _notes_on_the_paper(histories: RowHistories) -> list[str]:
    epochs = len(histories[0][1].errors)
    pairs = [(row.published, history.errors) for row, history in histories if row.published]

    def within_two(epoch: int, runs: int) -> np.ndarray:
        found = [deviation(errors[epoch - 1], printed, runs=runs) for printed, errors in pairs]
        return np.abs(found) <= 2

    compared = compared_epochs(epochs)
    counts = [
        f"{within_two(e, 1).sum()} after {e} epochs ({within_two(e, 3).sum()})" for e in compared
    ]
    either = [np.any([within_two(e, runs) for e in compared], axis=0).sum() for runs in (1, 3)]
    return [
        "Deviation: our error minus the paper's, in units of the joint standard error, if the "
        "number after ± in the paper is a standard error. Number of rows within two joint standard "
        f"errors, of {len(pairs)}: {', '.join(counts)}, {either[0]} after one or the other "
        f"({either[1]}). Numbers in parentheses assume that the number after ± is the standard "
        "deviation of the paper's three runs. With standard errors of three runs each, chance "
        "alone puts one row in nine outside.",
        f"The paper says 30 epochs; the example in the package's README trains for "
        f"{EXAMPLE_EPOCHS}.",
        "Without a number r, the top rule has the package's default learning rate, 0.01, or 0.001 "
        "for Adam. The paper prints learned values "
        "with four decimals, and rows marked (x) use these.",
    ]


def _cells_beside_the_paper(row: TableRow, history: EpochHistory) -> tuple[str, ...]:
    compared = compared_epochs(len(history.errors))
    errors = [history.errors[epoch - 1] for epoch in compared]
    learned = [
        _format(history.learned_after(epoch - 1)) if row.learns else "-" for epoch in compared
    ]
    if row.published is None:
        return row.name, "-", *map(_error, errors), "-", "-", *learned
    deviations = [deviation(each, row.published) for each in errors]
    within = [f"in {e}" for e, far in zip(compared, deviations, strict=True) if abs(far) <= 2]
    return (
        row.name,
        f"{row.published.error:.2f} ± {row.published.spread:.2f}",
        *(f"{_error(each)}, {far:+.1f}" for each, far in zip(errors, deviations, strict=True)),
        " and ".join(within) or "no",
        _format(row.paper_learned) if row.paper_learned else "-",
        *learned,
    )


def _error(errors: np.ndarray) -> str:
    return f"{errors.mean():.2f} ± {standard_error(errors):.2f}"


def _format(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.4f}".removeprefix("0") for value in values.values())


def _values(histories: RowHistories) -> dict[str, Any]:
    return {
        row.name: {
            "error": history.errors[-1],
            "error_by_epoch": history.errors.mean(1),
            "loss": history.losses[-1],
            "learned": {name: values[-1] for name, values in history.learned.items()},
            "published": row.published._asdict() if row.published else None,
            "paper_learned": row.paper_learned,
        }
        for row, history in histories
    }
