"""The table of the sensitivity study, with its notes."""

from collections.abc import Sequence

import numpy as np

from experiments import runner
from experiments.studies.sensitivity.published_towers import (
    MIN_LOSS,
    SELF_TUNING,
    PublishedTowers,
    tower_name,
)
from experiments.studies.sensitivity.settings import HARMLESS, MEAN, ROBUST, Settings
from experiments.studies.sensitivity.sweeps import StartSweep, Summary, summarize
from experiments.tuning.trials import format_loss, notes_on_grid_ends
from experiments.tuning.workloads import WINDOWS

COLUMNS = (
    "task",
    "optimizer",
    "group",
    "kind",
    "best fixed rate",
    "its loss",
    "averaged",
    "worst",
    "median",
    "best",
    "mean",
    "worst start",
    "learned rates",
    "worst holds",
    "from best rate",
    "that holds",
    "worst, last",
    "median, last",
    "training",
    "solved",
)


def results(
    settings: Settings,
    sweeps: Sequence[StartSweep],
    published: PublishedTowers,
    skipped: Sequence[str],
) -> runner.Results:
    """Returns the table, the notes and the numbers.

    Args:
      settings: of the study.
      sweeps: in the order of the table.
      published: the trials of the published towers.
      skipped: a sentence for each workload that is skipped.
    """
    rows = [(sweep, summarize(sweep)) for sweep in sweeps]
    notes = [
        *verdicts(rows),
        *notes_on_solved(rows),
        *skipped,
        *notes_on_grid_ends([(title(sweep), sweep.grid) for sweep in sweeps]),
        "Constants of jd.self_tuning may be chosen on the tasks of the group 'development' only, "
        "which the registry of tasks named beforehand. The others are only reported.",
        f"Losses of stationary tasks are means over all held-out examples ({WINDOWS} windows of a "
        "text), or expected values, after the same number of steps. Losses of nonstationary tasks "
        "are means over the second half of the steps, measured during training. All are means over "
        f"{settings.seeds} seeds or more. The best fixed learning rate is chosen by the same "
        "losses, which favors it over self-tuning. Nothing else is chosen by them.",
        "All other losses are relative to the loss of the best fixed learning rate. Fixed learning "
        "rates are evaluated at their last parameters. 'averaged' is the lowest loss of the fixed "
        "learning rates if they are evaluated at the average of their parameters.",
        "The initial learning rate of self-tuning is a guess: its range test begins at a tenth "
        "of it, but not above 1e-9. So initial learning rates from 1e-8 on give equal results.",
        "'worst', 'median', 'best' and 'mean', the geometric mean, are losses of self-tuning over "
        "its initial learning rates, evaluated at the average of its parameters; 'last' means at "
        "its last parameters. 'worst start' is the initial learning rate with the worst loss; "
        "'learned rates' are the least and the greatest final learning rate. 'from best rate' is "
        "the loss of self-tuning that starts at the best fixed learning rate.",
        "'training' is the median training loss of self-tuning in the last tenth of the steps, "
        "relative to the training loss of the best fixed learning rate.",
        f"'worst holds' says if 'worst' is at most {ROBUST['stationary']} (nonstationary tasks: "
        f"{ROBUST['nonstationary']}), 'that holds' if 'from best rate' is at most "
        f"{HARMLESS['stationary']} ({HARMLESS['nonstationary']}). 'solved' counts the networks "
        "whose loss is below a limit that the task has, from the initial learning rate with the "
        "fewest.",
        "The right panel of the figure shows plain SGD whose learning rate is learned by SGD, on "
        f"the {published.workload.title} (on the logits too, so that the least possible loss is "
        f"{MIN_LOSS:.3f}). Learning rates are unconstrained. Every level starts at the learning "
        "rate on the horizontal axis.",
    ]
    values = {
        title(sweep): {
            **summary._asdict(),
            "group": sweep.workload.group,
            "kind": sweep.workload.kind,
            "starts": sweep.starts,
            "self_tuned": [result._asdict() for result in sweep.self_tuned],
            "fixed_rates": sweep.grid.rates,
            "fixed": [result._asdict() for result in sweep.grid.results],
            "from_best_fixed": sweep.from_best_rate._asdict(),
        }
        for sweep, summary in rows
    }
    names = [*map(tower_name, published.heights), SELF_TUNING]
    trials = [*published.towers, published.self_tuned]
    values["published"] = {
        name: {"starts": published.starts, "losses": [trial.losses for trial in of_name]}
        for name, of_name in zip(names, trials, strict=True)
    }
    cells = [_cells(sweep, summary) for sweep, summary in rows]
    name = "Sensitivity to the initial learning rate"
    return runner.Results(name, COLUMNS, cells, notes, values, verdict(rows))


def title(sweep: StartSweep) -> str:
    """Returns the name of a sweep in tables and notes."""
    return f"{sweep.workload.title}, {sweep.optimizer}"


Row = tuple[StartSweep, Summary]


def verdict(rows: Sequence[Row]) -> str:
    """Returns the verdict on all tasks in one sentence; "" without tasks."""
    if not rows:
        return ""
    held = sum(bool(summary.worst <= ROBUST[sweep.workload.kind]) for sweep, summary in rows)
    mean = float(np.exp(np.mean([np.log(summary.geometric) for _, summary in rows])))
    return (
        f"From the worst initial learning rate, self-tuning is within {ROBUST['stationary']} "
        f"(nonstationary tasks: {ROBUST['nonstationary']}) times the loss of the best fixed "
        f"learning rate in {held} of {len(rows)} rows; the geometric mean of this ratio over all "
        f"rows and initial learning rates is {format_loss(mean, '.3f')}."
    )


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence for each claim on each group of tasks, with the rows that contradict it.

    Args:
      rows: the sweeps with their numbers.
    """
    sentences = []
    for group in ("development", "report-only"):
        for kind in ("stationary", "nonstationary"):
            chosen = [
                (title(sweep), summary)
                for sweep, summary in rows
                if (sweep.workload.group, sweep.workload.kind) == (group, kind)
            ]
            if chosen:
                found = _verdicts_on_kind(kind, chosen)
                sentences += [f"{group.capitalize()}, {kind}: {claim}" for claim in found]
    return sentences


def _verdicts_on_kind(kind: str, chosen: Sequence[tuple[str, Summary]]) -> list[str]:
    robust, harmless = ROBUST[kind], HARMLESS[kind]
    worst = f"the worst initial learning rate is within {robust} of the best fixed learning rate"
    claims = [
        (worst, "worst", robust),
        (
            f"self-tuning from the best fixed learning rate is within {harmless} of it",
            "from_best_rate",
            harmless,
        ),
        (f"{worst} evaluated at its average", "worst_to_averaged", robust),
    ]
    sentences = []
    for claim, field, limit in claims:
        ratios = [(name, getattr(summary, field)) for name, summary in chosen]
        failed = [f"{name} ({format_loss(x, '.3f')})" for name, x in ratios if not x <= limit]
        held = f"{len(ratios) - len(failed)} of {len(ratios)} rows"
        ending = f"; not in {', '.join(failed)}." if failed else "."
        sentences.append(f"in {held} {claim}{ending}")
    mean = float(np.exp(np.mean([np.log(summary.geometric) for _, summary in chosen])))
    claimed = ""
    if kind == "stationary":
        claimed = f", which is {'' if mean <= MEAN else 'not '}at most {MEAN}"
    sentences.append(
        "the geometric mean of the ratios over all rows and initial learning rates is "
        f"{format_loss(mean, '.3f')}{claimed}."
    )
    return sentences


def notes_on_solved(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence that names the rows where some networks did not solve the task, if any."""
    counted = [(sweep, summary.solved) for sweep, summary in rows if summary.solved is not None]
    if not counted:
        return []
    failed = [
        f"{title(sweep)} ({solved} of {_networks(sweep)})"
        for sweep, solved in counted
        if solved < _networks(sweep)
    ]
    ending = f"; not in {', '.join(failed)}." if failed else "."
    held = f"{len(counted) - len(failed)} of {len(counted)} rows"
    return [f"In {held} with a limit, every network solves the task from every start{ending}"]


def _networks(sweep: StartSweep) -> int:
    return len(sweep.self_tuned[0].losses)


def _cells(sweep: StartSweep, summary: Summary) -> tuple[str, ...]:
    held = {True: "yes", False: "NO"}
    return (
        sweep.workload.title,
        sweep.optimizer,
        sweep.workload.group,
        sweep.workload.kind,
        f"{summary.best_rate:.0e}",
        format_loss(summary.best_loss, ".4f"),
        format_loss(summary.averaged),
        format_loss(summary.worst, ".3f"),
        format_loss(summary.median, ".3f"),
        format_loss(summary.best, ".3f"),
        format_loss(summary.geometric, ".3f"),
        f"{summary.worst_start:.0e}",
        "{:.1e} .. {:.1e}".format(*summary.learned_rates),
        held[bool(summary.worst <= ROBUST[sweep.workload.kind])],
        format_loss(summary.from_best_rate, ".3f"),
        held[bool(summary.from_best_rate <= HARMLESS[sweep.workload.kind])],
        format_loss(summary.worst_last, ".3f"),
        format_loss(summary.median_last, ".3f"),
        format_loss(summary.training),
        "-" if summary.solved is None else f"{summary.solved} of {_networks(sweep)}",
    )
