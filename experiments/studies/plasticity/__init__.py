"""Permuted images: which methods keep a network able to learn new tasks.

A network learns one task after another, in one pass over each. All tasks have the same images,
with another permutation of the pixels. In the abrupt variant the permutation changes between
tasks; in the gradual one the pixels change one by one during each task. The online accuracy is
measured on each batch before it trains the network. A network that loses plasticity reaches less
in later tasks than in the first.

The setting is the permuted MNIST of S. Kumar et al. 2023, arXiv:2308.11958: 500 permutations of
10,000 images, batches of 16, a network of 100 and 100 hidden units (--data mnist).
"""

from functools import partial

from experiments import runner
from experiments.studies.plasticity.figure import draw
from experiments.studies.plasticity.methods import METHODS, MethodName
from experiments.studies.plasticity.report import make_results
from experiments.studies.plasticity.settings import Change, Settings
from experiments.studies.plasticity.tasks import load
from experiments.studies.plasticity.training import Course, train

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises an error of one line if the images are missing."""
    load(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains a network on all tasks by every method and in every variant."""
    images = load(settings)
    names = [(change, method) for method in settings.methods for change in settings.changes]
    steps = settings.num_tasks * (len(images.labels) // settings.batch_size)
    courses: dict[tuple[Change, MethodName], Course] = {}
    with runner.Progress(total=steps * len(names)) as progress:
        for change, method in names:
            title = f"{METHODS[method].title}, {change}"
            courses[change, method] = run.series(
                title,
                Course,
                partial(train, settings, images, change, method, title, progress),
                progress=progress,
                steps=steps,
            )
    run.save_figure("1_accuracy", draw(courses))
    return make_results(settings, images, courses)
