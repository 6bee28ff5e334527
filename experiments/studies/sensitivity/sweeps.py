"""Self-tuning from every initial learning rate, beside a grid of fixed learning rates."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments import runner
from experiments.tuning import trials
from experiments.tuning.trials import GridResult, TrialResult, Trials, mean, ratio
from experiments.tuning.workloads import FACTORIES, PreparedWorkload, Workload


class StartSweep(NamedTuple):
    """Trials of one optimizer on one workload.

    Attributes:
      workload: the workload.
      optimizer: the name of the optimizer.
      grid: trials at fixed learning rates.
      starts: initial learning rates of self-tuning.
      self_tuned: the trial from each of `starts`.
      from_best_rate: the trial of self-tuning from the best fixed learning rate.
    """

    workload: Workload
    optimizer: str
    grid: GridResult
    starts: Sequence[float]
    self_tuned: Sequence[TrialResult]
    from_best_rate: TrialResult


class Summary(NamedTuple):
    """Numbers of a sweep.

    Losses are relative to the best fixed learning rate's, except `best_loss`; inf stands for a
    diverged trial.

    Attributes:
      best_rate, best_loss: the best fixed learning rate and its held-out loss.
      averaged: the least loss of the fixed learning rates at their averaged parameters.
      worst, median, best: of self-tuning, over the initial learning rates.
      geometric: the geometric mean over the initial learning rates.
      worst_start: the initial learning rate of the worst trial.
      worst_to_averaged: the worst loss, relative to `averaged`.
      worst_last, median_last: at the last parameters instead of the averaged ones.
      from_best_rate: of self-tuning from the best fixed learning rate.
      training: the median training loss of the last tenth of the steps, relative to the best
        fixed learning rate's training loss.
      learned_rates: the least and the greatest final learning rate, geometric means over seeds.
      solved: of the networks of self-tuning, the least number over the initial learning rates whose
        loss counts as solved; `None` if the workload has no such loss.
    """

    best_rate: float
    best_loss: float
    averaged: float
    worst: float
    median: float
    best: float
    geometric: float
    worst_start: float
    worst_to_averaged: float
    worst_last: float
    median_last: float
    from_best_rate: float
    training: float
    learned_rates: tuple[float, float]
    solved: int | None


def run_sweep(
    run: runner.Run,
    workload: PreparedWorkload,
    optimizer: str,
    starts: Sequence[float],
    progress: runner.Progress,
) -> StartSweep:
    """Runs the grid of fixed learning rates, then self-tuning from each of `starts`."""
    grid = trials.run_grid(run, workload, optimizer, progress)
    candidate = trials.self_tuning(FACTORIES[optimizer])
    trial = Trials(run, workload, f"{optimizer} self-tuning", candidate, progress)
    self_tuned = [trial(start) for start in starts]
    from_best_rate = trial(grid.rates[grid.best])
    return StartSweep(workload.workload, optimizer, grid, starts, self_tuned, from_best_rate)


def summarize(sweep: StartSweep) -> Summary:
    """Computes the numbers of a sweep."""
    best = sweep.grid.best
    reference = sweep.grid.losses[best]

    def ratios(losses: Iterable[float]) -> np.ndarray:
        return np.array([ratio(loss, reference) for loss in losses])

    losses = ratios(result.loss for result in sweep.self_tuned)
    last = ratios(mean(result.last) for result in sweep.self_tuned)
    training = [mean(result.training) for result in sweep.self_tuned]
    learned = [np.exp(np.mean(np.log(result.rate))) for result in sweep.self_tuned]
    worst_loss = max(result.loss for result in sweep.self_tuned)
    averaged = sweep.grid.averaged.min()
    limit = sweep.workload.solved_below
    solved = [int(np.sum(result.losses < limit)) for result in sweep.self_tuned if limit]
    return Summary(
        best_rate=sweep.grid.rates[best],
        best_loss=reference,
        averaged=ratio(averaged, reference),
        worst=losses.max(),
        median=float(np.median(losses)),
        best=losses.min(),
        geometric=float(np.exp(np.mean(np.log(losses)))),
        worst_start=sweep.starts[int(losses.argmax())],
        worst_to_averaged=ratio(worst_loss, averaged),
        worst_last=last.max(),
        median_last=float(np.median(last)),
        from_best_rate=ratio(sweep.from_best_rate.loss, reference),
        training=ratio(float(np.median(training)), mean(sweep.grid.results[best].training)),
        learned_rates=(float(np.min(learned)), float(np.max(learned))),
        solved=min(solved, default=None),
    )
