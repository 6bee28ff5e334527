"""Central flows against the optimizers whose average path they predict.

A small tanh network learns scikit-learn's handwritten digits on full batches, at the edge of
stability. From the same parameters as each optimizer start two flows: its central flow, and the
flow without oscillations (gradient flow for gradient descent, the stable flow for the others).
The central flow predicts three measurable quantities: the loss, the variance of the oscillation
and the path (J. Cohen, A. Damian et al. 2025, arXiv:2410.24206).

The oscillation is measured as the alternating part of the iterates, (w+ - 2 w + w-) / 4, which
needs no flow. Distances of a flow are to the other part, (w+ + 2 w + w-) / 4.
"""

from experiments import runner
from experiments.studies.central_flow.figure import draw
from experiments.studies.central_flow.measurement import measure, summarize
from experiments.studies.central_flow.report import results
from experiments.studies.central_flow.settings import CASES, SCALES, Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every optimizer with its flows, and draws the figure."""
    scale = SCALES[settings.scale]
    cases = [CASES[name] for name in dict.fromkeys(settings.optimizers)]
    with runner.Progress(total=sum(scale.steps_of(case) for case in cases)) as progress:
        histories = [measure(case, scale, settings.seed, run, progress) for case in cases]
    summaries = [summarize(history) for history in histories]
    run.save_figure("central_flow", draw(cases, histories))
    return results(cases, summaries, scale)
