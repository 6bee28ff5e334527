"""Chaotic series that drift: learned learning rates beside the best fixed one.

A GRU forecasts the next point of a Mackey-Glass or Lorenz series from the last 20. Each batch of
windows is tested first, and then trains the network: the prequential loss. Windows of static
series are drawn from the whole series; windows of drifting ones from a band of 500 points that
moves along the series, whose parameter changes after each third.

    static     tau = 17                    rho = 28
    drifting   tau = 17, 25, 12            rho = 28, 40, 22

SGD with each learning rate of a grid of half decades is the reference. The lowest loss of the grid
is the oracle's: no method knows the best rate before the end. Towers and self-tuning SGD start at
0.003 and 0.03. Nothing of them is chosen by these series: their settings are the library's
defaults.
"""

from functools import partial

from experiments import runner
from experiments.studies.chaotic_series.figure import draw
from experiments.studies.chaotic_series.methods import METHODS
from experiments.studies.chaotic_series.report import make_results
from experiments.studies.chaotic_series.settings import Settings
from experiments.studies.chaotic_series.streams import STREAMS
from experiments.studies.chaotic_series.training import Course, Key, train

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains networks on every stream by every method from each of its learning rates."""
    keys = [
        Key(stream, method, start)
        for method in settings.method_names
        for stream in settings.stream_names
        for start in settings.starts(method)
    ]
    courses: dict[Key, Course] = {}
    with runner.Progress(total=settings.steps * len(keys)) as progress:
        for key in keys:
            title = f"{STREAMS[key.stream].title}, {METHODS[key.method].title}"
            if key.start is not None:
                title += f" from {key.start:g}"
            courses[key] = run.series(
                title,
                Course,
                partial(train, settings, key, title, progress),
                progress=progress,
                steps=settings.steps,
            )
    run.save_figure("1_losses", draw(courses))
    return make_results(settings, courses)
