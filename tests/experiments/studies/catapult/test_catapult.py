"""The catapult study runs end to end and agrees with the prediction."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.catapult.report import rows_near_limit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["catapult", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "catapult").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_table_has_every_setting_and_the_figure_is_a_png_file(folder):
    rows = description(folder)["table"]["rows"]
    assert [row[0] for row in rows[:8]] == ["constant rate"] * 5 + ["catapult warmup"] * 3
    assert {row[0] for row in rows[8:]} == {"ReLU network"}
    assert (folder / "catapult.png").read_bytes().startswith(b"\x89PNG")


def test_sharpness_stays_below_2_and_decreases_between_2_and_4(folder):
    results = description(folder)["results"]

    def ratio(name):
        return np.divide(results[name]["final_sharpness"], results[name]["initial_sharpness"])

    assert all(results["constant 1.5"]["converged"])
    np.testing.assert_allclose(ratio("constant 1.5"), 1, rtol=0.05)
    assert all(results["constant 2.2"]["converged"])
    assert np.all(ratio("constant 2.2") < 0.95)
    assert not any(results["constant 4.5"]["converged"])


def test_the_warmup_starts_at_2_over_the_sharpness(folder):
    results = description(folder)["results"]["warmup 3.8"]
    start = np.multiply(results["warmup_starts"], results["initial_sharpness"])
    np.testing.assert_allclose(start, 2, rtol=0.05)


def test_the_table_shows_the_multiples_near_the_limit():
    every, some, none = [True, True], [True, False], [False, False]
    assert rows_near_limit(np.array([every, every, some, none, none])) == [1, 2, 3]
    assert rows_near_limit(np.array([every, some, every, none])) == [0, 2, 3]
    single = np.array([every])
    assert rows_near_limit(single) == [0]
    assert rows_near_limit(~single) == [0]
