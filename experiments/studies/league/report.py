"""The report of the league: verdicts, the table with its notes, and the figure."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from experiments import runner
from experiments.studies.league.candidates import DEFAULTS, WARMUP, Entry, Settings
from experiments.studies.league.performance import (
    LIMIT,
    Summary,
    claims,
    loss_ratios,
    profile,
    ratios_by_entry,
    score,
    summarize,
)
from experiments.studies.league.standings import PEAKS, Standing, best_tuned_loss, ranks
from experiments.tuning.trials import format_loss, mean, ratio
from experiments.tuning.workloads import WINDOWS

CLOSE = 1.02  # largest ratio to the best tuned schedule that counts as close

COLUMNS = (
    "task",
    "optimizer",
    "final loss",
    "ratio",
    "last",
    "averaged",
    "training loss",
    "state size",
    "tuned",
    "runs",
    "rank",
    "profile",
)


def results(
    settings: Settings,
    tables: Mapping[str, Sequence[Standing]],
    notes: Sequence[str],
    development: Collection[str] = (),
) -> runner.Results:
    """Returns the table, the notes and the numbers.

    Args:
      settings: of the study.
      tables: task titles to the standings.
      notes: on skipped tasks and on grids.
      development: titles of the tasks on which `jd.self_tuning` was developed.
    """
    cells, values = [], {}
    for task, standings in tables.items():
        places, best, ratios = ranks(standings), best_tuned_loss(standings), loss_ratios(standings)
        ordered = sorted(standings, key=lambda each: each.result.loss)
        cells += [
            _cells(task, each, best, places.get(each.entry), ratios.get(each.entry))
            for each in ordered
        ]
        values[task] = {
            each.entry.name: {
                **each.result._asdict(),
                "loss": each.result.loss,
                "state_size": each.state_size,
                "runs": each.runs,
                "rank": places.get(each.entry),
            }
            for each in standings
        }
    groups = _groups(tables, development)
    summaries = {name: summarize(group) for name, group in groups.items()}
    for name, found in summaries.items():
        cells += [_summary_cells(name, each) for each in found]
        values[name] = {
            each.entry.name: {**each._asdict(), "entry": each.entry.name} for each in found
        }
    explanations = [
        *(claim for name, found in summaries.items() for claim in claims(found, name)),
        *verdicts(tables, settings.optimizers),
        *notes,
        f"'final loss' is over all held-out examples ({WINDOWS} windows of a text), or an expected "
        "value, after the same number of steps; on nonstationary tasks it is the mean over the "
        f"second half of the steps. Mean and standard deviation are over {settings.seeds} seeds or "
        "more. 'ratio' is the final loss over the loss of the task's best tuned schedule. "
        "The best constant learning rate, also used as the peak of a schedule, is chosen by the "
        "same held-out losses, which favors it over the optimizers that are run once.",
        "The final loss is at the last parameters; at the evaluation parameters for Schedule-Free; "
        "at the averaged parameters for self-tuning. 'last' and 'averaged' are ratios at the last "
        "parameters and at the same polynomial average for every optimizer. 'training loss' is the "
        "mean over the last tenth of the steps. 'state size' is in multiples of the parameters' "
        "size. 'runs' is the number of trials needed. 'rank' is among the optimizers that are run "
        "once.",
        "'profile' is the score of the performance profile of AlgoPerf (arXiv:2306.07179), adapted "
        f"to final losses: 1 at the least loss of the optimizers that are run once, 0 at {LIMIT:g} "
        "times that loss or more, linear in between; over several tasks, the mean. AlgoPerf "
        "compares times to a target instead, up to a ratio of 4. Optimizers that ran on some "
        "of the tasks only are left out of the claims; they count in the ranks of their tasks. In "
        "the rows over several tasks, 'runs' is the number of tasks, 'rank' the mean rank, and "
        "'averaged' has the mean rank and the score at the averaged parameters of every optimizer.",
        f"warmup-cosine rises linearly over {WARMUP:.0%} of the steps to the best constant, then "
        "decays to zero (optax's warmup_cosine_decay_schedule). 'best peak' is the best of that "
        f"peak and of the next {PEAKS - 1} learning rates of the grid. {DEFAULTS}",
    ]
    verdict, *explanations = explanations
    return runner.Results("League of optimizers", COLUMNS, cells, explanations, values, verdict)


def verdicts(tables: Mapping[str, Sequence[Standing]], optimizers: Sequence[str]) -> list[str]:
    """Returns the ranks of self-tuning: a sentence for each task, then for each optimizer."""
    sentences = []
    first: dict[str, list[str]] = {}
    close: dict[str, list[str]] = {}
    for task, standings in tables.items():
        places, averaged = ranks(standings), ranks(standings, averaged=True)
        best = best_tuned_loss(standings)
        losses = {each.entry: each.result.loss for each in standings}
        tuned = {entry.self_tuned: entry for entry in places if entry.self_tuned}
        entries = {name: tuned[name] for name in optimizers}
        ratios = {name: ratio(losses[entry], best) for name, entry in entries.items()}
        first[task] = [name for name, entry in entries.items() if places[entry] == 1]
        close[task] = [name for name, x in ratios.items() if x <= CLOSE]
        ranked = [
            f"{name} {places[entry]} ({format_loss(ratios[name], '.3f')})"
            for name, entry in entries.items()
        ]
        ranked_averaged = [f"{name} {averaged[entry]}" for name, entry in entries.items()]
        sentences.append(
            f"{task}: of {len(places)} optimizers without tuning, {_winners(places)} ranks first. "
            "Ranks of self-tuning, with ratios to the best tuned schedule: "
            f"{', '.join(ranked)}. At the averaged parameters of every optimizer, "
            f"{_winners(averaged)} ranks first. Ranks of self-tuning: {', '.join(ranked_averaged)}."
        )
    return sentences + [
        f"Self-tuning of {name} {_held('ranks first', name, first)}, and "
        f"{_held(f'is within {CLOSE} of the best tuned schedule', name, close)}."
        for name in optimizers
    ]


def _winners(places: Mapping[Entry, int]) -> str:
    return " and ".join(entry.name for entry, place in places.items() if place == 1)


def _held(claim: str, optimizer: str, held: Mapping[str, Sequence[str]]) -> str:
    failed = [task for task, optimizers in held.items() if optimizer not in optimizers]
    where = f" (not on {', '.join(failed)})" if failed else ""
    return f"{claim} on {len(held) - len(failed)} of {len(held)} tasks{where}"


def _groups(
    tables: Mapping[str, Sequence[Standing]], development: Collection[str]
) -> dict[str, dict[str, Sequence[Standing]]]:
    """Returns all tasks, and the tasks that were not used in development, by a name of the group.

    The second group is left out if it is empty or has all tasks.
    """
    rest = {task: standings for task, standings in tables.items() if task not in development}
    groups = {f"all {len(tables)} tasks": dict(tables)}
    if 0 < len(rest) < len(tables):
        groups[f"{len(rest)} report-only tasks"] = rest
    return groups


def _summary_cells(group: str, summary: Summary) -> tuple[str, ...]:
    averaged = f"{summary.averaged_rank:.2f}, {summary.averaged_profile:.3f}"
    shown = (group, summary.entry.name, "-", "-", "-", averaged, "-", "-", "no")
    return (*shown, str(summary.tasks), f"{summary.mean_rank:.2f}", f"{summary.profile:.3f}")


def _cells(
    task: str, standing: Standing, best: float, rank: int | None, ratio_to_first: float | None
) -> tuple[str, ...]:
    result = standing.result
    spread = f" ± {np.std(result.losses):.4f}" if np.isfinite(result.loss) else ""
    return (
        task,
        standing.entry.name,
        format_loss(result.loss, ".4f") + spread,
        format_loss(ratio(result.loss, best), ".3f"),
        format_loss(ratio(mean(result.last), best), ".3f"),
        format_loss(ratio(mean(result.average), best), ".3f"),
        format_loss(mean(result.training), ".4f"),
        f"{standing.state_size:.1f}",
        "yes" if standing.tuned else "no",
        str(standing.runs),
        "-" if rank is None else str(rank),
        "-" if ratio_to_first is None else f"{score(ratio_to_first):.3f}",
    )


MAX_RATIO = 3.0  # end of the axis; larger ratios are drawn there as crosses


def draw(tables: Mapping[str, Sequence[Standing]]) -> Figure:
    """Draws for each task the ratios to the best tuned schedule, the best at the top."""
    columns = min(len(tables), 5)
    rows = -(-len(tables) // columns)
    height = 0.22 * max(map(len, tables.values())) + 1.2
    figure = Figure(figsize=(4.4 * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(tables) :]:
        panel.set_axis_off()
    for panel, (task, standings) in zip(panels, tables.items(), strict=False):
        ordered = sorted(standings, key=lambda each: -each.result.loss)
        best = best_tuned_loss(standings)
        for y, standing in enumerate(ordered):
            x = ratio(standing.result.loss, best)
            shown, marker = (x, "o") if x <= MAX_RATIO else (MAX_RATIO, "x")
            panel.plot(shown, y, marker, color=_color(standing), markersize=5)
        panel.axvspan(1.0, CLOSE, color="#2e86c1", alpha=0.2, linewidth=0)
        names = [standing.entry.name for standing in ordered]
        panel.set_yticks(range(len(ordered)), names, fontsize=7)
        panel.set(xscale="log", title=task, xlabel="final loss / best tuned schedule's")
        panel.set_xlim(right=1.1 * MAX_RATIO)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.25, axis="x")
    return figure


def _color(standing: Standing) -> str:
    """Returns blue for self-tuning, black for tuned optimizers, gray for the others."""
    if standing.result.own_average:
        return "#2e86c1"
    return "#222222" if standing.tuned else "#999999"


def draw_profiles(
    tables: Mapping[str, Sequence[Standing]], development: Collection[str] = ()
) -> Figure:
    """Draws the performance profiles of the optimizers that are not tuned, a panel per group."""
    groups = _groups(tables, development)
    figure = Figure(figsize=(7.2 * len(groups), 4.6), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    taus = np.linspace(1, LIMIT, 401)
    for panel, (name, group) in zip(panels, groups.items(), strict=True):
        ratios = ratios_by_entry(group)
        for i, summary in enumerate(sorted(summarize(group), key=lambda each: -each.profile)):
            own = bool(summary.entry.self_tuned)
            panel.step(
                taus,
                profile(ratios[summary.entry], taus),
                where="post",
                color=None if own else "#999999",
                linestyle="-" if own else ("-", "--", ":", "-.")[i % 4],
                linewidth=2.0 if own else 0.9,
                label=f"{summary.profile:.3f} {summary.entry.name}",
            )
        panel.set(xlabel="tau", ylabel="share of tasks with a loss of at most tau times the least")
        panel.set(title=name, xlim=(1, LIMIT), ylim=(0, 1.02))
        panel.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
        panel.grid(alpha=0.25)
    return figure
