"""From Cauchy to now: fourteen methods on the same landscapes and one real network.

Methods with a learning rate are shown at their best one of a grid, chosen for each landscape.
Towers, self-tuning, MAGD and the hybrid have one setting for all. A gradient counts as one
evaluation, and each agent's gradients count.
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.history.animation import animation_html
from experiments.studies.history.descent import Path, paths
from experiments.studies.history.figures import draw_network, draw_paths, draw_values
from experiments.studies.history.landscapes import Landscape, make_landscapes
from experiments.studies.history.methods import METHODS
from experiments.studies.history.network import Training, train, train_population
from experiments.studies.history.report import make_results
from experiments.studies.history.searches import hybrid_path, population_path
from experiments.studies.history.settings import SETUPS, Settings, Setup

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every method and draws the figures."""
    setup, every = SETUPS[settings.scale], make_landscapes()
    chosen = {name: every[name] for name in setup.landscapes}
    trained = [name for name in setup.methods if METHODS[name].kind != "global"]
    with runner.Progress(total=len(chosen) * len(setup.methods) + len(trained)) as progress:
        found = {
            name: _paths(run, progress, settings, setup, name, each)
            for name, each in chosen.items()
        }
        trainings = {
            name: run.series(
                f"network, {METHODS[name].title}",
                Training,
                partial(_train, name, settings, setup),
                progress=progress,
                steps=1,
                loss=lambda training: training.test.mean(),
            )
            for name in trained
        }
    for number, (name, landscape) in enumerate(chosen.items(), 1):
        run.save_figure(f"{number}_{name}", draw_paths(landscape, found[name]))
    run.save_figure("8_values", draw_values(chosen, found))
    run.save_figure("9_network", draw_network(trainings))
    run.save_fragment("animation", animation_html(chosen, found, setup.budget))
    return make_results(setup, chosen, found, trainings)


def _train(name: str, settings: Settings, setup: Setup) -> Training:
    if METHODS[name].kind == "population":
        return train_population(setup, settings.seed)
    return train(name, setup, settings.seed)


def _paths(
    run: runner.Run,
    progress: runner.Progress,
    settings: Settings,
    setup: Setup,
    name: str,
    landscape: Landscape,
) -> dict[str, Path]:
    """Returns the path of each method on a landscape, in the order of the years."""
    key = jax.random.key(settings.seed)
    descending = tuple(each for each in setup.methods if METHODS[each].make)

    def descend() -> Path:
        found = paths(landscape, descending, setup.rates, setup.budget)
        return jax.tree.map(lambda *fields: np.stack(fields), *found.values())

    searches = {
        "magd": partial(population_path, landscape, key, setup.agents, setup.budget),
        "hybrid": partial(hybrid_path, landscape, key, setup.budget),
    }
    steps = len(descending)
    stacked = run.series(f"{name}, descents", Path, descend, progress=progress, steps=steps)
    found = {each: Path(*(x[i] for x in stacked)) for i, each in enumerate(descending)}
    for each, search in searches.items():
        if each in setup.methods:
            title = f"{name}, {METHODS[each].title}"
            found[each] = run.series(title, Path, search, progress=progress, steps=1)
    return {each: found[each] for each in setup.methods}
