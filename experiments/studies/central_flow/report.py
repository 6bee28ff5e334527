"""The table of the central flow study, with its notes."""

from collections.abc import Sequence

from experiments import runner
from experiments.studies.central_flow.measurement import Summary
from experiments.studies.central_flow.settings import (
    LOSS_TOLERANCE,
    VARIANCE_TOLERANCE,
    WINDOW,
    Case,
    Scale,
)

COLUMNS = (
    "optimizer",
    "steps",
    "edge at step",
    "eigenvalues at edge",
    "loss",
    "predicted / loss",
    f"within {LOSS_TOLERANCE:.0%}",
    "after the edge",
    "without oscillation",
    "stable flow",
    "variance",
    "predicted / variance",
    f"within {VARIANCE_TOLERANCE:.0%}",
    "over windows",
    "all steps",
    "distance",
    "stable flow's",
)


def results(cases: Sequence[Case], summaries: Sequence[Summary], scale: Scale) -> runner.Results:
    """Returns the table, the notes and the numbers."""
    titles = [case.title for case in cases]
    named = dict(zip(titles, summaries, strict=True))
    deviations = [f"{name} {summary.deviation_ratio:.3f}" for name, summary in named.items()]
    notes = [
        *verdicts(titles, summaries),
        f"Network 64-{scale.width}-{scale.width}-10 with tanh, half the squared error on "
        f"{scale.images} digits, full batch. The optimizer and both flows start from the same "
        "parameters; all steps are included. GD is gradient descent, Polyak is heavy-ball "
        "momentum; the number after a name is the momentum or the decay of the second moment.",
        "Loss: the mean over all steps. The next columns are ratios to this loss: for the loss "
        "that the central flow predicts, L + <Sigma, H> / 2, over all steps and over steps after "
        "the flow reached the edge; for L on the central flow, without the oscillation; and for "
        "the loss of the stable flow.",
        "Variance: the mean square of the alternating part of the iterates, from the step at which "
        "the flow reaches the edge and first predicts an oscillation. The next columns are ratios "
        "of the predicted to the measured variance: from that step on; their range over windows of "
        f"{WINDOW} steps; and over all steps, with a prediction of 0 before the edge.",
        "For an optimizer that starts beyond the edge, a variance is predicted from the first step "
        "on.",
        "The squared deviation of the iterates from the flow, within the flow's directions, also "
        "contains the distance by which the two paths have drifted apart. Predicted variance over "
        f"this deviation: {', '.join(deviations)}.",
        "Distance: root mean square over all steps, between the flow and the iterates without "
        "their alternating part.",
    ]
    full = [name for case, name in zip(cases, titles, strict=True) if named[name].most >= case.k]
    if full:
        notes.append(
            "All tracked eigenvalues reached the edge, so that further ones may have: "
            f"{', '.join(full)}."
        )
    cells = [_cells(name, summary) for name, summary in named.items()]
    values = {name: summary._asdict() for name, summary in named.items()}
    verdict, *notes = notes
    return runner.Results("Central flows", COLUMNS, cells, notes, values, verdict)


def verdicts(names: Sequence[str], summaries: Sequence[Summary]) -> list[str]:
    """Returns a sentence for each predicted quantity, with the optimizers it fails for."""
    losses = [summary.loss_ratio for summary in summaries]
    variances = [summary.variance_ratio for summary in summaries]
    return [
        _verdict("The time-averaged loss", names, losses, LOSS_TOLERANCE),
        _verdict("The oscillation's variance", names, variances, VARIANCE_TOLERANCE),
    ]


def _verdict(quantity: str, names: Sequence[str], ratios: Sequence[float], tolerance: float) -> str:
    failed = [
        f"{name} ({ratio:.3f})"
        for name, ratio in zip(names, ratios, strict=True)
        if not abs(ratio - 1) <= tolerance
    ]
    held = f"{len(ratios) - len(failed)} of {len(ratios)} optimizers"
    ending = f"; not for {', '.join(failed)}." if failed else "."
    return f"{quantity} is predicted within {tolerance:.0%} for {held}{ending}"


def _cells(name: str, summary: Summary) -> tuple[str, ...]:
    return (
        name,
        str(summary.steps),
        str(summary.edge),
        f"{summary.at_edge:.1f}, at most {summary.most}",
        f"{summary.loss:.4f}",
        f"{summary.loss_ratio:.3f}",
        _held(summary.loss_ratio, LOSS_TOLERANCE),
        f"{summary.loss_ratio_edge:.3f}",
        f"{summary.without:.3f}",
        f"{summary.stable_ratio:.3f}",
        f"{summary.variance:.2e}",
        f"{summary.variance_ratio:.3f}",
        _held(summary.variance_ratio, VARIANCE_TOLERANCE),
        "{:.2f} .. {:.2f}".format(*summary.variance_ratio_range),
        f"{summary.variance_ratio_all:.3f}",
        f"{summary.distance:.3f}",
        f"{summary.stable_distance:.3f}",
    )


def _held(ratio: float, tolerance: float) -> str:
    return "yes" if abs(ratio - 1) <= tolerance else "NO"
