"""The study of forecasting runs end to end and says first if anything beats the naive forecast."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.data import DataError
from experiments.studies.forecasting import Settings, check
from experiments.studies.forecasting.evaluation import load, make_folds
from experiments.studies.forecasting.settings import SIZES
from experiments.studies.forecasting.training import METHODS
from tests.experiments.data.disk import real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["forecasting", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "forecasting").iterdir()
    return folder


def test_every_method_is_scored_on_the_same_targets(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    scores = found["results"]["scores"]
    references = {"squared error": 4, "quantiles": 2, "Gaussian": 2}
    for loss, count in references.items():
        trained = len(METHODS) if loss in SIZES["smoke"].losses else 0
        of_loss = [each for each in scores if each["loss"] == loss]
        assert len(of_loss) == 2 * (count + trained)
        assert all(np.isfinite(each["mean"]) for each in of_loss)
        assert sum(each["naive"] is None for each in of_loss) == 2
    assert found["results"]["leak comparisons"] > 10_000
    assert found["verdict"].startswith(("Nothing beats the naive forecast", "By squared error, "))
    for name in ("scores", "calibration of goog"):
        assert len([*folder.glob(f"{name.replace(' ', '_')}*.png")]) == 1


def test_the_sp500_is_read_from_the_data_folder_and_its_folds_have_no_leak():
    settings = Settings(scale="smoke", data_dir=real("sp500_daily.csv.gz"))
    assert settings.size.series == ("goog", "sp500")
    (fold,) = make_folds(load(settings, "sp500"), 1)
    assert fold.dates(2) == "2016-10-21 to 2018-08-31"
    assert fold.comparisons > 10_000


def test_a_missing_series_is_refused_before_the_run(tmp_path):
    with pytest.raises(DataError, match="sp500_daily"):
        check(Settings(scale="smoke", data_dir=tmp_path))


def test_a_series_is_named_once():
    with pytest.raises(ValueError, match="--series must name each series once, got goog goog"):
        Settings(series=("goog", "goog"))
