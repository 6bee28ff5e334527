"""The report of a training run says what ran, and shows what was learned."""

import json

import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from experiments.studies.train import Settings, learned
from experiments.studies.train.report import _notes_on_average, report_title
from tests.experiments.studies.test_train import results, run_train


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "digits, Adam"),
        ({"optimizer": "nesterov"}, "digits, SGD with Nesterov momentum"),
        ({"tower": 1}, "digits, Adam with a tower of height 1"),
        ({"optimizer": "lion", "self_tuning": True}, "digits, self-tuning Lion"),
    ],
)
def test_the_title_says_what_ran(settings, expected):
    assert report_title("digits", Settings(**settings)) == expected


TOWER = jd.hypergradient(
    optax.adam,
    jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 0.2}),
    tune={"learning_rate": 0.4},
)


def over_steps(*values):
    history = [
        {"step": 10 * i, "learning_rate": value, "learning_rate_of_level_2": 0.2}
        for i, value in enumerate(values, start=1)
    ]
    return learned.learned_over_steps(TOWER, history)


def test_values_begin_with_the_initial_ones():
    rate, upper = over_steps([0.1, 0.2], [0.05, 0.8])
    assert (rate.name, upper.name) == ("learning rate", "learning rate of level 2")
    np.testing.assert_array_equal(rate.steps, [0, 10, 20])
    np.testing.assert_allclose(rate.values, [[0.4, 0.4], [0.1, 0.2], [0.05, 0.8]])
    np.testing.assert_allclose(upper.values, np.full((3, 1), 0.2))


@pytest.mark.parametrize(
    ("last", "shown"),
    [
        ([0.05, 0.8], "0.2 (0.05 to 0.8)"),  # a geometric mean
        ([0.05, 0.05], "0.05"),
        ([None, 0.5], "0.5"),
        ([None, None], "-"),
        ([-1.0, 3.0], "1 (-1 to 3)"),
    ],
)
def test_the_table_has_means_with_their_range(last, shown):
    table = learned.table(over_steps([0.1, 0.2], last))
    assert table.rows[0] == ("learning rate", "0.4", shown)


def test_few_seeds_have_a_line_each_and_many_seeds_a_mean_with_their_range():
    few = learned.draw(over_steps([0.1, 0.2]))
    assert [len(panel.lines) for panel in few.axes] == [2, 1]
    many = learned.draw(over_steps(np.linspace(0.1, 0.3, 9).tolist()))
    panel = many.axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "range over seeds",
        "geometric mean",
    ]
    band = panel.collections[0].get_datalim(panel.transData)
    assert (band.ymin, band.ymax) == (pytest.approx(0.1), pytest.approx(0.4))
    assert panel.get_yscale() == "log"


def test_records_without_a_value_leave_a_gap():
    (rate, _) = learned.learned_over_steps(TOWER, [{"step": 5}, {"step": 9, "learning_rate": [1]}])
    np.testing.assert_allclose(rate.values[:, 0], [0.4, np.nan, 1.0])
    learned.draw([rate])


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Returns flags with a table whose target is noise."""
    path = tmp_path_factory.mktemp("noise") / "noise.csv"
    rows = 100 * np.random.default_rng(0).normal(size=(60, 5))
    path.write_text("\n".join(["a,b,c,d,y", *(",".join(map(str, row)) for row in rows)]))
    return ["--data", str(path), "--target", "y", "--width", "16"]


def described(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_verdict_advises_to_stop_early_where_the_validation_loss_rose(noise, tmp_path):
    folder = run_train(tmp_path, *noise, "--learning-rate", "0.05", "--steps", "200")
    found, scores = described(folder), results(folder)
    assert scores["best_step"] <= 150
    low, high = (scores[f"validation, {which}"]["loss"][0] for which in ("best", "last"))
    rise = f"The validation loss rose later, from {low:.4g} to {high:.4g}: --patience 5 or"
    assert rise in found["verdict"]
    assert "±" not in " ".join(found["notes"])
    patient = run_train(
        tmp_path, *noise, "--learning-rate", "0.05", "--steps", "200", "--patience", "5"
    )
    assert "rose later" not in described(patient)["verdict"]
    assert results(patient)["best_step"] == scores["best_step"]


def test_a_self_tuning_run_shows_no_fixed_learning_rate_and_explains_its_peak(noise, tmp_path):
    folder = run_train(tmp_path, *noise, "--self-tuning", "--steps", "20")
    found = described(folder)
    assert found["settings"]["learning_rate"] is None
    notes = " ".join(found["notes"])
    assert "found by the range test, which makes the peak of the loss in the first" in notes
    assert "batch normalization" not in notes
    assert "batch normalization" in " ".join(_notes_on_average_of_a_resnet())


def _notes_on_average_of_a_resnet():
    statistics = nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)), nnx.BatchStat)
    return _notes_on_average(Settings(self_tuning=True), statistics)
