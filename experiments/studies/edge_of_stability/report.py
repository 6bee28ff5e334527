"""The table of the edge of stability study, with its notes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import jaxdescent as jd
from experiments import runner
from experiments.studies.edge_of_stability.settings import RHO, Settings
from experiments.studies.edge_of_stability.summary import (
    HIGH,
    LOW,
    CaseResult,
    Summary,
    summarize,
)
from experiments.studies.edge_of_stability.training import PROBE_EVERY, ProbeHistory

COLUMNS = (
    "task",
    "case",
    "role",
    "edge reached",
    "ratio",
    "least of seeds",
    "greatest of seeds",
    "last third",
    "rising steps %",
    "loss",
    "flagged",
    "not converged %",
    "as expected",
)


def results(
    settings: Settings,
    case_results: Sequence[CaseResult],
    quadratics: Mapping[float, jd.StabilityState],
    skipped: Sequence[str],
) -> runner.Results:
    """Returns the table, the notes and the numbers.

    Args:
      settings: of the study.
      case_results: in the order of the table.
      quadratics: ratios of sharpness to threshold, to the monitor's state after the descent.
      skipped: a sentence for each data set that is skipped.
    """
    summaries = [summarize(result) for result in case_results]
    pairs = list(zip(case_results, summaries, strict=True))
    rows = [_cells(result, summary) for result, summary in pairs]
    rows += [_quadratic_cells(ratio, state) for ratio, state in quadratics.items()]
    residual = max((summary.residual for summary in summaries), default=0)
    notes = [
        *verdicts(case_results, summaries, quadratics),
        *skipped,
        f"Ratio: sharpness over the optimizer's stability threshold, from a probe every "
        f"{PROBE_EVERY} steps. The number depends on the role. Edge: the median over the probes of "
        "all seeds from the step at which the edge is reached; then the smallest and the largest "
        "median of a single seed, and the median over the last third of the run. Far below: the "
        "largest ratio. Scaled: the median, with the learning rate that the previous probe had "
        "set. Too large: the median. The first probe counts only in the role edge, because at the "
        "first step the preconditioner of an adaptive method is close to zero.",
        "Edge reached: the median step of the first probe at or above the threshold. If a run "
        "starts above the threshold, probes count after the sharpness has first fallen below it. "
        "Rising steps: the percentage of the steps after the edge is reached that increased the "
        "loss; in other roles, of all steps.",
        *notes_on_scaling(case_results, summaries),
        "GD is gradient descent; Polyak and Nesterov are its momentum methods; SAM is "
        "sharpness-aware minimization.",
        "Polyak's ratio has a sawtooth shape: a short instability moves the sharpness far below "
        "the threshold, and it rises again slowly.",
        f"SAM's rho is {RHO:g}, momentum is 0.9, and the decay of RMSProp is 0.99 with eps outside "
        "the root. Other hyperparameters are optax's defaults.",
        "Not converged: the eigenvalue's residual exceeds 1% of it. The greatest relative residual "
        f"of the other probes is {residual:.1e}.",
        "Flagged: the number of seeds that the monitor reports as diverging or not finite.",
    ]
    values: dict[str, Any] = {
        f"{result.task}, {result.case.name}": {
            **summary._asdict(),
            "role": result.case.role,
            "seeds": [_history_values(history) for history in result.histories],
        }
        for result, summary in pairs
    }
    values["quadratics"] = {
        f"{ratio:g}": {"outcome": int(state.outcome), "left": int(state.diverged)}
        for ratio, state in quadratics.items()
    }
    title = f"The edge of stability, {settings.seeds} seeds"
    verdict, *notes = notes
    return runner.Results(title, COLUMNS, rows, notes, values, verdict)


def verdicts(
    case_results: Sequence[CaseResult],
    summaries: Sequence[Summary],
    quadratics: Mapping[float, jd.StabilityState],
) -> list[str]:
    """Returns a sentence for each role, with the cases that are not as expected."""
    claims = {
        "edge": f"the median ratio is in [{LOW:.2f}, {HIGH:.2f}] and no seed is flagged",
        "far below": "the edge is not reached and no seed is flagged",
        "too large": "exactly the seeds whose last loss exceeds the first are flagged",
        "scaled": f"the median ratio over the requested fraction is in [{LOW:.2f}, {HIGH:.2f}]",
    }
    sentences = []
    for role, claim in claims.items():
        found = [
            (f"{result.task}, {result.case.name} ({summary.ratio:.3f})", summary.as_expected)
            for result, summary in zip(case_results, summaries, strict=True)
            if result.case.role == role
        ]
        if not found:
            continue
        failed = [name for name, as_expected in found if not as_expected]
        held = f"in {len(found) - len(failed)} of {len(found)} cases"
        ending = f"; not in {', '.join(failed)}." if failed else "."
        sentences.append(f"Role {role}: {held} {claim}{ending}")
    if not quadratics:
        return sentences
    wrong = [f"{ratio:g}" for ratio, state in quadratics.items() if not _correct(ratio, state)]
    ending = f"; not at {', '.join(wrong)}." if wrong else "."
    return [*sentences, f"A quadratic is flagged if and only if its ratio exceeds 1{ending}"]


def notes_on_scaling(case_results: Sequence[CaseResult], summaries: Sequence[Summary]) -> list[str]:
    """Returns a sentence for each scaled case: its loss beside the best fixed learning rate's."""
    notes = []
    for scaled, found in zip(case_results, summaries, strict=True):
        fixed = [
            (summary.loss, result.case.name)
            for result, summary in zip(case_results, summaries, strict=True)
            if (result.task, result.case.optimizer) == (scaled.task, scaled.case.optimizer)
            and result.case.role != "scaled"
            and np.isfinite(summary.loss)
        ]
        if scaled.case.role == "scaled" and fixed:
            loss, name = min(fixed)
            notes.append(
                f"{scaled.task}, {scaled.case.name} of the threshold: the last loss is "
                f"{found.loss:.4f}; at the best fixed learning rate, {name}, it is {loss:.4f}. A "
                "ratio near the requested fraction shows that the probe is accurate, not that the "
                "learning rate is good."
            )
    return notes


def _correct(ratio: float, state: jd.StabilityState) -> bool:
    return bool(state.outcome >= jd.StabilityOutcome.DIVERGING) == (ratio > 1)


def _cells(result: CaseResult, summary: Summary) -> tuple[str, ...]:
    return (
        result.task,
        result.case.name,
        result.case.role,
        f"{summary.reached:.0f}" if np.isfinite(summary.reached) else "-",
        f"{summary.ratio:.3f}",
        f"{summary.least:.3f}",
        f"{summary.greatest:.3f}",
        f"{summary.last:.3f}",
        f"{summary.rises:.0f}",
        f"{summary.loss:.4f}",
        f"{summary.flagged} of {len(result.histories)}",
        f"{summary.unconverged:.1f}",
        "yes" if summary.as_expected else "NO",
    )


def _quadratic_cells(ratio: float, state: jd.StabilityState) -> tuple[str, ...]:
    log = jd.stability_log(state)
    return (
        "quadratic",
        f"GD, ratio {ratio:g}",
        "diverges" if ratio > 1 else "converges",
        f"{int(state.reached)}" if state.reached >= 0 else "-",
        f"{np.nanmedian(log.ratio):.3f}",
        *["-"] * 4,
        f"{log.loss[-1]:.2g}",
        f"{int(state.outcome >= jd.StabilityOutcome.DIVERGING)} of 1",
        f"{100 * np.mean(~log.converged):.1f}",
        "yes" if _correct(ratio, state) else "NO",
    )


def _history_values(history: ProbeHistory) -> dict[str, Any]:
    names = ("step", "loss", "learning_rate", "sharpness", "threshold", "residual")
    values = {name: getattr(history, name) for name in names}
    return {**values, "reached": int(history.reached), "outcome": int(history.outcome)}
