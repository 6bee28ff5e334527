"""Forecasting of daily prices, walk-forward, beside the naive forecast and exponential smoothing.

Bundled are Google's shares from 2004 to 2008 and a control that can be forecast; `--data-dir` adds
the S&P 500. In each of several folds everything is fitted to the earlier rows and tested on the
following ones. A check changes later rows and refuses to go on if anything that was fed before
changes. The verdict says first if anything beats the naive forecast. On the last fold, networks are
trained by every method, with the cost of their tuning.
"""

from experiments import methods, runner
from experiments.studies.forecasting.calibration import calibrations_of
from experiments.studies.forecasting.evaluation import (
    all_references,
    joined,
    load,
    losses_of,
    make_folds,
)
from experiments.studies.forecasting.figures import draw_calibration, draw_scores
from experiments.studies.forecasting.recipes import is_compared, make_recipes, network_forecasts
from experiments.studies.forecasting.report import make_results
from experiments.studies.forecasting.scores import scores_of
from experiments.studies.forecasting.settings import Settings

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises DataError if the data of a series is missing."""
    for name in settings.size.series:
        load(settings, name)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Forecasts every series."""
    size = settings.size
    folds = [make_folds(load(settings, name), size.folds) for name in size.series]
    recipes = make_recipes(settings, folds)
    trained = methods.train_contests(settings, run, list(recipes.values()))
    contests = dict(zip(recipes, trained, strict=True))
    losses, calibrations = [], []
    for of_series in folds:
        forecasts = [
            joined(
                all_references(each.series, each.fold, each.examples),
                network_forecasts(contests, each.series.name, number),
            )
            for number, each in enumerate(of_series, 1)
        ]
        losses += losses_of(of_series, forecasts)
        calibrations += calibrations_of(of_series, forecasts)
    scores = scores_of(losses)
    compared = [each for subject, each in contests.items() if is_compared(subject, size.folds)]
    methods.save_figures(run, compared)
    run.save_figure("scores", draw_scores(scores))
    for of_series in folds:
        name = of_series[0].series.name
        run.save_figure(f"calibration of {name}", draw_calibration(calibrations, name))
    return make_results(settings, folds, scores, calibrations, compared)
