"""Ways to get a trained network without knowing a learning rate, and the gradients they take."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies.quickstart.pruning import AGENTS, FEW, PruningComparison
from experiments.studies.quickstart.starts import Method, Sweep


class Cost(NamedTuple):
    """A way to train, its result and its cost.

    Attributes:
      name: for figures and tables.
      optimizer: a key of `starts.FACTORIES`.
      accuracies: `f64[k]`, on the test images in percent, of repetitions.
      trainings: number of gradients, relative to one training.
    """

    name: str
    optimizer: str
    accuracies: np.ndarray
    trainings: float


def costs_of(
    starts: Sequence[float],
    swept: Mapping[Method, Sweep],
    compared: Sequence[PruningComparison],
) -> list[Cost]:
    """Returns the ways to train, by ascending cost for each optimizer.

    Self-tuning starts at the least of the initial learning rates. The grid trains a network with
    each of `starts`, and takes the one with the least validation loss.
    """
    found = []
    for method, sweep in swept.items():
        if method.kind == "self-tuning":
            found.append(Cost("self-tuning", method.optimizer, sweep.accuracies[0], 1.0))
        if method.kind == "fixed":
            best = sweep.accuracies[sweep.best]
            name = f"grid of {len(starts)} rates"
            found.append(Cost(name, method.optimizer, best, float(len(starts))))
    compute = float(np.mean([each.compute for each in compared]))
    found += [
        Cost(
            f"{AGENTS} random rates, pruned",
            "Adam",
            np.array([each.pruned for each in compared]),
            compute,
        ),
        Cost(f"{FEW} random rates", "Adam", np.concatenate([each.few for each in compared]), FEW),
        Cost(f"{AGENTS} random rates", "Adam", np.array([each.full for each in compared]), AGENTS),
    ]
    return sorted(found, key=lambda cost: (cost.optimizer, cost.trainings))
