"""Sensitivity to the initial learning rate: jd.self_tuning from 1e-8 to 1e2.

Self-tuning starts at five learning rates (at scale full, one from each decade), on every task of
`experiments/tuning/workloads.py` and with three optimizers. Its loss is compared with the best
fixed learning rate of a grid with two values per decade, which is extended while the best one is at
an end. One more trial starts at that best learning rate, where self-tuning should do no harm.
Verdicts are given apart for the tasks that are for development and for those that are only
reported, and for stationary and nonstationary tasks.

The study also reproduces a figure of the published method: towers of SGD of height 0 to 5, whose
learning rates are not constrained to be positive (K. Chandra et al. 2022, arXiv:1909.13371,
figure 3a). The network has the published activations, tanh on the logits too; with ReLU tall
towers overflow from every initial learning rate.
"""

from experiments import runner
from experiments.studies.sensitivity import published_towers
from experiments.studies.sensitivity.figure import draw
from experiments.studies.sensitivity.report import results
from experiments.studies.sensitivity.settings import HEIGHTS, PUBLISHED_STARTS, STARTS, Settings
from experiments.studies.sensitivity.sweeps import run_sweep
from experiments.tuning.workloads import in_turn, prepare_workloads

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every trial and draws the figure."""
    workloads, skipped = prepare_workloads(settings, run)
    if not workloads:
        raise runner.RunError("; ".join(skipped))
    starts, heights = STARTS[settings.scale], HEIGHTS[settings.scale]
    published_starts = PUBLISHED_STARTS[settings.scale]
    tanh_workload = published_towers.prepare(settings)
    trials = sum(len(settings.grid(name)) + len(starts) + 1 for name in settings.optimizers)
    total = trials * sum(workload.steps for workload in workloads)
    total += (len(heights) + 1) * len(published_starts) * tanh_workload.steps
    with runner.Progress(total=total) as progress:
        sweeps = [
            run_sweep(run, workload, optimizer, starts, progress)
            for workload in in_turn(workloads)
            for optimizer in settings.optimizers
        ]
        published = published_towers.run_towers(
            run, tanh_workload, heights, published_starts, progress
        )
    run.save_figure("sensitivity", draw(sweeps, published))
    return results(settings, sweeps, published, skipped)
