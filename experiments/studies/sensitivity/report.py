"""The table of the sensitivity study, with its notes."""

from collections.abc import Mapping, Sequence

from experiments import runner
from experiments.studies.sensitivity.published_towers import (
    MIN_LOSS,
    SELF_TUNING,
    PublishedTowers,
    tower_name,
)
from experiments.studies.sensitivity.settings import HARMLESS, ROBUST, Settings
from experiments.studies.sensitivity.sweeps import StartSweep, Summary, summarize
from experiments.tuning.trials import format_loss, notes_on_grid_ends
from experiments.tuning.workloads import WINDOWS

COLUMNS = (
    "task",
    "optimizer",
    "constants chosen on it",
    "best fixed rate",
    "its loss",
    "averaged",
    "worst",
    "median",
    "best",
    "worst start",
    "learned rates",
    f"worst <= {ROBUST}",
    "from best rate",
    f"<= {HARMLESS}",
    "worst, last",
    "median, last",
    "training",
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
    summaries = {title(sweep): summarize(sweep) for sweep in sweeps}
    cells = [
        _cells(sweep, summary) for sweep, summary in zip(sweeps, summaries.values(), strict=True)
    ]
    notes = [
        *verdicts(summaries),
        *skipped,
        *notes_on_grid_ends([(title(sweep), sweep.grid) for sweep in sweeps]),
        f"Losses are means over all held-out examples ({WINDOWS} windows of a text) and over "
        f"{settings.seeds} seeds, after the same number of steps. The best fixed learning rate is "
        "chosen by the same held-out losses, which favors it over self-tuning. Nothing else is "
        "chosen by them.",
        "All other losses are relative to the loss of the best fixed learning rate. Fixed learning "
        "rates are evaluated at their last parameters. 'averaged' is the lowest loss of the fixed "
        "learning rates if they are evaluated at the average of their parameters.",
        "'worst', 'median' and 'best' are losses of self-tuning over its initial learning rates, "
        "evaluated at the average of its parameters; 'last' means at its last parameters. 'worst "
        "start' is the initial learning rate with the worst loss; 'learned rates' are the least "
        "and the greatest final learning rate. 'from best rate' is the loss of self-tuning that "
        "starts at the best fixed learning rate.",
        "'training' is the median training loss of self-tuning in the last tenth of the steps, "
        "relative to the training loss of the best fixed learning rate.",
        "'constants chosen on it' says if the constants of jd.self_tuning were chosen on the task.",
        "The right panel of the figure shows plain SGD whose learning rate is learned by SGD, on "
        f"the {published.workload.title} (on the logits too, so that the least possible loss is "
        f"{MIN_LOSS:.3f}). Learning rates are unconstrained. Every level starts at the learning "
        "rate on the horizontal axis.",
    ]
    values = {
        title(sweep): {
            **summary._asdict(),
            "starts": sweep.starts,
            "self_tuned": [result._asdict() for result in sweep.self_tuned],
            "fixed_rates": sweep.grid.rates,
            "fixed": [result._asdict() for result in sweep.grid.results],
            "from_best_fixed": sweep.from_best_rate._asdict(),
        }
        for sweep, summary in zip(sweeps, summaries.values(), strict=True)
    }
    names = [*map(tower_name, published.heights), SELF_TUNING]
    trials = [*published.towers, published.self_tuned]
    values["published"] = {
        name: {"starts": published.starts, "losses": [trial.losses for trial in of_name]}
        for name, of_name in zip(names, trials, strict=True)
    }
    return runner.Results("Sensitivity to the initial learning rate", COLUMNS, cells, notes, values)


def title(sweep: StartSweep) -> str:
    """Returns the name of a sweep in tables and notes."""
    return f"{sweep.workload.title}, {sweep.optimizer}"


def verdicts(summaries: Mapping[str, Summary]) -> list[str]:
    """Returns a sentence for each claim of the study, with the sweeps that contradict it."""
    claims = (
        (
            f"the worst initial learning rate is within {ROBUST} of the best fixed learning rate",
            "worst",
            ROBUST,
        ),
        (
            f"self-tuning from the best fixed learning rate is within {HARMLESS} of it",
            "from_best_rate",
            HARMLESS,
        ),
        (
            f"the worst initial learning rate is within {ROBUST} of the best fixed learning rate "
            "evaluated at its average",
            "worst_to_averaged",
            ROBUST,
        ),
    )
    sentences = []
    for claim, field, limit in claims:
        ratios = {name: getattr(summary, field) for name, summary in summaries.items()}
        failed = [
            f"{name} ({format_loss(x, '.3f')})" for name, x in ratios.items() if not x <= limit
        ]
        held = f"{len(ratios) - len(failed)} of {len(ratios)} rows"
        ending = f"; not in {', '.join(failed)}." if failed else "."
        sentences.append(f"In {held} {claim}{ending}")
    return sentences


def _cells(sweep: StartSweep, summary: Summary) -> tuple[str, ...]:
    held = {True: "yes", False: "NO"}
    return (
        sweep.workload.title,
        sweep.optimizer,
        "yes" if sweep.workload.development else "no",
        f"{summary.best_rate:.0e}",
        format_loss(summary.best_loss, ".4f"),
        format_loss(summary.averaged),
        format_loss(summary.worst, ".3f"),
        format_loss(summary.median, ".3f"),
        format_loss(summary.best, ".3f"),
        f"{summary.worst_start:.0e}",
        "{:.1e} .. {:.1e}".format(*summary.learned_rates),
        held[bool(summary.worst <= ROBUST)],
        format_loss(summary.from_best_rate, ".3f"),
        held[bool(summary.from_best_rate <= HARMLESS)],
        format_loss(summary.worst_last, ".3f"),
        format_loss(summary.median_last, ".3f"),
        format_loss(summary.training),
    )
