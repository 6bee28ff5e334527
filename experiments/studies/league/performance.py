"""Mean ranks and performance profiles of the optimizers that are run once, over all tasks.

    rho(optimizer, tau) = share of the tasks on which its loss is at most tau times the best one
    score(optimizer) = 1 / (LIMIT - 1) * integral of rho over tau from 1 to LIMIT

AlgoPerf (G. E. Dahl et al. 2023, arXiv:2306.07179, section 4.3) computes both from times to a
target, relative to the fastest submission, up to a ratio of 4. Here every optimizer makes the
same number of steps, so the ratio is of final losses, to the best one of the optimizers that are
not tuned on the task. Without a target, every optimizer that has not diverged has a finite ratio.
Losses differ less than times, so the integral ends at 2.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies.league.candidates import Entry
from experiments.studies.league.standings import Standing, losses, ranks

LIMIT = 2.0  # the largest ratio of losses in a profile


class Summary(NamedTuple):
    """An optimizer's results over several tasks.

    Attributes:
      entry: the optimizer.
      tasks: the number of tasks on which it ran.
      mean_rank: the mean of its ranks.
      profile: the score of its performance profile.
      averaged_rank: the mean of its ranks by the loss at the averaged parameters.
      averaged_profile: the score of the performance profile at the averaged parameters.
    """

    entry: Entry
    tasks: int
    mean_rank: float
    profile: float
    averaged_rank: float
    averaged_profile: float


def loss_ratios(standings: Sequence[Standing], *, averaged: bool = False) -> dict[Entry, float]:
    """Returns the loss of each optimizer that is not tuned over the least loss among them.

    If the least loss is not positive, the ratio is 1 for the best and inf for the others.

    Args:
      standings: of a task.
      averaged: True to compare losses at the averaged parameters.
    """
    found = losses(standings, averaged=averaged)
    best = min(found.values())
    return {
        entry: 1.0 if loss == best < np.inf else loss / best if 0 < best < np.inf else np.inf
        for entry, loss in found.items()
    }


def score(ratio: float) -> float:
    """Returns the score of one task: 1 for the best optimizer, 0 at a ratio of `LIMIT` or more.

    The score of a profile is the mean over the tasks.

    Example:
      >>> [score(ratio) for ratio in (1.0, 1.5, 2.0, np.inf)]
      [1.0, 0.5, 0.0, 0.0]
    """
    return float(np.clip((LIMIT - ratio) / (LIMIT - 1), 0, 1))


def profile(ratios: Sequence[float], taus: np.ndarray) -> np.ndarray:
    """Returns the share of the ratios that are at most tau, for each tau."""
    return np.mean(np.asarray(ratios)[:, None] <= taus, axis=0)


def ratios_by_entry(tables: Mapping[str, Sequence[Standing]]) -> dict[Entry, list[float]]:
    """Returns the ratios of each optimizer, over the tasks on which it ran."""
    found: dict[Entry, list[float]] = {}
    for standings in tables.values():
        for entry, ratio in loss_ratios(standings).items():
            found.setdefault(entry, []).append(ratio)
    return found


def summarize(tables: Mapping[str, Sequence[Standing]]) -> list[Summary]:
    """Summarizes the optimizers that are not tuned; sorts by tasks (most first) and mean rank."""
    columns: dict[Entry, list[tuple[float, ...]]] = {}
    for standings in tables.values():
        plain, averaged = loss_ratios(standings), loss_ratios(standings, averaged=True)
        places, averaged_places = ranks(standings), ranks(standings, averaged=True)
        for entry in plain:
            row = places[entry], score(plain[entry])
            averaged_row = averaged_places[entry], score(averaged[entry])
            columns.setdefault(entry, []).append((*row, *averaged_row))
    found = [
        Summary(entry, len(rows), *map(float, np.mean(rows, axis=0)))
        for entry, rows in columns.items()
    ]
    return sorted(found, key=lambda each: (-each.tasks, each.mean_rank))


def claims(summaries: Sequence[Summary], where: str) -> list[str]:
    """Returns whether self-tuning is first by mean rank and by performance profile.

    Optimizers that ran on some of the tasks only are left out.

    Args:
      summaries: over the tasks.
      where: the tasks, in words.
    """
    complete = [each for each in summaries if each.tasks == max(s.tasks for s in summaries)]
    best_rank = min(each.mean_rank for each in complete)
    best_profile = max(each.profile for each in complete)
    by_rank = [each.entry for each in complete if each.mean_rank == best_rank]
    by_profile = [each.entry for each in complete if each.profile == best_profile]
    both = [entry.name for entry in by_rank if entry in by_profile and entry.self_tuned]
    verdict = f"held, by {' and '.join(both)}" if both else "not held"
    names = [" and ".join(entry.name for entry in first) for first in (by_rank, by_profile)]
    sentence = (
        f"Claim that self-tuning is first by mean rank and by performance profile, over {where}: "
        f"{verdict}. First by mean rank is {names[0]} ({best_rank:.2f}), by performance profile "
        f"{names[1]} ({best_profile:.3f})."
    )
    own = [
        f"{each.entry.name} {each.mean_rank:.2f} and {each.profile:.3f}"
        for each in complete
        if each.entry.self_tuned
    ]
    return [sentence + (f" Mean ranks and scores of self-tuning: {', '.join(own)}." if own else "")]
