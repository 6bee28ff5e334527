"""Image classifiers trained by every method, with the cost of their tuning.

Handwritten digits, which are bundled; MNIST and CIFAR-10 with a residual network of 20 layers from
`--data-dir`. Each network is trained by grids of learning rates for Adam and SGD, constant and with
a warmup-cosine schedule; by Prodigy and Schedule-Free; by self-tuning; and by a population of
agents, pruned and not.
"""

from experiments import methods, runner
from experiments.studies.vision.recipes import Settings, recipes

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every network by every method and draws the figures."""
    found, notes = recipes(settings)
    contests = methods.run_contests(settings, run, found)
    return methods.results("Image classification: losses and the compute for them", contests, notes)
