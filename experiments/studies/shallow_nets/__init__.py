"""Pruned training against full training of 64 networks on 20 small tasks: regret and compute.

Each task is trained from 64 starts, once without pruning and once with a rule that prunes agents
by their validation loss (`jd.fit`). Regret is the loss of the pruned run's best agent minus the
loss of the best of all 64, relative to the range from their best to their worst:

- on validation examples, by which agents are pruned and selected. Without pruning this regret is
  0, so it is the cost of pruning.
- on test examples, which do not influence training or selection. Here even the agent with the
  lowest validation loss of all 64 has a regret, which the table shows for comparison.

Training is standard: Adam with cosine decay of the learning rate to 0, and networks evaluated at
a running average of their parameters. Under this regime the losses in the middle of training
predict the final ones better than under a constant learning rate, whose noise hides the
differences; the table has a constant rate for comparison. Pruned and full training do not differ
in anything else. Agents differ in their initial parameters, or in their learning rates too.
"""

from functools import partial

from experiments import runner
from experiments.studies.shallow_nets.figures import draw_curves, draw_paths, draw_regret
from experiments.studies.shallow_nets.report import make_results
from experiments.studies.shallow_nets.settings import REGIMES, SEEDS, TASKS, Settings, num_steps
from experiments.studies.shallow_nets.tasks import load_task
from experiments.studies.shallow_nets.training import PruningComparison, compare

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains on every task and draws the figures."""
    scale = settings.scale
    names, seeds, steps = TASKS[scale], SEEDS[scale], num_steps(scale)
    comparisons: dict[str, dict[str, list[PruningComparison]]] = {}
    with runner.Progress(total=len(names) * len(REGIMES) * seeds * steps) as progress:
        for name in names:
            task = load_task(name)
            comparisons[name] = {
                regime: [
                    run.series(
                        f"{name}, {setting.title}, seed {seed}",
                        PruningComparison,
                        partial(compare, task, scale, regime, seed),
                        progress=progress,
                        steps=steps,
                        loss=lambda comparison: comparison.pruned_test,
                    )
                    for seed in range(settings.seed, settings.seed + seeds)
                ]
                for regime, setting in REGIMES.items()
            }
    run.save_figure("regret", draw_regret(comparisons))
    run.save_figure("paths", draw_paths(load_task(names[0]), scale, settings.seed))
    run.save_figure("curves", draw_curves(comparisons))
    return make_results(comparisons, steps)
