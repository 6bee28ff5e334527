"""The recipes of the networks, one for each series, fold and loss, and what they forecast."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments import methods, tasks
from experiments.studies.forecasting.evaluation import Forecasts, SeriesFold
from experiments.studies.forecasting.networks import make_task, predictions
from experiments.studies.forecasting.settings import BATCH_SIZE, COMPARED, EVALUATIONS, Settings


class Subject(NamedTuple):
    """The data and the loss of a recipe.

    Attributes:
      series: the name of the series.
      fold: the number of the fold, from 1.
      loss: a key of `losses.LOSSES`.
    """

    series: str
    fold: int
    loss: str


def title_of(method: str) -> str:
    """Returns the name of a network in the tables of forecasts.

    Args:
      method: a key of `methods.METHODS`, the way to train it.

    Example:
      >>> title_of("self_tuning")
      'network, self-tuning Adam'
    """
    return f"network, {methods.METHODS[method].title}"


OTHER_NETWORKS = frozenset(map(title_of, methods.METHODS)) - {title_of("self_tuning")}


def is_joint(method: str) -> bool:
    """Returns True for references and the self-tuning network, whose intervals hold jointly.

    These are the comparisons of the verdict. The other networks show what tuning costs; with them
    in the family, every interval would be wider.

    Example:
      >>> is_joint("Holt"), is_joint(title_of("self_tuning")), is_joint(title_of("adam"))
      (True, True, False)
    """
    return method not in OTHER_NETWORKS


def make_recipes(
    settings: Settings, folds: Sequence[Sequence[SeriesFold]]
) -> dict[Subject, methods.Recipe]:
    """Returns the recipes of all networks.

    All methods train on the last fold by the squared error. On other folds, and by other losses,
    the methods of `Size.everywhere` do.

    Args:
      settings: the settings.
      folds: the folds of each series.
    """
    size, found = settings.size, {}
    for of_series in folds:
        for number, fold in enumerate(of_series, 1):
            for loss in size.losses:
                subject = Subject(fold.series.name, number, loss)
                by_all = is_compared(subject, len(of_series))
                task = make_task(fold.examples, loss, settings.model_config)
                batch_size = min(BATCH_SIZE, task.train.examples)
                found[subject] = methods.Recipe(
                    title=", ".join((subject.series, f"fold {number}", loss)),
                    task=task,
                    steps=size.epochs * (task.train.examples // batch_size),
                    batch_size=batch_size,
                    seed=settings.seed,
                    evaluations=EVALUATIONS,
                    methods=None if by_all else size.everywhere,
                    keep=partial(_keep, task),
                )
    return found


def is_compared(subject: Subject, folds: int) -> bool:
    """Returns True if all methods train the recipe: in the last fold, by the squared error."""
    return subject.fold == folds and subject.loss == COMPARED


def network_forecasts(
    contests: Mapping[Subject, methods.Contest], series: str, fold: int
) -> Forecasts:
    """Returns the forecasts of the networks of a fold on its test part.

    Args:
      contests: the results of all recipes.
      series: the name of the series.
      fold: the number of the fold, from 1.
    """
    return {
        subject.loss: {
            title_of(name): trained.selected.kept["forecasts"][0].astype(np.float64)
            for name, trained in contest.trained.items()
        }
        for subject, contest in contests.items()
        if subject[:2] == (series, fold)
    }


def _keep(task: tasks.Task, params: Any, model_state: Any) -> dict[str, np.ndarray]:
    return {"forecasts": predictions(task, params, model_state)}
