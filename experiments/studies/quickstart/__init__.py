"""Training without a known learning rate, on handwritten digits, in under two minutes.

1. Adam and SGD with momentum train a small network on scikit-learn's digits from 21 initial
   learning rates between 1e-8 and 100: with the learning rate fixed, with towers of height 1, 2
   and 3, and with `jd.self_tuning`.
2. A population of 16 agents with random learning rates is pruned by successive halving. It is
   compared with the full training of all 16, and of 4 of them.

The table and the notes say what each method costs.
"""

from functools import partial

from experiments import runner
from experiments.studies.quickstart import network
from experiments.studies.quickstart.costs import costs_of
from experiments.studies.quickstart.figure import draw
from experiments.studies.quickstart.pruning import PruningComparison, compare
from experiments.studies.quickstart.report import results
from experiments.studies.quickstart.settings import STARTS, Settings
from experiments.studies.quickstart.starts import METHODS, Sweeps

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every network and draws the figure."""
    starts, data = STARTS[settings.scale], network.load()
    sweeps = Sweeps(run, settings, data, starts)
    methods = METHODS[settings.scale]
    with runner.Progress(total=len(methods) * sweeps.steps) as progress:
        swept = {method: sweeps(method, progress) for method in methods}
    compared = [
        run.series(f"population {i}", PruningComparison, partial(compare, settings, data, i))
        for i in range(settings.populations)
    ]
    costs = costs_of(starts, swept, compared)
    figure = draw(starts, swept, costs)
    run.save_figure("quickstart", figure)
    if settings.picture:
        figure.savefig(settings.picture, dpi=110)
    return results(settings, starts, swept, compared, costs)
