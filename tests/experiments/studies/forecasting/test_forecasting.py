"""The study of forecasting runs end to end and says first if anything beats the naive forecast."""

import json

import numpy as np
import pytest

from experiments.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["forecasting", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "forecasting").iterdir()
    return folder


def test_every_method_is_scored_on_every_horizon_and_fold(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    scores = found["results"]["scores"]
    for loss, count in (("squared error", 4), ("quantiles", 2), ("Gaussian", 2)):
        of_loss = [each for each in scores if each["loss"] == loss]
        assert len(of_loss) >= 2 * count
        for each in of_loss:
            assert len(each["by_fold"]) == 2
            assert np.isfinite(each["mean"])
    assert found["results"]["leak comparisons"] > 10_000
    assert found["verdict"].startswith(("Nothing beats the naive forecast", "By squared error, "))
