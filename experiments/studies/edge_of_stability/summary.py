"""The numbers of a case, over the networks of all seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies.edge_of_stability.settings import Case
from experiments.studies.edge_of_stability.training import ProbeHistory

LOW, HIGH = 0.95, 1.10  # expected range of the median of sharpness over threshold


class CaseResult(NamedTuple):
    """A case on a data set.

    Attributes:
      task: title of the data set.
      case: the case.
      histories: the records of each seed.
    """

    task: str
    case: Case
    histories: Sequence[ProbeHistory]


class Summary(NamedTuple):
    """Numbers of a case.

    Attributes:
      reached: median step at which the edge was reached; nan if a seed did not reach it.
      ratio: of sharpness to threshold. At the edge: the median over the probes of all seeds, from
        the step at which each reached the edge. Far below: the greatest. Otherwise: the median
        over all probes. The first probe does not count in the last two.
      least, greatest: of the seeds' own ratios.
      last: median over the last third of all probes.
      rises: percentage of the steps counted in `ratio` that increased the loss.
      loss: mean over seeds, at the last probe.
      flagged: number of seeds that the monitor flagged.
      unconverged: percentage of probes whose eigenvalue missed the tolerance.
      residual: the greatest residual of the other probes, relative to their eigenvalue.
      as_expected: True if the ratio and the flags are as expected from the case's role.
    """

    reached: float
    ratio: float
    least: float
    greatest: float
    last: float
    rises: float
    loss: float
    flagged: int
    unconverged: float
    residual: float
    as_expected: bool


def summarize(result: CaseResult) -> Summary:
    """Computes the numbers of a case."""
    case, histories = result.case, result.histories
    reduce = _greatest if case.role == "far below" else _median
    counted = [each.at_edge if case.role == "edge" else each.step > 0 for each in histories]
    ratios = [each.ratio[mask] for each, mask in zip(histories, counted, strict=True)]
    last = [each.ratio[-len(each.ratio) // 3 :] for each in histories]
    rises = [each.rises[mask] for each, mask in zip(histories, counted, strict=True)]
    residuals = [(each.residual / each.sharpness)[each.converged] for each in histories]
    not_reached = any(each.reached < 0 for each in histories)
    reached = float(np.median([each.reached for each in histories]))
    ratio = reduce(np.concatenate(ratios))
    return Summary(
        reached=float("nan") if not_reached else reached,
        ratio=ratio,
        least=min(map(reduce, ratios)),
        greatest=max(map(reduce, ratios)),
        last=_median(np.concatenate(last)),
        rises=100 * _mean(np.concatenate(rises)),
        loss=_mean(np.array([each.loss[-1] for each in histories])),
        flagged=sum(each.flagged for each in histories),
        unconverged=100 * _mean(np.concatenate([~each.converged for each in histories])),
        residual=float(np.max(np.concatenate(residuals), initial=0.0)),
        as_expected=_as_expected(case, ratio, histories, not_reached=not_reached),
    )


def _as_expected(
    case: Case, ratio: float, histories: Sequence[ProbeHistory], *, not_reached: bool
) -> bool:
    if case.role == "too large":
        return all(each.flagged == each.diverged for each in histories)
    if any(each.flagged for each in histories):
        return False
    if case.role == "far below":
        return ratio < LOW
    if case.role == "edge":
        return LOW <= ratio <= HIGH and not not_reached
    return LOW <= ratio / (case.fraction or 1.0) <= HIGH


def _median(values: np.ndarray) -> float:
    """Returns the median without nan."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _greatest(values: np.ndarray) -> float:
    return float(np.max(values, initial=-np.inf))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
