"""The study of forecasting runs end to end and says first if anything beats the naive forecast."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.data import DataError, files
from experiments.methods import METHODS
from experiments.studies.forecasting import Settings, check
from experiments.studies.forecasting.evaluation import (
    SeriesFold,
    all_references,
    joined,
    load,
    losses_of,
    make_folds,
)
from experiments.studies.forecasting.examples import make_examples
from experiments.studies.forecasting.folds import walk_forward
from experiments.studies.forecasting.recipes import make_recipes, title_of
from experiments.studies.forecasting.scores import comparisons, scores_of
from experiments.studies.forecasting.settings import HORIZONS, ONCE
from tests.experiments.data.disk import real
from tests.experiments.studies.forecasting.test_folds import drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--series", "goog", "--methods", "self_tuning", "--runs", str(runs)]
    main(["forecasting", "--scale", "smoke", *flags])
    (folder,) = (runs / "forecasting").iterdir()
    return folder


def test_every_method_is_scored_on_the_same_targets(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    scores = found["results"]["scores"]
    references = {"squared error": 4, "quantiles": 2, "Gaussian": 2}
    for loss, count in references.items():
        trained = int(loss == "squared error")
        of_loss = [each for each in scores if each["loss"] == loss]
        assert len(of_loss) == 2 * (count + trained)
        assert all(np.isfinite(each["mean"]) for each in of_loss)
        assert sum(each["naive"] is None for each in of_loss) == 2
    assert found["results"]["leak comparisons"] > 10_000
    assert found["verdict"].startswith(("Nothing beats the naive forecast", "By squared error, "))
    for name in ("scores", "calibration_of_goog*", "1_compute", "2_steps", "3_profile"):
        assert len([*folder.glob(f"{name}.png")]) == 1


def test_the_last_fold_has_the_table_of_losses_and_costs(folder):
    found = json.loads((folder / "run.json").read_text())
    costs = found["results"]["methods"]["goog, fold 1, squared error"]["self_tuning"]
    assert costs["flops"] > 0
    assert np.isfinite(costs["loss"]).all()
    table = found["more_tables"][0]
    assert table["title"] == "goog, fold 1, squared error"
    assert [row[0] for row in table["rows"]] == ["self-tuning Adam"]
    assert (
        "goog, fold 1, squared error: self-tuning Adam has the least test loss"
        in (found["verdict"])
    )


def test_the_kept_forecasts_have_the_loss_of_the_selected_network(folder):
    """The framework's loss is of standardized targets, the forecasts are in units."""
    found = json.loads((folder / "run.json").read_text())
    settings = Settings(scale="smoke", series=("goog",))
    ((fold,),) = [make_folds(load(settings, "goog"), 1)]
    variances = fold.examples.dataset.target_std**2
    means = [
        each["mean"]
        for each in found["results"]["scores"]
        if each["method"] == "network, self-tuning Adam"
    ]
    costs = found["results"]["methods"]["goog, fold 1, squared error"]["self_tuning"]
    np.testing.assert_allclose((means / variances).mean(), costs["loss"], rtol=1e-4)


@pytest.fixture
def folds():
    """Two folds of a short series; the check for leaks is left out."""
    series = drawn(300)
    return [
        SeriesFold(series, fold, make_examples(series, fold), 0)
        for fold in walk_forward(300, 2, test=0.15, validation=0.15)
    ]


def test_all_methods_train_on_the_last_fold_by_the_squared_error(folds):
    recipes = make_recipes(Settings(scale="small", folds=2), [folds])
    assert len(recipes) == 2 * 3
    by_all = [subject[1:] for subject, recipe in recipes.items() if recipe.methods is None]
    assert by_all == [(2, "squared error")]
    assert all(recipe.methods == ONCE for recipe in recipes.values() if recipe.methods)
    everywhere = make_recipes(Settings(scale="full", folds=2), [folds])
    assert all(recipe.methods is None for recipe in everywhere.values())


def test_a_method_is_scored_on_the_folds_in_which_it_is_trained(folds):
    """The family of the joint intervals has the references and the self-tuning network only."""
    references = [all_references(each.series, each.fold, each.examples) for each in folds]
    own = {title_of(name): folds[1].targets / 2 for name in METHODS}  # a skill of 3/4
    forecasts = [references[0], joined(references[1], {"squared error": own})]
    found = losses_of(folds, forecasts)
    scores = [each for each in scores_of(found) if each.method == title_of("adam")]
    assert len(scores) == len(HORIZONS)
    for each in scores:
        assert each.by_fold[0] is None
        assert each.by_fold[1] == each.naive
        assert each.naive.value == pytest.approx(0.75)
    assert comparisons(found, "squared error") == (3 + 1) * len(HORIZONS)
    assert comparisons(found, "quantiles") == len(HORIZONS)


def test_the_sp500_is_read_from_the_data_folder_and_its_folds_have_no_leak():
    settings = Settings(scale="smoke", data_dir=real("sp500_daily.csv.gz"))
    assert settings.size.series == ("goog", "sp500")
    (fold,) = make_folds(load(settings, "sp500"), 1)
    assert fold.dates(2) == "2016-10-21 to 2018-08-31"
    assert fold.comparisons > 10_000


def test_the_folder_may_be_given_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    assert Settings().size.series == ("goog", "control")
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    assert Settings().size.series == ("goog", "control", "sp500")


def test_a_missing_series_is_refused_before_the_run(tmp_path):
    with pytest.raises(DataError, match="sp500_daily"):
        check(Settings(scale="smoke", data_dir=tmp_path))


def test_a_series_is_named_once():
    with pytest.raises(ValueError, match="--series must name each series once, got goog goog"):
        Settings(series=("goog", "goog"))
