"""From Cauchy to now: fourteen methods on the same landscapes and one real network.

Methods with a learning rate are shown at their best one of a grid, chosen for each landscape.
Towers, self-tuning, MAGD and the hybrid have one setting for all. A gradient counts as one
evaluation, and each agent's gradients count.
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.history.descent import Path, paths
from experiments.studies.history.figures import draw_paths, draw_values
from experiments.studies.history.landscapes import Landscape, landscapes
from experiments.studies.history.methods import METHODS
from experiments.studies.history.report import make_results
from experiments.studies.history.searches import hybrid_path, population_path
from experiments.studies.history.settings import SETUPS, Settings, Setup

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every method and draws the figures."""
    setup, every = SETUPS[settings.scale], landscapes()
    chosen = {name: every[name] for name in setup.landscapes}
    found = {name: _paths(run, settings, setup, name, each) for name, each in chosen.items()}
    for number, (name, landscape) in enumerate(chosen.items(), 1):
        run.save_figure(f"paths {number} {name}", draw_paths(landscape, found[name]))
    run.save_figure("values", draw_values(chosen, found))
    return make_results(setup, chosen, found)


def _paths(
    run: runner.Run, settings: Settings, setup: Setup, name: str, landscape: Landscape
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
    stacked = run.series(f"{name}, descents", Path, descend)
    found = {each: Path(*(x[i] for x in stacked)) for i, each in enumerate(descending)}
    for each, search in searches.items():
        if each in setup.methods:
            found[each] = run.series(f"{name}, {METHODS[each].title}", Path, search)
    return {each: found[each] for each in setup.methods}
