"""Selection of a method's trainings by validation, and their costs."""

import numpy as np
import pytest

from experiments.methods.contest import Contest, loss_ratios
from experiments.methods.outcome import Outcome, Trained


def outcome(validation, test, flops=(1.0, 2.0, 3.0)):
    """Returns an outcome of one seed, or of several if the losses have two axes."""
    validation, test = (np.array(x, float).reshape(len(flops), -1) for x in (validation, test))
    steps, energy = np.arange(1, len(flops) + 1), np.array([1.0, 2.0, 3.0])
    return Outcome(steps, np.array(flops), validation, test, energy, {}, {})


def test_the_evaluation_is_selected_by_validation_not_by_test():
    found = outcome(validation=[3.0, 1.0, 2.0], test=[0.1, 5.0, 0.2])
    assert found.best == 1
    assert found.losses.tolist() == [5.0]


def test_an_evaluation_with_a_diverged_network_is_not_selected():
    found = outcome(validation=[[1, 1], [0, np.nan], [2, 2]], test=[[4, 6], [0, 0], [1, 1]])
    assert found.best == 0
    assert found.losses.tolist() == [4, 6]
    everywhere = outcome(validation=[np.nan] * 3, test=[np.nan] * 3)
    assert everywhere.losses.tolist() == [np.inf]


def test_a_grid_selects_by_validation_and_pays_for_all_trainings():
    low = outcome(validation=[3.0, 3.0, 3.0], test=[0.0, 0.0, 0.0])
    high = outcome(validation=[2.0, 1.0, 9.0], test=[6.0, 7.0, 8.0], flops=(10.0, 20.0, 30.0))
    grid = Trained("grid", {"0.1": low, "1": high})
    assert grid.choice == "1"
    assert grid.loss == 7
    assert grid.flops == 33
    assert grid.joules.tolist() == [2, 4, 6]
    flops, losses = grid.curve()
    assert flops.tolist() == [11, 22, 33]
    assert losses.tolist() == [6, 7, 7]


def test_ratios_are_to_the_best_method_of_a_task_and_seed():
    first = Trained("first", {"": outcome([[1, 1]], [[2, 6]], flops=(1.0,))})
    second = Trained("second", {"": outcome([[1, 1]], [[4, 3]], flops=(1.0,))})
    recipe = None
    both = Contest(recipe, {"a": first, "b": second})
    alone = Contest(recipe, {"a": second})
    ratios = loss_ratios([both, alone])
    assert {name: each.tolist() for name, each in ratios.items()} == {"a": [1, 2], "b": [2, 1]}


def test_the_reference_is_the_grid_with_the_least_test_loss():
    constant = Trained("constant", {"1": outcome([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])})
    cosine = Trained("cosine", {"1": outcome([1.0, 1.0, 1.0], [4.0, 4.0, 4.0])})
    own = Trained("own", {"": outcome([0.0, 0.0, 0.0], [2.0, 2.0, 2.0])})
    contest = Contest(None, {"adam": constant, "adam_cosine": cosine, "self_tuning": own})
    assert contest.grid is constant
    assert contest.ratio("self_tuning") == pytest.approx(2)
    assert np.isnan(Contest(None, {"self_tuning": own}).ratio("self_tuning"))
