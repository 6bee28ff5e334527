"""One model on one data set: a plain training run that uses every part of the runner.

Trains any model that fits the data, with an optimizer or a tower of optimizers, for several seeds
in parallel. The data is a data set of `experiments.data` or a text file. The validation part is
evaluated after each chunk of steps. The test part is evaluated once, at the parameters with the
best validation loss.
"""

from experiments import runner
from experiments.studies.train.report import results
from experiments.studies.train.settings import Settings
from experiments.studies.train.training import check, train

__all__ = ["Settings", "check", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains, evaluates and draws the losses."""
    return results(settings, run, train(settings, run))
