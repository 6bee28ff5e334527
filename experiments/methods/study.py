"""The part that studies of methods share: their settings, all trainings, and the figures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from experiments import runner
from experiments.methods import figures
from experiments.methods.contest import Contest
from experiments.methods.recipe import Recipe
from experiments.methods.registry import METHODS, MethodName, number_of_trainings, train_by_all
from experiments.methods.training import Session


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that trains by several methods."""

    may_change: ClassVar = (*runner.Settings.may_change, "methods", "data_dir")
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Methods to train by."""


def run_contests(settings: Settings, run: runner.Run, recipes: Sequence[Recipe]) -> list[Contest]:
    """Trains every recipe by the methods of the settings and saves the figures.

    Raises:
      RunError: `recipes` is empty.
    """
    contests = train_contests(settings, run, recipes)
    save_figures(run, contests)
    return contests


def train_contests(settings: Settings, run: runner.Run, recipes: Sequence[Recipe]) -> list[Contest]:
    """Trains every recipe by the methods of the settings.

    Raises:
      RunError: `recipes` is empty.
    """
    if not recipes:
        raise runner.RunError("none of the tasks has its data; give --data-dir")
    if settings.scale == "smoke":
        recipes = [recipe.for_smoke() for recipe in recipes]
    for recipe in recipes:
        run.pin(recipe.title, recipe.task.digest())
    with runner.Progress(total=sum(_steps(settings, recipe) for recipe in recipes)) as progress:
        return [
            Contest(recipe, train_by_all(Session(run, recipe, progress), settings.methods))
            for recipe in recipes
        ]


def save_figures(run: runner.Run, contests: Sequence[Contest]) -> None:
    """Saves the figures of contests, with a panel for each."""
    run.save_figure("1_compute", figures.draw_compute(contests))
    run.save_figure("2_steps", figures.draw_steps(contests))
    run.save_figure("3_profile", figures.draw_profile(contests))


def _steps(settings: Settings, recipe: Recipe) -> int:
    names = recipe.selected(settings.methods)
    trainings = sum(number_of_trainings(recipe, name) for name in names)
    return recipe.steps * (trainings + len(recipe.published))
