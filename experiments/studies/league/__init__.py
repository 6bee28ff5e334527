"""League of optimizers at equal steps and data: which need no tuning, and at what loss.

On each task there are two groups of optimizers. The tuned optimizers are run several times: at the
best fixed learning rate of a grid with two values per decade, with a warmup-cosine schedule that
peaks at that learning rate, and with a warmup-cosine schedule whose peak is tuned too. The others
are run once, at their documented defaults: optax's learning-rate-free methods and Schedule-Free,
plain towers, and jd.self_tuning. Over all tasks they are compared by their mean rank and by the
performance profile of their final losses.
"""

from experiments import runner
from experiments.studies.league.candidates import Entry, Settings, tuning_free
from experiments.studies.league.report import draw, draw_profiles, results
from experiments.studies.league.standings import PEAKS, Standing, run_tuned
from experiments.tuning.trials import Candidate, Trials, state_size
from experiments.tuning.workloads import PreparedWorkload, in_turn, prepare_workloads

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every optimizer on every task."""
    workloads, skipped = prepare_workloads(settings, run)
    if not workloads:
        raise runner.RunError("; ".join(skipped))
    total = sum(_trials(settings, each) * each.steps for each in workloads)
    notes = list(skipped)
    tables: dict[str, list[Standing]] = {}
    development = {each.workload.title for each in workloads if each.workload.development}
    with runner.Progress(total=total) as progress:
        for workload in in_turn(workloads):
            standings, notes_on_grids = run_tuned(run, workload, progress)
            notes += notes_on_grids
            candidates = _candidates(settings, workload)
            for entry, candidate in candidates.items():
                result = Trials(run, workload, entry.name, candidate, progress)()
                size = state_size(candidate.tx, workload.params)
                standings.append(Standing(entry, result, size))
            tables[workload.workload.title] = standings
    run.save_figure("league", draw(tables))
    run.save_figure("profiles", draw_profiles(tables, development))
    return results(settings, tables, notes, development)


def _candidates(settings: Settings, workload: PreparedWorkload) -> dict[Entry, Candidate]:
    deterministic = workload.workload.deterministic
    return tuning_free(settings, workload.steps, deterministic=deterministic)


def _trials(settings: Settings, workload: PreparedWorkload) -> int:
    """Returns the number of trials, unless a grid is extended."""
    tuned = sum(len(settings.grid(name)) + PEAKS for name in settings.optimizers)
    return tuned + len(_candidates(settings, workload))
