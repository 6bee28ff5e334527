"""One model on one data set, yours or a bundled one: a training run with all parts of the runner.

Trains any model that fits the data, with an optimizer, a tower of optimizers or a self-tuning
optimizer, for several seeds in parallel, or a population of agents that is pruned. The data is a
data set of `experiments.data`, or your own file:

    --data my.csv --target column    a table with a header; the target is text, classes or numbers
    --data my.npz                    arrays x and y, or x_train, y_train, x_test and y_test
    --data my.txt                    a text

A fifth of a table is for validation and a fifth for test. Inputs are standardized by the training
part. The validation part is evaluated after each chunk of steps. The test part is evaluated once,
at the parameters with the best validation loss. Use the trained network in Python:

    from experiments.studies.train import load_network
    network = load_network("runs/train/2026-01-31T12-00-00")
    network("new.csv")               class names, or values in the units of the target

`network.probabilities(inputs)` returns the probabilities of the classes `network.labels`. Inputs
may also be arrays in the units of your data.
"""

from experiments import runner
from experiments.studies.train.agents import train_agents
from experiments.studies.train.agents_report import agents_results
from experiments.studies.train.report import results
from experiments.studies.train.saved_network import load_network
from experiments.studies.train.settings import Settings
from experiments.studies.train.training import check, check_devices, train

__all__ = ["Settings", "check", "check_devices", "load_network", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains, evaluates and draws the losses."""
    if settings.agents:
        return agents_results(settings, run, train_agents(settings, run))
    return results(settings, run, train(settings, run))
