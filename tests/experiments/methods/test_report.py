"""The tables and pictures of methods, also where some of them diverged."""

import dataclasses

import numpy as np
import pytest

from experiments import methods, tasks
from experiments.methods import figures
from experiments.methods.contest import Contest
from experiments.methods.outcome import Trained
from experiments.methods.report import table, verdict
from tests.experiments.methods.test_outcome import outcome


@pytest.fixture(scope="module")
def contest():
    task = tasks.load("digits", tasks.ModelConfig("mlp"))
    recipe = methods.Recipe(title="digits", task=task, steps=30, batch_size=8, evaluations=3)
    good = outcome([3.0, 1.0, 2.0], [0.3, 0.1, 0.2], flops=(1e9, 2e9, 3e9))
    better = outcome([3.0, 0.5, 2.0], [0.3, 0.2, 0.2], flops=(1e9, 2e9, 3e9))
    diverged = outcome([np.nan] * 3, [np.nan] * 3, flops=(1e9, 2e9, 3e9))
    trained = {
        "adam": {"0.001": diverged, "0.01": good, "0.1": diverged},
        "prodigy": {"": diverged},
        "schedule_free": {"": diverged},
        "self_tuning": {"": better},
        "agents": {"": good},
        "agents_unpruned": {"": better},
    }
    scores = {"accuracy": np.array([50.0])}
    for outcomes in trained.values():
        outcomes |= {rate: each._replace(scores=scores) for rate, each in outcomes.items()}
    return Contest(recipe, {name: Trained(name, each) for name, each in trained.items()})


def test_a_table_has_ratios_and_all_costs(contest):
    found = table(contest)
    rows = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    assert rows["adam"]["learning rate"] == "0.01"
    assert rows["adam"]["test loss"] == "0.1000"
    assert rows["adam"]["GFLOP"] == "9"
    assert rows["adam"]["trainings"] == "3"
    assert rows["adam"]["J"] == "6 (3 to 9)"
    assert rows["self_tuning"]["loss / best grid"] == "2.000"
    assert rows["prodigy"]["test loss"] == "diverged"
    assert rows["prodigy"]["loss / best grid"] == "-"
    assert rows["agents"]["trainings"] == "16"


def test_the_verdict_has_the_ratios_of_losses_and_of_flops(contest):
    assert verdict([contest]) == (
        "digits: self-tuning Adam has 2.000 times the test loss of the best grid (adam), at 0.333 "
        "of its FLOPs and 0.333 of all grids'; pruned agents have 0.500 times the test loss of "
        "unpruned ones, at 1.000 of their FLOPs."
    )


def test_pictures_show_the_finite_losses_if_half_of_the_methods_diverged(contest):
    most = dataclasses.replace(contest.recipe, title="others")
    diverged = contest.trained["prodigy"]
    names = ("adam", "sgd", "prodigy", "schedule_free")
    others = Contest(
        most, {**dict.fromkeys(names, diverged), "self_tuning": contest.trained["adam"]}
    )
    for draw in (figures.draw_compute, figures.draw_steps):
        first, second = draw([contest, others]).axes
        for panel in (first, second):
            low, high = panel.get_ylim()
            assert 0.09 < low < 0.1 < 0.3 < high < 0.4
    everything = Contest(most, dict.fromkeys(names, diverged))
    figures.draw_compute([everything]).canvas.draw()


def test_pictures_show_losses_below_all_losses_at_the_end(contest):
    # The validation loss rises at last, so that the first evaluation is selected.
    dips = outcome([1.0, 2.0, 3.0], [0.05, 0.3, 0.4], flops=(1e9, 2e9, 3e9))
    rises = outcome([3.0, 2.0, 1.0], [0.04, 0.3, 0.4], flops=(1e9, 2e9, 3e9))
    trained = {"adam": Trained("adam", {"0.01": dips}), "sgd": Trained("sgd", {"0.01": rises})}
    for draw in (figures.draw_compute, figures.draw_steps):
        (panel,) = draw([Contest(contest.recipe, trained)]).axes
        assert panel.get_ylim()[0] < 0.04


def test_the_profile_is_the_share_within_a_ratio(contest):
    (panel,) = figures.draw_profile([contest]).axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert curves["Adam, constant"][:2] == [[1, 0], [1, 1]]
    assert curves["self-tuning Adam"][:2] == [[1, 0], [2, 1]]
    assert curves["Prodigy"] == [[1, 0], [2, 0]]
