"""Population-based training of a network against random search of equal compute.

Networks that recognize shifted handwritten digits are trained by AdamW with three methods:

- population-based training, where the worst of a population become copies of the best with other
  learning rates and weight decays;
- random search: the same population with the hyperparameters that it starts with;
- `jd.self_tuning`, one network.

The network is selected by its validation loss and reported with its test loss. A run that is
interrupted goes on with the next seed, and `--resume` can add seeds.
"""

from functools import partial

from experiments import runner
from experiments.studies.pbt import task
from experiments.studies.pbt.figure import draw
from experiments.studies.pbt.report import make_results
from experiments.studies.pbt.settings import Settings
from experiments.studies.pbt.training import Comparison, compare

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains with all methods on every seed and draws the figure."""
    size, data = settings.size, task.load()
    steps = (2 * size.agents + 1) * size.steps
    with runner.Progress(total=size.seeds * steps) as progress:
        found = [
            run.series(
                f"seed {seed}",
                Comparison,
                partial(compare, data, size, seed),
                progress=progress,
                steps=steps,
                loss=lambda comparison: comparison.pbt.test,
            )
            for seed in range(settings.seed, settings.seed + size.seeds)
        ]
    run.save_figure("pbt", draw(found, size))
    return make_results(found, size, settings.seed)
