"""Standings: the result of each optimizer on a task, and its rank."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments import runner
from experiments.studies.league.candidates import Entry, warmup_cosine
from experiments.tuning import trials
from experiments.tuning.trials import TrialResult, Trials, mean
from experiments.tuning.workloads import FACTORIES, PreparedWorkload

PEAKS = 3  # peaks tried for a schedule: the best fixed learning rate and the next ones of the grid


class Standing(NamedTuple):
    """The result of an optimizer on a task.

    Attributes:
      entry: the optimizer.
      result: of its trial; the best trial if it is tuned.
      state_size: size of its state in multiples of the parameters' size.
      runs: trials needed; more than one means that it is tuned.
    """

    entry: Entry
    result: TrialResult
    state_size: float
    runs: int = 1

    @property
    def tuned(self) -> bool:
        """True if trials were compared to choose this one."""
        return self.runs > 1


def run_tuned(
    run: runner.Run, workload: PreparedWorkload, progress: runner.Progress
) -> tuple[list[Standing], list[str]]:
    """Runs the best fixed learning rates and their schedules.

    Returns:
      The standings, and notes on grids whose best learning rate is at an end.
    """
    standings, grids = [], []
    for name in workload.settings.optimizers:
        factory = FACTORIES[name]
        grid = trials.run_grid(run, workload, name, progress)
        scheduled = warmup_cosine(factory, workload.steps)
        trial = Trials(run, workload, f"{name} cosine", trials.fixed(scheduled), progress)
        peaks = grid.rates[grid.best :][:PEAKS]
        cosines = [trial(peak) for peak in peaks]
        best = min(cosines, key=lambda result: result.loss)
        size, runs = trials.state_size(factory(1.0), workload.params), len(grid.rates)
        standings += [
            Standing(Entry(f"{name}, best constant"), grid.results[grid.best], size, runs),
            Standing(Entry(f"{name}, warmup-cosine"), cosines[0], size, runs + 1),
            Standing(Entry(f"{name}, warmup-cosine, best peak"), best, size, runs + len(peaks)),
        ]
        grids.append((f"{workload.workload.title}, {name}", grid))
    return standings, trials.notes_on_grid_ends(grids)


def best_tuned_loss(standings: Sequence[Standing]) -> float:
    """Returns the loss of the best tuned schedule, a constant one included."""
    return min(each.result.loss for each in standings if each.tuned)


def losses(standings: Sequence[Standing], *, averaged: bool = False) -> dict[Entry, float]:
    """Returns the losses of the optimizers that are not tuned; inf if one diverged.

    Args:
      standings: of a task.
      averaged: True for the losses at the averaged parameters.
    """
    return {
        each.entry: mean(each.result.average) if averaged else each.result.loss
        for each in standings
        if not each.tuned
    }


def ranks(standings: Sequence[Standing], *, averaged: bool = False) -> dict[Entry, int]:
    """Returns the ranks, from 1, of the optimizers that are not tuned; equal losses share a rank.

    Args:
      standings: of a task.
      averaged: True to rank by the loss at the averaged parameters.
    """
    found = losses(standings, averaged=averaged)
    return {
        entry: 1 + sum(other < loss for other in found.values()) for entry, loss in found.items()
    }
